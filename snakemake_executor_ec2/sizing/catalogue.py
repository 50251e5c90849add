"""A region's instance types with their zones and prices, arranged for fast selection. Pure.

Selection (`select.py`) has to answer for thousands of jobs. What does not depend on a
job's size (which types its patterns, architecture and kind of GPU allow, and their order)
is worked out once and kept as a `Pool`. Spot pools have an offer for each type and zone, since
each zone has its own price, and are made anew when EC2's spot prices are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property

from snakemake_executor_ec2.errors import NoFittingInstance
from snakemake_executor_ec2.model import Arch, InstanceType, Market, Offer, Price
from snakemake_executor_ec2.sizing.ceiling import is_ordinary
from snakemake_executor_ec2.sizing.dimensions import Figures, offered

Prices = Mapping[tuple[str, str], Price]
"""Prices by (instance type, zone), on-demand ones with "" for the zone: what `Cloud.prices` gives."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the user allows for all jobs of a run."""

    exclude: tuple[str, ...] = ()
    """Patterns of types that are never taken."""
    free_tier: bool = False
    """Only types that AWS's free tier covers."""
    max_usd_per_hour: float | None = None
    by_default: bool = False
    """Nobody asked for this price limit: types of unknown price are taken if they are of ordinary size."""


@dataclass(frozen=True, kw_only=True)
class PoolKey:
    """What a pool depends on."""

    patterns: tuple[str, ...]
    arch: Arch
    wants_gpu: bool
    gpu_model: str | None
    market: Market = Market.ON_DEMAND


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An offer beside the figures that a job is compared with."""

    figures: Figures
    offer: Offer


Pool = tuple[Candidate, ...]
"""The candidates that a kind of job may use, best first; never empty."""


_NO_LIMITS = Limits()


class Catalogue:
    """A region's types, prices and zones. Threads may share it: its only state is memos."""

    def __init__(
        self,
        types: Sequence[InstanceType],
        *,
        zones: Callable[[str], tuple[str, ...]],
        prices: Prices | None = None,
        spot_prices: Callable[[], Prices] = dict,
        limits: Limits = _NO_LIMITS,
        region: str = "",
    ) -> None:
        """`zones` gives the zones in which a type can be launched (`Cloud.zones`); it is called once per
        type. `spot_prices` is called when a job allows spot; the same object means the same prices."""
        self.types = tuple(types)
        self.region = region
        self.limits = limits
        self._zones = zones
        self._prices = prices or {}
        self._spot_prices = spot_prices
        self._spot_known: Prices | None = None
        self._by_name = {each.name: each for each in self.types}
        self._allowed = tuple(each for each in self.types if self._is_allowed(each))
        self._pools: dict[PoolKey, Pool] = {}
        self._offers: dict[str, Offer] = {}

    @cached_property
    def at_any_price(self) -> Catalogue:
        """The same without the limit on the price of an hour."""
        return Catalogue(
            self.types,
            zones=self._zones,
            prices=self._prices,
            spot_prices=self._spot_prices,
            limits=replace(self.limits, max_usd_per_hour=None),
            region=self.region,
        )

    def named(self, name: str) -> InstanceType | None:
        """The type of a name."""
        return self._by_name.get(name)

    def pool(self, key: PoolKey) -> Pool:
        """The candidates for a kind of job, best first.

        Raises NoFittingInstance if patterns, architecture, GPU model or zones leave none.
        """
        if key.market is Market.SPOT:
            self._renew_spot()
        known = self._pools.get(key)
        if known is None:
            known = self._pools[key] = self._make_pool(key)
        return known

    def matching(self, patterns: tuple[str, ...]) -> tuple[InstanceType, ...]:
        """The allowed types that fnmatch patterns name; all of them if there is no pattern. Raises
        NoFittingInstance if the patterns name none."""
        found = [each for each in self._allowed if not patterns or _matches(each, patterns)]
        if not found:
            if any(not patterns or _matches(each, patterns) for each in self.types):
                raise NoFittingInstance(self._all_excluded(patterns))
            raise NoFittingInstance(self._unknown(patterns))
        return tuple(found)

    def _is_allowed(self, each: InstanceType) -> bool:
        if self.limits.free_tier and not each.free_tier:
            return False
        return not _matches(each, self.limits.exclude)

    def _renew_spot(self) -> None:
        prices = self._spot_prices()
        if prices is not self._spot_known:
            self._spot_known = prices
            self._pools = {key: pool for key, pool in self._pools.items() if key.market is not Market.SPOT}

    def _make_pool(self, key: PoolKey) -> Pool:
        named = self.matching(key.patterns)
        # Some types are only sold as capacity blocks, reserved long before.
        of_arch = [each for each in named if key.arch in each.arches and key.market in each.markets]
        if not of_arch and key.market is Market.SPOT:
            raise NoFittingInstance(
                f"no instance type that {_quoted(key.patterns)} allows is available as spot"
            )
        if not of_arch:
            raise NoFittingInstance(
                f"no instance type that {_quoted(key.patterns)} allows has the architecture {key.arch}; "
                "ec2_arch chooses another one"
            )
        # GPUs first: where only an older generation has the model, that generation is meant.
        plain = _plainest(_with_gpu(of_arch, key) if key.wants_gpu else of_arch, key)
        candidates = [
            Candidate(figures=figures, offer=offer)
            for each, figures in ((each, offered(each)) for each in plain)
            for offer in self._offers_of(each, key.market)
        ]
        kept = [each for each in candidates if each.offer.zones]
        if not kept and key.market is Market.SPOT:
            raise NoFittingInstance(f"EC2 names no spot price for {_some([each.name for each in plain])}")
        if not kept:
            raise NoFittingInstance(
                f"{_some([each.name for each in plain])} can be launched in none of the zones "
                "that have a subnet; --ec2-subnets or --ec2-region choose others"
            )
        kept.sort(key=lambda each: rank(each.offer))
        return self._affordable(kept)

    def _affordable(self, candidates: list[Candidate]) -> Pool:
        most = self.limits.max_usd_per_hour
        if most is None:
            return tuple(candidates)
        kept = tuple(each for each in candidates if self._is_affordable(each.offer, most))
        if not kept:
            raise NoFittingInstance(f"no type is known to cost at most ${most:g} an hour")
        return kept

    def _is_affordable(self, offer: Offer, most: float) -> bool:
        if offer.price is None:
            return self.limits.by_default and is_ordinary(offer.instance_type)
        return offer.price.usd_per_hour <= most

    def _offers_of(self, each: InstanceType, market: Market) -> list[Offer]:
        if market is Market.ON_DEMAND:
            return [self._offer(each)]
        prices = self._spot_known or {}
        return [
            Offer(
                instance_type=each,
                market=market,
                zones=(zone,),
                price=prices[each.name, zone],
                on_demand=self._prices.get((each.name, "")),
            )
            for zone in self._zones(each.name)
            if (each.name, zone) in prices
        ]

    def _offer(self, instance_type: InstanceType) -> Offer:
        known = self._offers.get(instance_type.name)
        if known is None:
            known = self._offers[instance_type.name] = Offer(
                instance_type=instance_type,
                market=Market.ON_DEMAND,
                zones=self._zones(instance_type.name),
                price=self._prices.get((instance_type.name, "")),
            )
        return known

    def _all_excluded(self, patterns: tuple[str, ...]) -> str:
        reasons = []
        if self.limits.exclude:
            reasons.append(f"--ec2-exclude-types {','.join(self.limits.exclude)}")
        if self.limits.free_tier:
            reasons.append("--ec2-free-tier")
        return f"{' and '.join(reasons)} leave no instance type of those that {_quoted(patterns)} allows"

    def _unknown(self, patterns: tuple[str, ...]) -> str:
        where = f" in {self.region}" if self.region else ""
        exact = not any(_is_wild(each) for each in patterns)
        what = "unknown instance type" if exact else "no instance type matches"
        close = [_closest(each, self._by_name) for each in patterns]
        hint = ", ".join(dict.fromkeys(each for each in close if each))
        return f"{what} {_quoted(patterns)}{where}" + (f"; did you mean {hint}?" if hint else "")


def rank(offer: Offer) -> tuple[bool, float, int, int, str]:
    """The order of the offers of one market, least first: by price, then by size, then by name.

    Unknown prices come last and among themselves go by size. A job's expected cost grows with
    the price whatever its runtime, so that this order serves all jobs; the markets are compared
    in `select.py`.
    """
    each = offer.instance_type
    price = offer.price.usd_per_hour if offer.price else 0.0
    return (offer.price is None, price, each.vcpus, each.mem_mib, each.name)


_UNSUITED = ("hpc", "a1.", "g3.", "g3s.", "g4ad.", "p2.", "p3.", "p3dn.")
"""What a job without a wish is not well served by. hpc*: made for clusters, its disk has 87 Mbit/s
(EBS baseline). a1: Amazon Linux 2023 does not start on it (AWS, "AL2023 on Amazon EC2"). The GPUs:
AWS's image has no drivers for them (release notes of the Deep Learning Base AMI, AL2023)."""


def _plainest(types: list[InstanceType], key: PoolKey) -> list[InstanceType]:
    """Leave out what nobody asked for: burstable, bare-metal, old and accelerated types.

    A pattern asks for such types when it names nothing plainer: `t3.*` means burstable ones
    and `c5.metal` bare metal, but `*` means neither, and `m7i.*` not m7i.metal-24xl.
    """
    if not key.patterns:
        least = min(_specialities(each, key.wants_gpu) for each in types)
        return [each for each in types if _specialities(each, key.wants_gpu) == least]
    chosen: dict[str, InstanceType] = {}
    for pattern in key.patterns:
        named = [each for each in types if fnmatchcase(each.name, pattern)]
        least = min((_specialities(each, key.wants_gpu) for each in named), default=0)
        chosen.update((each.name, each) for each in named if _specialities(each, key.wants_gpu) == least)
    return list(chosen.values())


def _specialities(each: InstanceType, wants_gpu: bool) -> int:
    """How many things are special about a type, for a job that wants a GPU or none."""
    unwanted_gpu = bool(each.gpus) and not wants_gpu
    return sum(
        (
            each.burstable,
            each.bare_metal,
            not each.current_generation,
            each.accelerators,
            each.gpu_fraction < 1,
            each.name.startswith(_UNSUITED),
            unwanted_gpu,
        )
    )


def _with_gpu(types: list[InstanceType], key: PoolKey) -> list[InstanceType]:
    having = [each for each in types if each.gpus]
    if not having:
        raise NoFittingInstance(f"no instance type that {_quoted(key.patterns)} allows has a GPU")
    if key.gpu_model is None:
        return having
    wanted = _normal(key.gpu_model)
    of_model = [each for each in having if f" {wanted} " in f" {_normal(each.gpu_model)} "]
    if not of_model:
        models = sorted({each.gpu_model for each in having})
        raise NoFittingInstance(
            f"needs gpu_model={key.gpu_model!r}; the allowed types have {', '.join(models)}"
        )
    return of_model


def _normal(model: str) -> str:
    """GPU models differ in case and punctuation between people: `NVIDIA-L4`, `nvidia_l4`, `L4`. Compared
    by whole words, for an L40S is no L4."""
    words = model.lower().replace("-", " ").replace("_", " ").split()
    return " ".join(word for word in words if word not in {"nvidia", "amd", "tesla"})


def _matches(each: InstanceType, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(each.name, one) for one in patterns)


def _is_wild(pattern: str) -> bool:
    return any(char in pattern for char in "*?[")


def _closest(pattern: str, names: Mapping[str, InstanceType]) -> str:
    """The type, or the family with a wildcard, that a mistyped pattern may have meant."""
    if not _is_wild(pattern):
        return next(iter(get_close_matches(pattern, names, n=1)), "")
    family, dot, size = pattern.partition(".")
    families = sorted({name.split(".", 1)[0] for name in names})
    close = get_close_matches(family, families, n=1)
    return f"{close[0]}{dot}{size}" if close and close[0] != family else ""


def _quoted(patterns: Sequence[str]) -> str:
    return ", ".join(repr(each) for each in patterns) or "this region"


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
