"""Which types a job gets, on the catalogue of about 1,400 types that moto ships."""

from __future__ import annotations

import random
import time
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snakemake_executor_ec2.errors import NoFittingInstance
from snakemake_executor_ec2.model import Arch, InstanceType, Market, Price, Requirements, SpotUse
from snakemake_executor_ec2.sizing.catalogue import Catalogue, Limits
from snakemake_executor_ec2.sizing.select import best, select
from tests.fakes.cloud import instance_type as made_up
from tests.unit.sizing.types import ZONES, all_prices, all_types, full, is_unsuited, needs

# --- the chosen type is the cheapest that fits ----------------------------------------------


def cheapest_by_brute_force(wanted: Requirements) -> str | None:
    """An independent reading of the rules, without pools, ranks or memos."""
    best: tuple[float, str] | None = None
    plain: dict[str, list[tuple[int, InstanceType]]] = {}
    for row in all_types():
        if wanted.arch not in row.arches or Market.ON_DEMAND not in row.markets:
            continue
        if wanted.gpus and not row.gpus:
            continue
        if wanted.gpu_model and wanted.gpu_model.lower() not in row.gpu_model.lower().split():
            continue
        odd = [row.burstable, row.bare_metal, not row.current_generation, row.accelerators]
        odd += [row.gpu_fraction < 1, row.gpus > 0 and wanted.gpus == 0, is_unsuited(row.name)]
        for pattern in wanted.instance_types or ("*",):
            if fnmatchcase(row.name, pattern):
                plain.setdefault(pattern, []).append((odd.count(True), row))
    for rows in plain.values():
        least = min(count for count, _ in rows)
        for count, row in rows:
            there = (row.mem_mib * 95 // 100 - 556) * 2**20
            fits = wanted.threads <= row.vcpus and wanted.gpus <= row.gpus
            fits = fits and (not row.ebs_mbps or wanted.disk_mbps * 2**20 <= row.ebs_mbps * 10**6)
            fits = fits and wanted.nvme_gb <= row.nvme_gb and wanted.network_gbps <= row.network_gbps
            if wanted.gpu_mem_mb:
                # What EC2 calls 22888 MiB are 24 GB.
                fits = fits and (wanted.gpu_mem_mb - 1) * 10**6 < row.gpu_mem_mib / row.gpus * 2**20
            if count == least and fits and wanted.mem_mb * 10**6 <= there:
                price = all_prices()[row.name, ""].usd_per_hour
                best = min(best or (price, row.name), (price, row.name))
    return best[1] if best else None


PATTERNS = st.sampled_from(
    [
        (),
        ("m7i.*",),
        ("c*",),
        ("t3.*", "m7i.large"),
        ("*.2xlarge",),
        ("g*",),
        ("*.metal*",),
        ("r5.*",),
        ("*",),
    ]
)
REQUIREMENTS = st.builds(
    Requirements,
    threads=st.one_of(st.integers(1, 16), st.integers(1, 1000)),
    mem_mb=st.one_of(st.integers(1, 64_000), st.integers(1, 40_000_000)),
    disk_mb=st.just(1000),
    gpus=st.sampled_from([0, 0, 0, 1, 4, 8]),
    nvme_gb=st.sampled_from([0, 0, 0, 1, 100, 118, 119, 1000, 7500, 60_000, 1_000_000]),
    network_gbps=st.sampled_from([0.0, 0.0, 0.0, 0.781, 0.79, 5.0, 12.5, 50.0, 400.0, 10_000.0]),
    disk_mbps=st.sampled_from([0, 0, 0, 125, 566, 567, 1192, 1193, 2000]),
    arch=st.sampled_from(Arch),
    instance_types=PATTERNS,
)


@settings(max_examples=500, deadline=None)
@given(
    REQUIREMENTS,
    st.sampled_from([None, "L4", "a100", "T4"]),
    st.sampled_from([0, 0, 16_000, 24_000, 24_001, 48_000, 80_000, 500_000]),
)
def test_the_cheapest_that_fits(wanted: Requirements, gpu_model: str | None, gpu_mem_mb: int) -> None:
    """The first offer is what brute force finds; where it finds none, the refusal says why."""
    if wanted.gpus:
        wanted = needs(**{**vars(wanted), "gpu_model": gpu_model, "gpu_mem_mb": gpu_mem_mb})
    expected = cheapest_by_brute_force(wanted)
    if expected is None:
        with pytest.raises(NoFittingInstance):
            select(full(), wanted)
        return
    offers = select(full(), wanted)
    chosen = offers[0].instance_type
    assert chosen.name == expected


@settings(max_examples=100, deadline=None)
@given(REQUIREMENTS)
def test_all_offers_fit_and_are_ranked(wanted: Requirements) -> None:
    """Every offer has what was asked for and zones to launch in, and none is cheaper than the one before."""
    try:
        offers = select(full(), wanted)
    except NoFittingInstance:
        return
    for each in offers:
        row = each.instance_type
        assert row.vcpus >= wanted.threads
        assert row.gpus >= wanted.gpus
        assert wanted.arch in row.arches
        assert each.zones == ZONES
    prices = [each.price.usd_per_hour for each in offers if each.price]
    assert prices == sorted(prices)


def test_fast_enough() -> None:
    """Ten thousand different jobs are placed on the full catalogue in under 2 s."""
    dice = random.Random(1)  # noqa: S311  (not a secret)
    jobs = [
        needs(threads=dice.randint(1, 64), mem_mb=dice.randint(1, 500_000), runtime_min=number + 1)
        for number in range(10_000)
    ]
    catalogue = Catalogue(all_types(), zones=lambda _: ZONES, prices=all_prices())
    start = time.process_time()
    for job in jobs:
        select(catalogue, job)
    assert time.process_time() - start < 2


# --- spot -----------------------------------------------------------------------------------


@cache
def spot_prices() -> dict[tuple[str, str], Price]:
    """Synthetic, other ones in each zone, some above on-demand, some types in no zone."""
    dice = random.Random(11)  # noqa: S311  (not a secret)
    return {
        (each.name, zone): Price(
            usd_per_hour=all_prices()[each.name, ""].usd_per_hour * dice.uniform(0.2, 1.3), source="made up"
        )
        for each in all_types()
        for zone in ZONES
        if dice.random() < 0.8
    }


@cache
def with_spot() -> Catalogue:
    return Catalogue(all_types(), zones=lambda _: ZONES, prices=all_prices(), spot_prices=spot_prices)


def fitting_by_brute_force(wanted: Requirements, market: Market) -> list[InstanceType]:
    """As `cheapest_by_brute_force`, all that fit, for jobs without patterns and GPUs."""
    found: list[tuple[int, InstanceType]] = []
    for row in all_types():
        if wanted.arch in row.arches and market in row.markets:
            odd = [row.burstable, row.bare_metal, not row.current_generation, row.accelerators]
            odd += [row.gpu_fraction < 1, row.gpus > 0, is_unsuited(row.name)]
            found.append((odd.count(True), row))
    least = min(count for count, _ in found)
    return [
        row
        for count, row in found
        if count == least
        and row.vcpus >= wanted.threads
        and (row.mem_mib * 95 // 100 - 556) * 2**20 >= wanted.mem_mb * 10**6
    ]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 96),
    st.integers(1, 600_000),
    st.one_of(st.none(), st.integers(1, 10_000)),
    st.sampled_from(SpotUse),
    st.sampled_from(Arch),
)
def test_the_least_expected_cost(
    threads: int, mem_mb: int, runtime_min: int | None, spot: SpotUse, arch: Arch
) -> None:
    """Over both markets, the first offer is the one of least expected cost, by a formula of our own."""
    wanted = needs(threads=threads, mem_mb=mem_mb, runtime_min=runtime_min, spot=spot, arch=arch)
    usual = fitting_by_brute_force(wanted, Market.ON_DEMAND)
    if not usual:
        return
    hours = 1.0 if runtime_min is None else runtime_min / 60
    cheapest = min(all_prices()[row.name, ""].usd_per_hour for row in usual)
    costs: dict[tuple[str, str], float] = {}
    if spot is not SpotUse.ONLY:
        costs |= {(row.name, ""): all_prices()[row.name, ""].usd_per_hour * hours for row in usual}
    if spot is not SpotUse.NEVER:
        alive = 2.718281828459045 ** (-0.05 * hours)
        on_spot = fitting_by_brute_force(wanted, Market.SPOT)
        prices = {
            (row.name, zone): spot_prices()[row.name, zone].usd_per_hour
            for row in on_spot
            for zone in ZONES
            if (row.name, zone) in spot_prices()
        }
        for key, price in prices.items():
            if price < cheapest or (spot is SpotUse.ONLY and price == min(prices.values())):
                first = price * (1 - alive) / 0.05
                second = (1 - alive) * (first + (1 - alive) * cheapest * hours)
                costs[key] = first + second
    offers = select(with_spot(), wanted)
    zone = offers[0].zones[0] if offers[0].market is Market.SPOT else ""
    assert costs[offers[0].instance_type.name, zone] == pytest.approx(min(costs.values()))
    assert len(offers) == len(costs)
    assert best(with_spot(), wanted) == offers[0]


@pytest.mark.parametrize(("runtime_min", "market"), [(10, Market.SPOT), (6000, Market.ON_DEMAND)])
def test_long_jobs_prefer_on_demand(runtime_min: int, market: Market) -> None:
    """The risk to lose its work grows with a job's runtime, until spot is no longer worth it."""
    assert best(with_spot(), needs(runtime_min=runtime_min, spot=SpotUse.PREFER)).market is market


def test_new_spot_prices_count() -> None:
    """Prices that have changed since the last job change the choice."""
    types = [
        made_up("a.large", 2, 8, markets=frozenset(Market)),
        made_up("b.large", 2, 8, markets=frozenset(Market)),
    ]
    now = [{("a.large", "z"): 0.1, ("b.large", "z"): 0.2}, {("a.large", "z"): 0.3, ("b.large", "z"): 0.2}]
    answers = [
        {key: Price(usd_per_hour=usd, source="made up") for key, usd in prices.items()} for prices in now
    ]
    current = [answers[0]]
    catalogue = Catalogue(types, zones=lambda _: ("z",), spot_prices=lambda: current[0])
    assert best(catalogue, needs(spot=SpotUse.ONLY)).instance_type.name == "a.large"
    current[0] = answers[1]
    assert best(catalogue, needs(spot=SpotUse.ONLY)).instance_type.name == "b.large"


def test_fast_enough_with_spot() -> None:
    """Ten thousand different jobs over both markets take under 2 s, too."""
    dice = random.Random(2)  # noqa: S311  (not a secret)
    jobs = [
        needs(
            threads=dice.randint(1, 64),
            mem_mb=dice.randint(1, 500_000),
            runtime_min=number + 1,
            spot=SpotUse.PREFER,
        )
        for number in range(10_000)
    ]
    start = time.process_time()
    for job in jobs:
        best(with_spot(), job)
    assert time.process_time() - start < 2


# --- limits of the run ----------------------------------------------------------------------


def limited(**more: Any) -> Catalogue:
    return Catalogue(all_types(), zones=lambda _: ZONES, prices=all_prices(), limits=Limits(**more))


def test_excluded_types() -> None:
    """Patterns leave types out; where they leave nothing, the sentence says which."""
    first = best(full(), needs()).instance_type
    assert best(limited(exclude=(f"{first.family}.*",)), needs()).instance_type.family != first.family
    with pytest.raises(NoFittingInstance, match=r"--ec2-exclude-types m7i\.\* leave no instance type"):
        select(limited(exclude=("m7i.*",)), needs(instance_types=("m7i.large",)))


def test_free_tier() -> None:
    """Only types of the free tier, burstable ones too; a job that is too large is told so."""
    assert all(each.instance_type.free_tier for each in select(limited(free_tier=True), needs(mem_mb=300)))
    with pytest.raises(NoFittingInstance, match="within --ec2-free-tier"):
        select(limited(free_tier=True), needs(mem_mb=500_000))


def test_max_price() -> None:
    """Nothing dearer is offered; where all is dearer, the cheapest and its price are named."""
    offers = select(limited(max_usd_per_hour=0.3), needs())
    assert all(each.price and each.price.usd_per_hour <= 0.3 for each in offers)
    with pytest.raises(
        NoFittingInstance,
        match=r"the cheapest allowed type is \S+, at \$0\.\d+ an hour, more than --ec2-max-price 0\.001",
    ):
        select(limited(max_usd_per_hour=0.001), needs())
    with pytest.raises(NoFittingInstance, match=r"with mem_mb=500000, .* more than --ec2-max-price 0\.3"):
        select(limited(max_usd_per_hour=0.3), needs(mem_mb=500_000))
