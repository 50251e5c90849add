"""Starting machines: exactly one for each spec, whatever becomes of the answer.

Specs that come together and are alike share a call (see `together.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from snakemake_executor_ec2 import threads
from snakemake_executor_ec2.aws.errors import AWS_ERRORS, AwsError, code_of, is_transient, translate
from snakemake_executor_ec2.aws.network import Caller, Subnet
from snakemake_executor_ec2.aws.security_group import SETTLE_S, SecurityGroup
from snakemake_executor_ec2.aws.statuses import describe_run
from snakemake_executor_ec2.aws.together import NO_ADDRESSES, Together, token_of
from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import CapacityError, CredentialsExpired, LaunchError, ThrottledError
from snakemake_executor_ec2.model import BASE_IOPS, BASE_MBPS, LaunchSpec, Machine, MachineState, Market
from snakemake_executor_ec2.ports import Clock
from snakemake_executor_ec2.timing import LAUNCHES_AT_ONCE, LAUNCHES_PER_S, Backoff, RateLimiter

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

    from snakemake_executor_ec2.aws.clients import Clients

RETRY_S = 20.0
"""How long a throttled or unanswered call is repeated before it fails, and how long EC2 is asked to show
machines that it says it has launched."""
SHOWN_S = 120.0
"""After so long, EC2 shows what a call has launched that was not answered."""

_ACTION = "ec2:RunInstances"
_OTHER_PARAMETERS, _HAS_ENDED = "IdempotentParameterMismatch", "IdempotentInstanceTerminated"
"""What EC2 says of a token that has launched machines: in another subnet of the zone, by a call whose answer
was lost; or machines that have ended since."""
_ALIVE = (MachineState.PENDING, MachineState.RUNNING, MachineState.STOPPING, MachineState.STOPPED)
_NOT_YET_KNOWN = frozenset(
    {"InvalidGroup.NotFound", "InvalidGroupId.NotFound", "InvalidParameterValue", "InvalidSubnetID.NotFound"}
)
"""What EC2 may say of a network that was made a moment ago."""


def run_instances_request(
    *specs: LaunchSpec, subnet_id: str, group_id: str, public_address: bool
) -> dict[str, Any]:
    """Keyword arguments for boto3's `run_instances`: a machine for each of some specs that are alike.

    The machine ends when it powers off, its volumes end with it and are encrypted, its metadata service
    wants a session token, and everything that the call makes carries our tags from its first moment.
    """
    spec = specs[0]
    tags = [{"Key": key, "Value": value} for key, value in sorted(spec.tags.items())]
    request: dict[str, Any] = {
        "ClientToken": token_of(specs),
        "MinCount": 1,
        "MaxCount": len(specs),
        "ImageId": spec.image.ami,
        "InstanceType": spec.offer.instance_type.name,
        "UserData": spec.user_data,
        # EC2's own default is "stop", which keeps a volume and a bill.
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": _METADATA_OPTIONS,
        "BlockDeviceMappings": _volumes(spec),
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": subnet_id,
                "Groups": [group_id],
                "AssociatePublicIpAddress": public_address,
                "DeleteOnTermination": True,
            }
        ],
        "TagSpecifications": [
            {"ResourceType": what, "Tags": tags} for what in ("instance", "volume", "network-interface")
        ],
    }
    if spec.instance_profile:
        kind = "Arn" if spec.instance_profile.startswith("arn:") else "Name"
        request["IamInstanceProfile"] = {kind: spec.instance_profile}
    if spec.offer.instance_type.burstable:
        # The default of T3 and T4g is "unlimited", which bills surplus credits.
        request["CreditSpecification"] = {"CpuCredits": "standard"}
    if spec.offer.market is Market.SPOT:
        request["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": _SPOT_OPTIONS}
    return request


_METADATA_OPTIONS = {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1}
_SPOT_OPTIONS = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}


def _volumes(spec: LaunchSpec) -> list[dict[str, Any]]:
    """All of them end with the machine, those that its image brings as well."""
    always = {"Encrypted": True, "DeleteOnTermination": True}
    root = {"VolumeType": "gp3", "VolumeSize": spec.disk_gib, **always}
    if spec.disk_mbps > BASE_MBPS:
        root["Throughput"] = spec.disk_mbps
    if spec.disk_iops > BASE_IOPS:
        root["Iops"] = spec.disk_iops
    return [
        {"DeviceName": spec.image.root_device, "Ebs": root},
        *({"DeviceName": name, "Ebs": dict(always)} for name in spec.image.other_devices),
    ]


class Launcher:
    """Threads may share it; together they keep EC2's pace."""

    def __init__(
        self,
        clients: Clients,
        *,
        run_id: str,
        group: SecurityGroup,
        caller: Caller,
        clock: Clock,
        public_ip: bool = True,
        end: Callable[[Sequence[str]], object] = lambda _: None,
    ) -> None:
        """`public_ip`: machines get public addresses in public subnets. `end` terminates machines that
        nobody takes."""
        self._clients = clients
        self._run_id = run_id
        self._group = group
        self._caller = caller
        self._clock = clock
        self._public_ip = public_ip
        self._pace = RateLimiter(LAUNCHES_PER_S, clock, at_once=LAUNCHES_AT_ONCE)
        self._end = end
        self._together = Together(self._pace, clock, end, self._end_unanswered)

    def launch(
        self, spec: LaunchSpec, subnets: Sequence[Subnet], cancel: CancelToken | None = None
    ) -> Machine:
        """Start one machine in a zone's subnets, the first that has addresses left.

        The same token is used for each: EC2 binds it to what succeeded. Raises LaunchError.
        """
        if not subnets:
            raise LaunchError(f"there is no subnet in {spec.zone}; --ec2-subnets names others")
        group_id = self._group.ensure(subnets[0].vpc_id, self._caller.networks)

        def ask(specs: Sequence[LaunchSpec]) -> list[Machine]:
            return self._launch_in(subnets, specs, group_id)

        return self._together.launch(spec, ask, cancel)

    def give_up(self, spec: LaunchSpec) -> None:
        """Nobody asks for this machine again: if there is one that nobody has taken, it is ended."""
        self._together.give_up(spec.token)

    def _launch_in(
        self, subnets: Sequence[Subnet], specs: Sequence[LaunchSpec], group_id: str
    ) -> list[Machine]:
        for subnet in subnets[:-1]:
            try:
                return self._launch(specs, subnet, group_id)
            except CapacityError as error:
                if error.code != NO_ADDRESSES:
                    raise
            self._pace.wait()
        return self._launch(specs, subnets[-1], group_id)

    def _launch(self, specs: Sequence[LaunchSpec], subnet: Subnet, group_id: str) -> list[Machine]:
        """One call, whose turn has come, and its repetitions: at least one machine."""
        request = run_instances_request(
            *specs, subnet_id=subnet.id, group_id=group_id, public_address=subnet.public and self._public_ip
        )
        patience = Backoff(self._clock, total_s=RETRY_S)
        settling = Backoff(self._clock, total_s=SETTLE_S)
        unanswered = False
        while True:
            try:
                answer = self._clients.ec2_once.run_instances(**request)
            except AWS_ERRORS as error:
                code = code_of(error)
                if code in (_OTHER_PARAMETERS, _HAS_ENDED):
                    return self._machines(specs[0], self._launched_before(specs, error))
                again = code in _NOT_YET_KNOWN and self._group.is_fresh and settling.pause()
                # No answer does not mean no machine: the same token finds it.
                unanswered = unanswered or is_transient(error)
                if not again and not (is_transient(error) and patience.pause()):
                    failure = translate(error, _ACTION)
                    if unanswered and not isinstance(failure, (ThrottledError, CredentialsExpired)):
                        # After these, the caller asks again or gives up; after others, for another machine.
                        end = partial(self._end_unanswered, request["ClientToken"])
                        threads.start_or_run(end, "not answered")
                    raise failure from error
            else:
                return self._machines(specs[0], answer["Instances"])
            self._pace.wait()

    def _launched_before(self, specs: Sequence[LaunchSpec], said: AwsError) -> list[InstanceTypeDef]:
        """The machines that EC2 says it has launched for this token, also those that have ended: who gets one
        of these hears of its end. EC2 shows them after a moment."""
        patience = Backoff(self._clock, total_s=RETRY_S)
        while True:
            try:
                rows = self._by_token(token_of(specs))
            except AWS_ERRORS as error:
                raise translate(error, "ec2:DescribeInstances") from error
            # Fewer than were asked for may have been launched, but those there are have numbers in a row.
            in_a_row = {row.get("AmiLaunchIndex", 0) for row in rows} == {*range(len(rows))}
            if len(rows) < len(specs) and patience.pause():
                continue
            if rows and in_a_row:
                return rows
            if code_of(said) == _HAS_ENDED and not rows:
                raise CapacityError("the machine that EC2 launched has ended already", code=_HAS_ENDED)
            raise ThrottledError(
                "EC2 has launched a machine by a call that it did not answer, and does not show it yet",
                code=code_of(said),
            )

    def _by_token(self, token: str, states: tuple[MachineState, ...] = ()) -> list[InstanceTypeDef]:
        rows = describe_run(self._clients.ec2, self._run_id, states)
        return [row for row in rows if row.get("ClientToken") == token]

    def _end_unanswered(self, token: str) -> None:
        """End what a call has launched that EC2 did not answer, and that nobody makes again. What is not
        shown in time ends with the run."""
        patience = Backoff(self._clock, total_s=SHOWN_S)
        while True:
            with suppress(*AWS_ERRORS):
                if rows := self._by_token(token, _ALIVE):
                    self._end([row["InstanceId"] for row in rows])
                    return
            if not patience.pause():
                return

    def _machines(self, spec: LaunchSpec, rows: Sequence[InstanceTypeDef]) -> list[Machine]:
        """What a call has launched, in the order that every answer to it gives."""
        launched_at = self._clock.now()
        return [
            Machine(
                id=row["InstanceId"],
                instance_type=row["InstanceType"],
                zone=row.get("Placement", {}).get("AvailabilityZone", spec.zone),
                market=spec.offer.market,
                price=spec.offer.price,
                on_demand=spec.offer.on_demand,
                disk_gib=spec.disk_gib,
                disk_mbps=spec.disk_mbps,
                disk_iops=spec.disk_iops,
                launched_at=launched_at,
            )
            for row in sorted(rows, key=lambda row: (row.get("AmiLaunchIndex", 0), row["InstanceId"]))
        ]
