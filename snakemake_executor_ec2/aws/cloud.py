"""`Ec2Cloud`: the port `Cloud`, over boto3. What it does is in the modules beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from snakemake_executor_ec2.aws.cache import DAY_S, DiskCache
from snakemake_executor_ec2.aws.catalogue import (
    LocationKind,
    fetch_instance_types,
    fetch_offerings,
    from_json,
    to_json,
)
from snakemake_executor_ec2.aws.clients import Clients
from snakemake_executor_ec2.aws.ending import Terminator
from snakemake_executor_ec2.aws.errors import AWS_ERRORS, AwsError, is_denied, is_transient, translate
from snakemake_executor_ec2.aws.group import SecurityGroup
from snakemake_executor_ec2.aws.images import find_image
from snakemake_executor_ec2.aws.launching import Launcher
from snakemake_executor_ec2.aws.network import Caller, Subnet, find_subnets, is_internal, public_address
from snakemake_executor_ec2.aws.prices import FEW_TYPES, fetch_on_demand, fetch_spot
from snakemake_executor_ec2.aws.statuses import StatusBoard
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.launch import RUN_TAG
from snakemake_executor_ec2.model import (
    Arch,
    Image,
    InstanceType,
    LaunchSpec,
    Machine,
    MachineStatus,
    Market,
    Price,
)
from snakemake_executor_ec2.ports import Clock

TYPES_MAX_AGE_S = 7 * DAY_S
PRICES_MAX_AGE_S = DAY_S
SPOT_MAX_AGE_S = 300.0
T = TypeVar("T")

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
        self._warn = warn
        self._wanted_subnets = tuple(subnets)
        self._allowed_types = tuple(allowed_types)
        self._clients = Clients(region=region, profile=profile)
        self._cache = DiskCache(cache_dir, clock)
        self._caller = Caller(
            ssh_from=ssh_from,
            endpoint=lambda: self._clients.ec2.meta.endpoint_url,
            look_up_public=look_up_public,
        )
        self._group = SecurityGroup(self._clients, run_id=run_id, ssh_port=ssh_port, clock=clock, warn=warn)
        self._launcher = Launcher(
            self._clients, run_id=run_id, group=self._group, caller=self._caller, clock=clock
        )
        self._board = StatusBoard(self._clients, run_id=run_id, clock=clock)
        self._terminator = Terminator(self._clients, run_id=run_id, clock=clock, warn=warn)
        self._lookups = Lookups()
        self._allow_lock = threading.Lock()
        self._allowed_at: dict[str, float] = {}
        self._tried_to_launch = False

    @property
    def region(self) -> str:
        """See `Clients.region`; asks nobody but, on an EC2 machine, that machine."""
        return self._clients.region

    def check(self) -> None:
        """See `Cloud.check`: one call of EC2's that needs hardly any permission.

        That a permission to launch is missing shows at the first launch. Asking before, with
        DryRun, would have to know the whole request: policies depend on type, tags and
        network, and would refuse a simpler one that nobody wants to make.
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
                f"the AWS account has not enabled the region {self.region}: whoever administers it can do so "
                "(`aws account enable-region`), or name another one with --ec2-region"
            )

    def instance_types(self) -> tuple[InstanceType, ...]:
        """See `Cloud.instance_types`; from the disk where it was asked for in the last 7 days."""
        return self._lookups.once("types", self._instance_types)

    def zones(self, instance_type: str) -> tuple[str, ...]:
        """See `Cloud.zones`; sorted by name."""
        return self._lookups.once("zones", self._zones).get(instance_type, ())

    def prices(self, market: Market) -> Mapping[tuple[str, str], Price]:
        """See `Cloud.prices`. Where the Pricing API can't be asked, the user is told once."""
        if market is Market.ON_DEMAND:
            return self._lookups.once("on-demand", self._on_demand)
        age = int(self._clock.monotonic() // SPOT_MAX_AGE_S)
        return self._lookups.once(f"spot-{age}", self._spot)

    def image(self, ami: str | None, arch: Arch) -> Image:
        """See `Cloud.image`."""
        return self._lookups.once(f"image-{ami}-{arch}", lambda: find_image(self._clients, ami, arch))

    def launch(self, spec: LaunchSpec) -> Machine:
        """See `Cloud.launch`."""
        if spec.tags.get(RUN_TAG) != self._run_id:
            raise ValueError(f"a launch without the tag {RUN_TAG}={self._run_id} would never be found again")
        subnets = [each for each in self._subnets() if each.zone == spec.zone]
        self._tried_to_launch = True
        machine = self._launcher.launch(spec, subnets)
        self._terminator.launched(machine.id)
        if subnets[0].public:
            self._board.expect_public(machine.id)
        return machine

    def status(self, machine_id: str) -> MachineStatus:
        """See `Cloud.status`."""
        return self._board.status(machine_id)

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

    def terminate(self, machine_ids: Collection[str]) -> None:
        """See `Cloud.terminate`."""
        if machine_ids:
            self._terminator.terminate(machine_ids)

    def console_output(self, machine_id: str) -> str:
        """See `Cloud.console_output`."""
        try:
            answer = self._clients.ec2.get_console_output(InstanceId=machine_id)
        except AWS_ERRORS as error:
            raise translate(error, "ec2:GetConsoleOutput") from error
        # botocore has already decoded its base64.
        return answer.get("Output", "") or ""

    def close(self) -> None:
        """See `Cloud.close`. What could not be ended or removed is told through `warn`."""
        if self._tried_to_launch:
            self._terminator.sweep()
            self._tried_to_launch = False
        self._group.delete()

    # --- lookups ---------------------------------------------------------------------------

    def _instance_types(self) -> tuple[InstanceType, ...]:
        key = ("types", self._endpoint_key(), self.region)
        kept = self._cache.get(*key, max_age_s=TYPES_MAX_AGE_S)
        if kept is not None:
            try:
                return from_json(kept[0])
            except (TypeError, KeyError, ValueError, AttributeError):
                pass  # written by another version of ours: ask again
        try:
            types = fetch_instance_types(self._clients.ec2)
        except AWS_ERRORS as error:
            raise translate(error, "ec2:DescribeInstanceTypes") from error
        self._cache.put(*key, document=to_json(types))
        return types

    def _subnets(self) -> tuple[Subnet, ...]:
        return self._lookups.once(
            "subnets", lambda: find_subnets(self._clients.ec2, self._wanted_subnets, self.region)
        )

    def _zones(self) -> dict[str, tuple[str, ...]]:
        """For each type, the names of the zones that have it and one of our subnets."""
        subnets = self._subnets()
        # Zone ids where there are any: a cache of them serves all the user's accounts.
        kind: LocationKind = (
            "availability-zone-id" if all(each.zone_id for each in subnets) else "availability-zone"
        )
        usable = {
            each.zone_id if kind == "availability-zone-id" else each.zone: each.zone for each in subnets
        }
        return {
            name: tuple(sorted(usable[each] for each in places if each in usable))
            for name, places in self._offerings(kind).items()
        }

    def _offerings(self, kind: LocationKind) -> Mapping[str, Sequence[str]]:
        key = ("offerings", self._endpoint_key(), self.region, kind)
        kept = self._cache.get(*key, max_age_s=TYPES_MAX_AGE_S)
        if kept is not None:
            return cast("dict[str, list[str]]", kept[0])
        try:
            found = fetch_offerings(self._clients.ec2, kind)
        except AWS_ERRORS as error:
            raise translate(error, "ec2:DescribeInstanceTypeOfferings") from error
        self._cache.put(*key, document=found)
        return found

    def _on_demand(self) -> Mapping[tuple[str, str], Price]:
        types = self.instance_types()
        names = sorted(
            each.name for each in types if any(fnmatchcase(each.name, one) for one in self._allowed_types)
        )
        few = names if len(names) <= FEW_TYPES else []
        key = ("prices", urlsplit(self._clients.pricing.meta.endpoint_url).netloc, self.region, ",".join(few))
        kept = self._cache.get(*key, max_age_s=PRICES_MAX_AGE_S)
        if kept is None:
            try:
                found = fetch_on_demand(
                    self._clients.pricing, self.region, names=few, vcpus=[each.vcpus for each in types]
                )
            except AWS_ERRORS as error:
                self._warn(
                    "prices are not known, so machines are ranked by size and costs are left out: "
                    f"{translate(error, 'pricing:GetProducts')}"
                )
                return {}
            asked_at = self._clock.now()
            self._cache.put(*key, document=found)
        else:
            found, asked_at = cast("dict[str, float]", kept[0]), kept[1]
        source = f"Pricing API, {datetime.fromtimestamp(asked_at, UTC):%Y-%m-%d}"
        return {(name, ""): Price(usd_per_hour=usd, source=source) for name, usd in found.items()}

    def _spot(self) -> Mapping[tuple[str, str], Price]:
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        try:
            found = fetch_spot(self._clients.ec2, now)
        except AWS_ERRORS as error:
            raise translate(error, "ec2:DescribeSpotPriceHistory") from error
        source = f"spot price history, {now:%Y-%m-%d %H:%M} UTC"
        return {key: Price(usd_per_hour=usd, source=source) for key, usd in found.items()}

    def _endpoint_key(self) -> str:
        return urlsplit(self._clients.ec2.meta.endpoint_url).netloc

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


class Lookups:
    """Answers that are the same for a whole run; each is asked for once, by one thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, threading.RLock] = {}
        self._answers: dict[str, object] = {}

    def once(self, name: str, ask: Callable[[], T]) -> T:
        """The answer; a failed question may be asked again."""
        with self._lock:
            lock = self._locks.setdefault(name, threading.RLock())
        with lock:
            if name not in self._answers:
                self._answers[name] = ask()
            return cast("T", self._answers[name])
