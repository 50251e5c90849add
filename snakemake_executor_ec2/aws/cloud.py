"""`Ec2Cloud`: the port `Cloud`, over boto3. What it does is in the modules beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from botocore.exceptions import ClientError

from snakemake_executor_ec2.aws.baked import Ec2Images
from snakemake_executor_ec2.aws.cache import DiskCache
from snakemake_executor_ec2.aws.clients import Clients
from snakemake_executor_ec2.aws.errors import AWS_ERRORS, AwsError, is_denied, is_transient, translate
from snakemake_executor_ec2.aws.health import HealthBoard
from snakemake_executor_ec2.aws.network import Caller, is_internal, networks_beside, public_address
from snakemake_executor_ec2.aws.region import Region
from snakemake_executor_ec2.aws.run_instances import Launcher
from snakemake_executor_ec2.aws.security_group import SecurityGroup
from snakemake_executor_ec2.aws.statuses import StatusBoard, describe_run
from snakemake_executor_ec2.aws.terminate import Terminator
from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import ConfigurationError, CredentialsExpired
from snakemake_executor_ec2.model import (
    Arch,
    Image,
    InstanceType,
    LaunchSpec,
    Machine,
    MachineState,
    MachineStatus,
    Market,
    Price,
)
from snakemake_executor_ec2.ports import Clock
from snakemake_executor_ec2.tags import RUN_TAG


@dataclass(frozen=True, kw_only=True)
class Reached:
    """How a run's machines are reached, beyond their addresses."""

    private: bool = False
    """At their private addresses, also if they have public ones."""
    proxied: bool = False
    """Through a proxy command: from where, only its program knows."""
    public_ip: bool = True
    """They get public addresses in public subnets."""


ALLOW_GAP_S = 30.0
"""`allow_ssh_from_here` looks again at most so often for one machine."""


class Ec2Cloud:
    """EC2 for one run. Made without any I/O; threads may share it."""

    def __init__(
        self,
        *,
        run_id: str,
        clock: Clock,
        warn: Callable[[str], None],
        region: str | None = None,
        profile: str | None = None,
        subnets: Sequence[str] = (),
        ssh_from: str | None = None,
        ssh_port: int = 22,
        reached: Reached = Reached(),
        allowed_types: Sequence[str] = (),
        cache_dir: Path | None = None,
        look_up_public: Callable[[], str] = public_address,
    ) -> None:
        """`run_id` tags all that the run makes. `warn` shows a sentence to the user. `ssh_from`
        are the networks that ssh comes from (CIDRs), found out where None. `allowed_types` are
        the run's patterns: prices of few types are fetched faster than those of a region.
        Without `cache_dir` nothing is kept between runs (`cache.default_directory()`)."""
        self._run_id = run_id
        self._clock = clock
        self._clients = Clients(region=region, profile=profile)
        self._region = Region(
            self._clients,
            subnets=subnets,
            allowed_types=allowed_types,
            cache=DiskCache(cache_dir, clock),
            clock=clock,
            warn=warn,
        )
        self._reached = reached
        self._caller = self._new_caller(ssh_from, look_up_public)
        self._group = SecurityGroup(self._clients, run_id=run_id, ssh_port=ssh_port, clock=clock, warn=warn)
        self._launcher = self._new_launcher(run_id)
        self._board = StatusBoard(self._clients, run_id=run_id, clock=clock, private=reached.private)
        self._health = HealthBoard(self._clients, clock=clock)
        self._terminator = Terminator(self._clients, run_id=run_id, clock=clock, warn=warn)
        self._allow_lock = threading.Lock()
        self._allowed_at: dict[str, float] = {}
        self._tried_to_launch = False

    def take_over(self) -> dict[str, MachineState]:
        """Look after what an earlier process of the same run left: `close` ends it. Returns the
        machines that there are, with their states."""
        self._group.take_over()
        self._tried_to_launch = True
        try:
            rows = describe_run(self._clients.ec2, self._run_id)
        except AWS_ERRORS as error:
            raise translate(error, "ec2:DescribeInstances") from error
        return {row["InstanceId"]: MachineState(row["State"]["Name"]) for row in rows}

    @property
    def clients(self) -> Clients:
        """For `doctor`, which asks what no run does."""
        return self._clients

    @property
    def endpoint(self) -> str:
        """The URL of the EC2 that answers."""
        return self._clients.ec2.meta.endpoint_url

    @property
    def account(self) -> str | None:
        """See `Clients.account`."""
        return self._clients.account

    @property
    def region(self) -> str:
        """See `Clients.region`; makes no call, except to the metadata service if this computer is an EC2
        machine."""
        return self._clients.region

    @property
    def images(self) -> Ec2Images:
        """The account's images that `snakemake-ec2 bake` made."""
        return Ec2Images(self._clients, self._clock)

    def check(self) -> None:
        """See `Cloud.check`: one call that needs hardly any permission.

        A missing permission to launch shows at the first launch. A DryRun before that would need the whole
        request: policies depend on type, tags and network, and might refuse a simpler one.
        """
        self._clients.require_credentials()
        try:
            rows = self._clients.ec2.describe_regions(AllRegions=True)["Regions"]
        except AWS_ERRORS as error:
            if is_denied(error):
                return  # the credentials are valid, which is what was asked
            raise self._unreachable(error) from error
        status = {row["RegionName"]: row.get("OptInStatus", "") for row in rows}
        if status and self.region not in status:
            raise self._unknown_region(status)
        if status.get(self.region) == "not-opted-in":
            raise ConfigurationError(
                f"the AWS account has not enabled the region {self.region}: its administrator can do so "
                "(`aws account enable-region`), or name another one with --ec2-region"
            )

    def instance_types(self) -> tuple[InstanceType, ...]:
        """See `Cloud.instance_types`."""
        return self._region.instance_types()

    def zones(self, instance_type: str) -> tuple[str, ...]:
        """See `Cloud.zones`."""
        return self._region.zones(instance_type)

    def prices(self, market: Market) -> Mapping[tuple[str, str], Price]:
        """See `Cloud.prices`."""
        return self._region.prices(market)

    def quota(self, code: str) -> float | None:
        """See `Cloud.quota`."""
        return self._region.quota(code)

    def image(self, ami: str | None, arch: Arch, *, gpu: bool = False) -> Image:
        """See `Cloud.image`."""
        return self._region.image(ami, arch, gpu=gpu)

    def launch(self, spec: LaunchSpec, cancel: CancelToken | None = None) -> Machine:
        """See `Cloud.launch`."""
        if spec.tags.get(RUN_TAG) != self._run_id:
            raise ValueError(f"a launch without the tag {RUN_TAG}={self._run_id} would never be found again")
        subnets = [each for each in self._region.subnets() if each.zone == spec.zone]
        self._tried_to_launch = True
        try:
            machine = self._launcher.launch(spec, subnets, cancel)
        except CredentialsExpired as error:
            self._clients.log_in_again()
            if self._clients.in_environment:
                raise CredentialsExpired(
                    f"{error.message} (those in environment variables cannot be renewed from outside: log in "
                    "and run the same command again)"
                ) from error
            raise
        self._terminator.launched(machine.id)
        self._board.launched(machine.id)
        if subnets[0].public and self._reached.public_ip and not self._reached.private:
            self._board.expect_public(machine.id)
        return machine

    def give_up(self, spec: LaunchSpec) -> None:
        """See `Cloud.give_up`."""
        self._launcher.give_up(spec)

    def status(self, machine_id: str) -> MachineStatus:
        """See `Cloud.status`."""
        return self._board.status(machine_id)

    def is_impaired(self, machine_id: str) -> bool:
        """See `Cloud.is_impaired`."""
        return self._health.is_impaired(machine_id)

    def allow_ssh_from_here(self, address: str) -> None:
        """See `Cloud.allow_ssh_from_here`; looks at most every 30 s for one machine."""
        with self._allow_lock:
            now = self._clock.monotonic()
            # Where the public address counts, it is the same for all machines.
            key = address if is_internal(address) else ""
            if now - self._allowed_at.get(key, -ALLOW_GAP_S) < ALLOW_GAP_S:
                return
            self._allowed_at[key] = now
        self._group.allow(self._caller.networks_towards(address))

    def allow_ssh_between_machines(self) -> None:
        """See `Cloud.allow_ssh_between_machines`."""
        self._group.allow_itself()

    def private_address(self, machine_id: str) -> str | None:
        """See `Cloud.private_address`."""
        return self._board.private_address(machine_id)

    def terminate(self, machine_ids: Collection[str]) -> None:
        """See `Cloud.terminate`."""
        if machine_ids:
            self._board.ending(machine_ids)
            self._terminator.terminate(machine_ids)
            self._board.ending(machine_ids)

    def console_output(self, machine_id: str) -> str:
        """See `Cloud.console_output`."""
        try:
            answer = self._clients.ec2.get_console_output(InstanceId=machine_id)
        except AWS_ERRORS as error:
            raise translate(error, "ec2:GetConsoleOutput") from error
        # botocore has already decoded its base64.
        return answer.get("Output", "") or ""

    def close(self) -> bool:
        """See `Cloud.close`. `warn` reports what could not be ended or removed."""
        if self._tried_to_launch and self._terminator.sweep():
            self._tried_to_launch = False
        return self._group.delete() and not self._tried_to_launch

    def _new_launcher(self, run_id: str) -> Launcher:
        return Launcher(
            self._clients,
            run_id=run_id,
            group=self._group,
            caller=self._caller,
            clock=self._clock,
            public_ip=self._reached.public_ip,
            end=self._end_untaken,
        )

    def _end_untaken(self, machine_ids: Sequence[str]) -> None:
        """Terminate machines that were launched for jobs that are cancelled; `close` finds what is left."""
        for each in machine_ids:
            self._terminator.launched(each)
        self._terminator.end(machine_ids)

    def _new_caller(self, ssh_from: str | None, look_up_public: Callable[[], str]) -> Caller:
        return Caller(
            ssh_from=ssh_from,
            endpoint=lambda: self._clients.ec2.meta.endpoint_url,
            look_up_public=look_up_public,
            proxy_from=(lambda: self._own_networks) if self._reached.proxied else None,
        )

    @cached_property
    def _own_networks(self) -> tuple[str, ...]:
        """The networks of all subnets beside the machines': where a proxy command's way ends."""
        return networks_beside(self._clients.ec2, self._region.subnets()[0].vpc_id)

    # --- what a failed check means -----------------------------------------------------------

    def _unreachable(self, error: AwsError) -> Exception:
        known = self._clients.known_regions()
        if self.region not in known:
            return self._unknown_region(known)
        if is_transient(error) and not isinstance(error, ClientError):
            return ConfigurationError(
                f"EC2 does not answer at {self._clients.ec2.meta.endpoint_url}: check the network connection "
                "and, where it is set, AWS_ENDPOINT_URL"
            )
        return translate(error, "ec2:DescribeRegions")

    def _unknown_region(self, known: Collection[str]) -> ConfigurationError:
        close = get_close_matches(self.region, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return ConfigurationError(
            f"AWS has no region {self.region!r} (--ec2-region, AWS_DEFAULT_REGION or the profile's){hint}"
        )
