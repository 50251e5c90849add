"""The run's security group: one, made at the first launch, open to the caller only, and to the machines in it
if they pass on files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from snakemake_executor_ec2.aws.errors import AWS_ERRORS, code_of, is_denied, is_transient, translate
from snakemake_executor_ec2.ports import Clock
from snakemake_executor_ec2.tags import RUN_TAG
from snakemake_executor_ec2.timing import Backoff

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import IpPermissionTypeDef, TagTypeDef

    from snakemake_executor_ec2.aws.clients import Clients

SETTLE_S = 30.0
"""For this long after a group was made, other EC2 calls may not know it yet."""

_DELETE_S = 120.0
"""A group can be deleted once the network interfaces of its last machine are gone."""
_IN_USE_CODES = frozenset({"DependencyViolation", "InvalidGroup.InUse"})
_UNKNOWN_CODES = frozenset({"InvalidGroup.NotFound", "InvalidGroupId.NotFound"})


class SecurityGroup:
    """Threads may share it. `warn` reports what could not be tidied up."""

    def __init__(
        self, clients: Clients, *, run_id: str, ssh_port: int, clock: Clock, warn: Callable[[str], None]
    ) -> None:
        self._clients = clients
        self._run_id = run_id
        self._ssh_port = ssh_port
        self._clock = clock
        self._warn = warn
        self._lock = threading.Lock()
        self._id: str | None = None
        self._made_at = 0.0
        self._open_to: set[str] = set()

    @property
    def exists(self) -> bool:
        """True between the first launch and `delete`."""
        return self._id is not None

    @property
    def is_fresh(self) -> bool:
        """True while EC2 may still say that there is no such group."""
        return self._id is not None and self._clock.monotonic() - self._made_at < SETTLE_S

    def ensure(self, vpc_id: str, networks: Callable[[], Sequence[str]]) -> str:
        """The group's id; if there is none yet, one is made and opened to `networks()`."""
        with self._lock:
            if self._id is None:
                sources = networks()  # first: nothing is made where the caller's address is unknown
                self._id = self._create(vpc_id)
                self._made_at = self._clock.monotonic()
                self._open(sources)
            elif not self._open_to:
                self._open(networks())  # a first attempt stopped between the two calls
            return self._id

    def take_over(self) -> None:
        """Look after the group that an earlier process of the same run made, if it is still there."""
        filters = [{"Name": f"tag:{RUN_TAG}", "Values": [self._run_id]}]
        with self._lock:
            try:
                found = self._clients.ec2.describe_security_groups(Filters=filters)["SecurityGroups"]  # type: ignore[arg-type]
            except AWS_ERRORS as error:
                raise translate(error, "ec2:DescribeSecurityGroups") from error
            self._id = found[0]["GroupId"] if found else None

    def allow(self, networks: Sequence[str]) -> None:
        """Open it to more networks. Does nothing before the first launch."""
        with self._lock:
            if self._id is not None:
                self._open(networks)

    def allow_itself(self) -> None:
        """Open the ssh port to the machines that are in it. Does nothing before the first launch."""
        with self._lock:
            if self._id is not None:
                self._authorize(self._id, _rule_for_itself(self._ssh_port, self._id))

    def delete(self) -> bool:
        """Remove it; warns if EC2 refuses, raises no error of AWS. False if a later try may succeed: the
        network interfaces of large machines take their time."""
        with self._lock:
            if self._id is None:
                return True
            group_id, self._id = self._id, None
            self._open_to.clear()
        patience = Backoff(self._clock, total_s=_DELETE_S, first_s=1.0, most_s=5.0)
        while True:
            try:
                self._clients.ec2.delete_security_group(GroupId=group_id)
            except AWS_ERRORS as error:
                if code_of(error) in _UNKNOWN_CODES or (is_denied(error) and self._is_gone(group_id)):
                    return True
                waiting = code_of(error) in _IN_USE_CODES or is_transient(error)
                if waiting and patience.pause():
                    continue
                self._warn(
                    f"the security group {group_id} ({self._name}) could not be deleted; it costs nothing: "
                    f"{translate(error, 'ec2:DeleteSecurityGroup')}"
                )
                if waiting:
                    with self._lock:
                        self._id = group_id
                return not waiting
            return True

    @property
    def _name(self) -> str:
        return f"snakemake-ec2-{self._run_id}"

    def _create(self, vpc_id: str) -> str:
        tags: list[TagTypeDef] = [
            {"Key": "Name", "Value": self._name},
            {"Key": RUN_TAG, "Value": self._run_id},
        ]
        try:
            made = self._clients.ec2.create_security_group(
                GroupName=self._name,
                Description="Snakemake: ssh for the run of a workflow",
                VpcId=vpc_id,
                TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
            )
        except ClientError as error:
            if code_of(error) == "InvalidGroup.Duplicate":
                # A call whose answer was lost has made it: the name is this run's alone.
                return self._find(vpc_id)
            raise translate(error, "ec2:CreateSecurityGroup") from error
        except AWS_ERRORS as error:
            raise translate(error, "ec2:CreateSecurityGroup") from error
        return made["GroupId"]

    def _find(self, vpc_id: str) -> str:
        filters = {"group-name": self._name, "vpc-id": vpc_id}
        try:
            found = self._clients.ec2.describe_security_groups(
                Filters=[{"Name": name, "Values": [value]} for name, value in filters.items()]
            )["SecurityGroups"]
        except AWS_ERRORS as error:
            raise translate(error, "ec2:DescribeSecurityGroups") from error
        return found[0]["GroupId"]

    def _is_gone(self, group_id: str) -> bool:
        """True if EC2 says that there is no such group. A policy that lets one remove groups with our tag
        lets nobody remove one that is gone, and has no tag any more."""
        try:
            self._clients.ec2.describe_security_groups(GroupIds=[group_id])
        except AWS_ERRORS as error:
            return code_of(error) in _UNKNOWN_CODES
        return False

    def _open(self, networks: Sequence[str]) -> None:
        assert self._id is not None
        for network in networks:
            if network not in self._open_to:
                self._authorize(self._id, _rule(self._ssh_port, network))
                self._open_to.add(network)

    def _authorize(self, group_id: str, rule: IpPermissionTypeDef) -> None:
        patience = Backoff(self._clock, total_s=SETTLE_S)
        while True:
            try:
                self._clients.ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[rule])
            except AWS_ERRORS as error:
                code = code_of(error)
                if code == "InvalidPermission.Duplicate":
                    return
                if (code in _UNKNOWN_CODES or is_transient(error)) and patience.pause():
                    continue
                raise translate(error, "ec2:AuthorizeSecurityGroupIngress") from error
            return


def _rule(port: int, network: str) -> IpPermissionTypeDef:
    said = "ssh for the run of a workflow"
    if ":" in network:
        return {
            "IpProtocol": "tcp",
            "FromPort": port,
            "ToPort": port,
            "Ipv6Ranges": [{"CidrIpv6": network, "Description": said}],
        }
    return {
        "IpProtocol": "tcp",
        "FromPort": port,
        "ToPort": port,
        "IpRanges": [{"CidrIp": network, "Description": said}],
    }


def _rule_for_itself(port: int, group_id: str) -> IpPermissionTypeDef:
    return {
        "IpProtocol": "tcp",
        "FromPort": port,
        "ToPort": port,
        "UserIdGroupPairs": [{"GroupId": group_id, "Description": "machines of the run, for large files"}],
    }
