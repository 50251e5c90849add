"""What this tool has on EC2, whichever run made it: for `snakemake-ec2 ps` and `gc`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from snakemake_executor_ec2.aws.clients import Clients
from snakemake_executor_ec2.aws.errors import AWS_ERRORS, code_of, translate
from snakemake_executor_ec2.aws.terminate import Terminator
from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.model import MachineState, Market
from snakemake_executor_ec2.tags import EXPIRES_TAG, FOLDER_TAG, OWNER_TAG, RULE_TAG, RUN_TAG
from snakemake_executor_ec2.timing import Backoff, SystemClock

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

_PAGE = 1000
_IN_USE = ("DependencyViolation", "InvalidGroup.InUse")
GROUP_S = 120.0
"""How long the network interfaces of machines that are ending may hold on to their group."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A machine that carries our tags."""

    id: str
    state: MachineState
    instance_type: str
    zone: str
    market: Market
    launched_at: float
    address: str
    """The public one; if it has none, the private one."""
    run: str
    rule: str
    owner: str
    expires_at: float | None
    """When its lifetime is over, in seconds since the epoch; None if the tag says nothing."""
    private_address: str = ""
    folder: str = ""
    """`host:/path` of the workflow that it works for (see `whereabouts.Whereabouts.tag`)."""


class Inventory:
    """Everything with our tags in one region of one account. Made without any I/O."""

    def __init__(
        self, *, region: str | None = None, profile: str | None = None, clients: Clients | None = None
    ) -> None:
        """`clients`, if there are some already, instead of new ones."""
        self._clients = clients or Clients(region=region, profile=profile)
        self._clock = SystemClock()
        self._terminator = Terminator(self._clients, run_id="", clock=self._clock, warn=_silently)

    @property
    def region(self) -> str:
        return self._clients.region

    @property
    def endpoint(self) -> str:
        """The URL of the EC2 that answers."""
        return self._clients.ec2.meta.endpoint_url

    def machines(self) -> list[Found]:
        """The machines that are not terminated, oldest first. Raises CloudError, as `groups` does."""
        filters: Sequence[Any] = [{"Name": "tag-key", "Values": [RUN_TAG]}]
        try:
            pages = self._clients.ec2.get_paginator("describe_instances").paginate(
                Filters=filters, PaginationConfig={"PageSize": _PAGE}
            )
            rows = [
                _found(row) for page in pages for group in page["Reservations"] for row in group["Instances"]
            ]
        except AWS_ERRORS as error:
            raise translate(error, "ec2:DescribeInstances") from error
        alive = [
            row for row in rows if row.state not in (MachineState.TERMINATED, MachineState.SHUTTING_DOWN)
        ]
        return sorted(alive, key=lambda row: row.launched_at)

    def groups(self) -> dict[str, str]:
        """Our security groups: id → run."""
        filters: Sequence[Any] = [{"Name": "tag-key", "Values": [RUN_TAG]}]
        try:
            pages = self._clients.ec2.get_paginator("describe_security_groups").paginate(Filters=filters)
            rows = [row for page in pages for row in page["SecurityGroups"]]
        except AWS_ERRORS as error:
            raise translate(error, "ec2:DescribeSecurityGroups") from error
        return {row["GroupId"]: _tags(row.get("Tags", ())).get(RUN_TAG, "") for row in rows}

    def end(self, machine_ids: Collection[str]) -> dict[str, Ec2ExecutorError]:
        """End machines, each whatever becomes of the others; those that could not be ended, and why."""
        return self._terminator.end(machine_ids)

    def reboot(self, machine_id: str) -> None:
        """Restart a machine, also one that has crashed: its disk stays as it is. Raises CloudError."""
        try:
            self._clients.ec2.reboot_instances(InstanceIds=[machine_id])
        except AWS_ERRORS as error:
            raise translate(error, "ec2:RebootInstances") from error

    def delete_groups(self, run_ids: Collection[str]) -> dict[str, str]:
        """Remove the security groups of runs whose machines are ending: id → run of those that are
        gone. Waits, for a while, until the machines have let go of them. Raises CloudError."""
        wanted = {group: run for group, run in self.groups().items() if run in run_ids}
        left = dict(wanted)
        patience = Backoff(self._clock, total_s=GROUP_S, first_s=1.0, most_s=5.0)
        while left:
            left = {group: run for group, run in left.items() if not self.delete_group(group)}
            if left and not patience.pause():
                break
        return {group: run for group, run in wanted.items() if group not in left}

    def delete_group(self, group_id: str) -> bool:
        """Remove a security group; False if a machine still uses it."""
        try:
            self._clients.ec2.delete_security_group(GroupId=group_id)
        except AWS_ERRORS as error:
            if code_of(error) in _IN_USE:
                return False
            raise translate(error, "ec2:DeleteSecurityGroup") from error
        return True


def _silently(_: str) -> None:
    """What cannot be ended is in the answer."""


def _found(row: InstanceTypeDef) -> Found:
    tags = _tags(row.get("Tags", ()))
    return Found(
        id=row["InstanceId"],
        state=MachineState(row["State"]["Name"]),
        instance_type=row["InstanceType"],
        zone=row.get("Placement", {}).get("AvailabilityZone", ""),
        market=Market.SPOT if row.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND,
        launched_at=row["LaunchTime"].timestamp(),
        address=row.get("PublicIpAddress") or row.get("PrivateIpAddress") or "",
        private_address=row.get("PrivateIpAddress", ""),
        run=tags.get(RUN_TAG, ""),
        rule=tags.get(RULE_TAG, ""),
        owner=tags.get(OWNER_TAG, ""),
        expires_at=_time(tags.get(EXPIRES_TAG, "")),
        folder=tags.get(FOLDER_TAG, ""),
    )


def _tags(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {str(row.get("Key", "")): str(row.get("Value", "")) for row in rows}


def _time(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
