"""Which machines can run a job, best first. Pure.

A type fits by what is usable of it (`memory.py`). Within a market the cheaper is the better
(`catalogue.rank`); between markets the expected cost of the job decides (`expected.py`), in
which a long job's risk of losing its spot machine counts.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

from snakemake_executor_ec2.errors import NoFittingInstance
from snakemake_executor_ec2.model import Market, Offer, Requirements, SpotUse
from snakemake_executor_ec2.sizing import ceiling, expected
from snakemake_executor_ec2.sizing.catalogue import Candidate, Catalogue, Pool, PoolKey
from snakemake_executor_ec2.sizing.dimensions import DIMENSIONS, Dimension, needed, plain


def select(catalogue: Catalogue, requirements: Requirements) -> tuple[Offer, ...]:
    """The offers that fit, best first; never empty. On-demand ones come once for each type, spot
    ones for each type and zone, and none of those is dearer than the cheapest on-demand one.

    Raises NoFittingInstance: one sentence with the nearest allowed type and what it lacks.
    """
    return tuple(offers(catalogue, requirements))


def best(catalogue: Catalogue, requirements: Requirements) -> Offer:
    """The first of `select`, found faster."""
    return next(offers(catalogue, requirements))


def offers(catalogue: Catalogue, requirements: Requirements) -> Iterator[Offer]:
    """What `select` gives, one after the other. Raises NoFittingInstance before the first one."""
    try:
        return _offers(catalogue, requirements)
    except NoFittingInstance:
        limits = catalogue.limits
        if limits.max_usd_per_hour is None:
            raise
    cheapest = next(_offers(catalogue.at_any_price, requirements))
    raise NoFittingInstance(
        ceiling.too_dear(
            requirements,
            cheapest,
            limits.max_usd_per_hour,
            by_default=limits.by_default,
            fits=lambda less: _is_met(catalogue, less),
        )
    )


def _is_met(catalogue: Catalogue, requirements: Requirements) -> bool:
    try:
        next(_offers(catalogue, requirements))
    except NoFittingInstance:
        return False
    return True


def _offers(catalogue: Catalogue, requirements: Requirements) -> Iterator[Offer]:
    if requirements.spot is SpotUse.NEVER:
        return _on_demand(catalogue, requirements)
    fallback, refused = _cheapest_on_demand(catalogue, requirements)
    on_spot = _started(_on_spot(catalogue, requirements, fallback))
    if requirements.spot is SpotUse.ONLY:
        if isinstance(on_spot, NoFittingInstance):
            raise on_spot
        return on_spot
    if isinstance(on_spot, NoFittingInstance):
        return _on_demand(catalogue, requirements)
    if refused is not None:
        return on_spot
    return heapq.merge(
        on_spot,
        _on_demand(catalogue, requirements),
        key=lambda offer: expected_usd(offer, requirements, fallback),
    )


def expected_usd(offer: Offer, requirements: Requirements, on_demand: float | None) -> float:
    """Expected dollars of a job on an offer, infinite where its price is not known. `on_demand` is
    the price of the cheapest on-demand machine for it, the last resort of an interrupted job."""
    if offer.price is None:
        return math.inf
    hours, price = expected.hours(requirements.runtime_min), offer.price.usd_per_hour
    if offer.market is Market.ON_DEMAND:
        return expected.on_demand_usd(price, hours)
    return expected.spot_usd(price, on_demand, hours)


def _started(offers: Iterator[Offer]) -> Iterator[Offer] | NoFittingInstance:
    """The offers, of which there is one at least; or why there is none."""
    try:
        first = next(offers)
    except NoFittingInstance as error:
        return error
    except StopIteration:
        return NoFittingInstance("every spot machine that fits is now more expensive than an on-demand one")
    return _again(first, offers)


def _again(first: Offer, rest: Iterator[Offer]) -> Iterator[Offer]:
    yield first
    yield from rest


def _on_demand(catalogue: Catalogue, wanted: Requirements) -> Iterator[Offer]:
    pool = catalogue.pool(_key(wanted, Market.ON_DEMAND))
    found = _fitting(pool, wanted)
    first = next(found, None)
    if first is None:
        raise NoFittingInstance(_explain(pool, wanted) + _limited(catalogue))
    return _again(first, found)


def _on_spot(catalogue: Catalogue, wanted: Requirements, on_demand: float | None) -> Iterator[Offer]:
    """Spot offers, without those dearer than on-demand; where all are, the user's wish for spot
    and nothing else is kept by the cheapest."""
    pool = catalogue.pool(_key(wanted, Market.SPOT))
    found = _fitting(pool, wanted)
    first = next(found, None)
    if first is None:
        raise NoFittingInstance(_explain(pool, wanted) + _limited(catalogue))
    if wanted.spot is SpotUse.ONLY or _below(first, on_demand):
        yield first
    for offer in found:
        if not _below(offer, on_demand):
            return
        yield offer


def _below(offer: Offer, usd_per_hour: float | None) -> bool:
    return usd_per_hour is None or (offer.price is not None and offer.price.usd_per_hour < usd_per_hour)


def _cheapest_on_demand(
    catalogue: Catalogue, wanted: Requirements
) -> tuple[float | None, NoFittingInstance | None]:
    """Its price where it is known; and why there is none, where nothing fits."""
    try:
        offer = next(_on_demand(catalogue, wanted))
    except NoFittingInstance as error:
        return None, error
    return (offer.price.usd_per_hour if offer.price else None), None


def _limited(catalogue: Catalogue) -> str:
    """Tell of limits that made the choice smaller."""
    limits, said = catalogue.limits, []
    if limits.exclude:
        said.append(f"--ec2-exclude-types {','.join(limits.exclude)}")
    if limits.free_tier:
        said.append("--ec2-free-tier")
    return f"; within {', '.join(said)}" if said else ""


def _key(wanted: Requirements, market: Market) -> PoolKey:
    return PoolKey(
        patterns=wanted.instance_types,
        arch=wanted.arch,
        wants_gpu=wanted.gpus > 0,
        gpu_model=wanted.gpu_model,
        market=market,
    )


def _fitting(pool: Pool, wanted: Requirements) -> Iterator[Offer]:
    found = iter(pool)
    for index, need in enumerate(needed(wanted)):
        if need:  # one after the other: most types lack the first thing that is compared, or the second
            found = _with(found, index, need)
    return (each.offer for each in found)


def _with(candidates: Iterator[Candidate], index: int, need: float) -> Iterator[Candidate]:
    return (each for each in candidates if each.figures[index] >= need)


def _explain(pool: Pool, wanted: Requirements) -> str:
    nearest = min(pool, key=lambda each: _distance(each, wanted))
    lacks = _shortfalls(nearest, wanted)
    needs = " and ".join(each.setting(wanted) for each, _ in lacks)
    has = " and ".join(f"{plain(have)} {each.unit}" for each, have in lacks)
    return (
        f"needs {needs}; the nearest allowed type, {nearest.offer.instance_type.name}, "
        f"has {has}{_others(nearest, wanted)}"
    )


def _distance(each: Candidate, wanted: Requirements) -> tuple[int, float, str]:
    """How far a type is from fitting: first how many things it lacks, then by what factor."""
    lacks = _shortfalls(each, wanted)
    factor = sum(what.need(wanted) / max(1.0, have) for what, have in lacks)
    return (len(lacks), factor, each.offer.instance_type.name)


def _shortfalls(each: Candidate, wanted: Requirements) -> list[tuple[Dimension, float]]:
    """What a type lacks, and how much of it is there."""
    compared = zip(DIMENSIONS, needed(wanted), each.figures, strict=True)
    return [(what, have) for what, need, have in compared if have < need]


def _others(nearest: Candidate, wanted: Requirements) -> str:
    """Tell what else was asked for, if that is why a larger type was not the nearest."""
    lacking = [what for what, _ in _shortfalls(nearest, wanted)]
    asked = [
        each.setting(wanted)
        + (f" gpu_model={wanted.gpu_model}" if each.resource == "gpu" and wanted.gpu_model else "")
        for each in DIMENSIONS
        if each.special and each.is_asked_for(wanted) and each not in lacking
    ]
    if wanted.instance_types:
        asked.append(f"types {', '.join(wanted.instance_types)}")
    return f" (with {' and '.join(asked)})" if asked else ""
