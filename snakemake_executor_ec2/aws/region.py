"""What a region has: instance types, zones, subnets, prices, images. Every answer is asked for once in a
run, and kept on disk if it changes rarely."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

from snakemake_executor_ec2.aws import snapshot
from snakemake_executor_ec2.aws.cache import DAY_S, DiskCache
from snakemake_executor_ec2.aws.catalogue import (
    LocationKind,
    fetch_instance_types,
    fetch_offerings,
    from_json,
    to_json,
)
from snakemake_executor_ec2.aws.errors import AWS_ERRORS, is_denied, translate
from snakemake_executor_ec2.aws.images import find_gpu_image, find_image
from snakemake_executor_ec2.aws.network import Subnet, find_subnets
from snakemake_executor_ec2.aws.prices import FEW_TYPES, fetch_on_demand, fetch_spot
from snakemake_executor_ec2.aws.quotas import fetch_quota
from snakemake_executor_ec2.errors import Ec2ExecutorError, PermissionDenied
from snakemake_executor_ec2.formatting import TellOnce
from snakemake_executor_ec2.model import Arch, Image, InstanceType, Market, Price
from snakemake_executor_ec2.ports import Clock

if TYPE_CHECKING:
    from snakemake_executor_ec2.aws.clients import Clients

TYPES_MAX_AGE_S = 7 * DAY_S
PRICES_MAX_AGE_S = DAY_S
SPOT_MAX_AGE_S = 300.0
_EMBEDDED = "127.0.0.1"
"""Where the embedded cloud answers."""

T = TypeVar("T")


class Region:
    """Threads may share it."""

    def __init__(
        self,
        clients: Clients,
        *,
        subnets: Sequence[str],
        allowed_types: Sequence[str],
        cache: DiskCache,
        clock: Clock,
        warn: Callable[[str], None],
    ) -> None:
        self._clients = clients
        self._wanted_subnets = tuple(subnets)
        self._allowed_types = tuple(allowed_types)
        self._cache = cache
        self._clock = clock
        self._warn = warn
        self._warn_once = TellOnce(warn)
        self._answers = Answers()

    def instance_types(self) -> tuple[InstanceType, ...]:
        """See `Cloud.instance_types`; from the disk if it was asked for in the last 7 days."""
        return self._answers.once("types", self._instance_types)

    def subnets(self) -> tuple[Subnet, ...]:
        """The subnets that machines may be launched into, by zone."""
        return self._answers.once(
            "subnets", lambda: find_subnets(self._clients.ec2, self._wanted_subnets, self._clients.region)
        )

    def zones(self, instance_type: str) -> tuple[str, ...]:
        """See `Cloud.zones`; sorted by name."""
        return self._answers.once("zones", self._zones).get(instance_type, ())

    def prices(self, market: Market) -> Mapping[tuple[str, str], Price]:
        """See `Cloud.prices`. If the Pricing API can't be asked, the user is warned once."""
        if market is Market.ON_DEMAND:
            return self._answers.once("on-demand", self._on_demand)
        return self._answers.once("spot", self._spot, max_age_s=SPOT_MAX_AGE_S, clock=self._clock)

    def quota(self, code: str) -> float | None:
        """See `Cloud.quota`. If the limits may not be asked for, the user is warned once."""
        try:
            return fetch_quota(self._clients, code)
        except PermissionDenied as error:
            self._warn_once(
                f"the account's limits are unknown until EC2 refuses a launch because of one: {error}",
                about="quotas",
            )
            return None

    def image(self, ami: str | None, arch: Arch, *, gpu: bool = False) -> Image:
        """See `Cloud.image`. If there is no image with GPU drivers, the user is warned once."""
        if ami is not None or not gpu:
            return self._answers.once(
                f"image-{ami}-{arch}", lambda: find_image(self._clients, ami, arch, self._warn)
            )
        return self._answers.once(f"gpu-image-{arch}", lambda: self._gpu_image(arch))

    def _gpu_image(self, arch: Arch) -> Image:
        found = find_gpu_image(self._clients, arch)
        if found is None:
            self._warn(
                "no image with GPU drivers (AWS's Deep Learning Base AMI) was found: machines with GPUs "
                "start from Amazon Linux 2023, which has none; --ec2-ami or a rule's ec2_ami names another"
            )
        return found or self.image(None, arch)

    def _instance_types(self) -> tuple[InstanceType, ...]:
        # Which types are free depends on the account's age and plan.
        key = ("types", self._endpoint_key(), self._clients.region, self._clients.account or "")
        kept = self._cache.get(*key, max_age_s=TYPES_MAX_AGE_S)
        if kept is not None:
            try:
                return from_json(kept[0])
            except (TypeError, KeyError, ValueError, AttributeError):
                pass  # written by another version of ours: ask again
        try:
            types = fetch_instance_types(self._clients.ec2)
        except AWS_ERRORS as error:
            told = translate(error, "ec2:DescribeInstanceTypes")
            if not is_denied(error):
                raise told from error
            known = snapshot.read()
            self._warn(
                f"a snapshot's list of instance types is used ({known.source}, {known.taken}), which may "
                f"differ from this region's: {told}"
            )
            return known.types
        self._cache.put(*key, document=to_json(types))
        return types

    def _zones(self) -> dict[str, tuple[str, ...]]:
        """For each type, the names of the zones that have it and one of our subnets."""
        subnets = self.subnets()
        # Zone ids where there are any: a cache of them serves all the user's accounts.
        kind: LocationKind = (
            "availability-zone-id" if all(each.zone_id for each in subnets) else "availability-zone"
        )
        usable = {
            each.zone_id if kind == "availability-zone-id" else each.zone: each.zone for each in subnets
        }
        try:
            offerings = self._offerings(kind)
        except PermissionDenied as error:
            self._warn(
                f"it is unknown which zones have which instance types, so all of them are tried: {error}"
            )
            everywhere = tuple(sorted(usable.values()))
            return {each.name: everywhere for each in self.instance_types()}
        return {
            name: tuple(sorted(usable[each] for each in places if each in usable))
            for name, places in offerings.items()
        }

    def _offerings(self, kind: LocationKind) -> Mapping[str, Sequence[str]]:
        key = ("offerings", self._endpoint_key(), self._clients.region, kind)
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
        key = (
            "prices",
            urlsplit(self._clients.pricing.meta.endpoint_url).netloc,
            self._clients.region,
            ",".join(few),
        )
        kept = self._cache.get(*key, max_age_s=PRICES_MAX_AGE_S)
        if kept is None:
            try:
                found = fetch_on_demand(
                    self._clients.pricing,
                    self._clients.region,
                    names=few,
                    vcpus=[each.vcpus for each in types],
                )
            except AWS_ERRORS as error:
                return self._prices_of_a_snapshot(translate(error, "pricing:GetProducts").message)
            if not found:
                return self._prices_of_a_snapshot("pricing:GetProducts names none")
            asked_at = self._clock.now()
            self._cache.put(*key, document=found)
        else:
            found, asked_at = cast("dict[str, float]", kept[0]), kept[1]
        source = self._price_source(f"{datetime.fromtimestamp(asked_at, UTC):%Y-%m-%d}")
        return {(name, ""): Price(usd_per_hour=usd, source=source) for name, usd in found.items()}

    def _price_source(self, asked_on: str) -> str:
        """Who says so, for people. The embedded cloud has the snapshot's prices, and makes up others."""
        asked = urlsplit(self._clients.pricing.meta.endpoint_url).hostname or ""
        if asked == _EMBEDDED:
            known = snapshot.read()
            is_known = self._clients.region in known.usd_per_hour
            return f"AWS's of {known.prices_taken}" if is_known else "made up by the embedded cloud"
        whose = "" if asked.endswith((".amazonaws.com", ".amazonaws.com.cn")) else f" at {asked}"
        return f"Pricing API{whose}, {asked_on}"

    def _prices_of_a_snapshot(self, why: str) -> Mapping[tuple[str, str], Price]:
        known, here = snapshot.read(), self._clients.region
        region, found = known.prices_for(here)
        if not found:
            self._warn(f"prices are unknown, so machines are ranked by size and no costs are shown: {why}")
            return {}
        others = f"; those of {here} may be higher" if region != here else ""
        self._warn(f"the prices of {region} as of {known.prices_taken} are used{others}: {why}")
        source = f"{region}, {known.prices_taken}{others}"
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


class Answers:
    """Answers that are the same for a whole run; each is asked for once, by one thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, threading.RLock] = {}
        self._known: dict[str, tuple[object, float]] = {}

    def once(
        self,
        name: str,
        ask: Callable[[], T],
        *,
        max_age_s: float | None = None,
        clock: Clock | None = None,
    ) -> T:
        """The answer, where `max_age_s` is given no older than that, unless a newer one is not to be
        had. A question that failed may be asked again."""
        with self._lock:
            lock = self._locks.setdefault(name, threading.RLock())
        with lock:
            now = clock.monotonic() if clock else 0.0
            known = self._known.get(name)
            if known is None:
                known = self._known[name] = (ask(), now)
            elif max_age_s is not None and now - known[1] > max_age_s:
                # Where AWS does not answer now, jobs still can be planned with what it said before.
                with suppress(Ec2ExecutorError):
                    known = self._known[name] = (ask(), now)
            return cast("T", known[0])
