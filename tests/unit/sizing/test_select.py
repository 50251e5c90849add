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
from moto.ec2.models.instance_types import INSTANCE_TYPES

from snakemake_executor_ec2.aws.catalogue import instance_type
from snakemake_executor_ec2.errors import NoFittingInstance
from snakemake_executor_ec2.model import Arch, InstanceType, Market, Offer, Price, Requirements, SpotUse
from snakemake_executor_ec2.sizing.catalogue import Catalogue, Limits
from snakemake_executor_ec2.sizing.select import best, select
from tests.fakes.cloud import instance_type as made_up

ZONES = ("us-east-1a", "us-east-1b")


@cache
def all_types() -> tuple[InstanceType, ...]:
    found = (instance_type(row) for row in INSTANCE_TYPES.values())
    return tuple(row for row in found if row is not None)


@cache
def all_prices() -> dict[tuple[str, str], Price]:
    """Synthetic and different for each type, so that there is one cheapest."""
    dice = random.Random(7)  # noqa: S311  (not a secret)
    return {
        (each.name, ""): Price(
            usd_per_hour=each.vcpus * 0.03 + each.mem_mib / 1024 * 0.004 + dice.uniform(0, 0.5),
            source="made up",
        )
        for each in all_types()
    }


@cache
def full() -> Catalogue:
    return Catalogue(all_types(), zones=lambda _: ZONES, prices=all_prices(), region="us-east-1")


def needs(**more: object) -> Requirements:
    fields: dict[str, object] = {"threads": 1, "mem_mb": 1000, "disk_mb": 1000, **more}
    return Requirements(**fields)  # type: ignore[arg-type]


def names(offers: tuple[Offer, ...]) -> list[str]:
    return [each.instance_type.name for each in offers]


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
        if wanted.gpu_model and wanted.gpu_model.lower() not in row.gpu_model.lower():
            continue
        odd = [row.burstable, row.bare_metal, not row.current_generation, row.accelerators]
        odd += [row.gpu_fraction < 1, row.gpus > 0 and wanted.gpus == 0]
        for pattern in wanted.instance_types or ("*",):
            if fnmatchcase(row.name, pattern):
                plain.setdefault(pattern, []).append((odd.count(True), row))
    for rows in plain.values():
        least = min(count for count, _ in rows)
        for count, row in rows:
            there = (row.mem_mib * 95 // 100 - 556) * 2**20
            fits = wanted.threads <= row.vcpus and wanted.gpus <= row.gpus
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
    arch=st.sampled_from(Arch),
    instance_types=PATTERNS,
)


@settings(max_examples=2000, deadline=None)
@given(REQUIREMENTS, st.sampled_from([None, "L4", "a100", "T4"]))
def test_the_cheapest_that_fits(wanted: Requirements, gpu_model: str | None) -> None:
    """The first offer is what brute force finds; where it finds none, the refusal says why."""
    if wanted.gpus:
        wanted = needs(**{**vars(wanted), "gpu_model": gpu_model})
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
    start = time.perf_counter()
    for job in jobs:
        select(catalogue, job)
    assert time.perf_counter() - start < 2


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
            odd += [row.gpu_fraction < 1, row.gpus > 0]
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
    with pytest.raises(NoFittingInstance, match=r"more than --ec2-max-price 0\.001"):
        select(limited(max_usd_per_hour=0.001), needs())
    with pytest.raises(NoFittingInstance, match=r"within --ec2-max-price 0\.3"):
        select(limited(max_usd_per_hour=0.3), needs(mem_mb=500_000))


# --- what nobody asked for ------------------------------------------------------------------


def test_special_types_only_when_asked() -> None:
    """Without a pattern, no burstable, bare-metal, old, accelerated or GPU type is offered."""
    for each in select(full(), needs()):
        row = each.instance_type
        assert not any((row.burstable, row.bare_metal, row.accelerators))
        assert row.current_generation
        assert row.gpus == 0


@pytest.mark.parametrize(
    "pattern", ["t3.*", "t3.large", "c5.metal", "m3.*", "inf2.xlarge", "g4dn.xlarge", "g6f.large"]
)
def test_special_types_when_asked(pattern: str) -> None:
    """A pattern that names nothing plainer gives such types."""
    offered = names(select(full(), needs(instance_types=(pattern,))))
    assert offered
    assert all(fnmatchcase(name, pattern) for name in offered)


def test_a_wide_pattern_asks_for_nothing_special() -> None:
    """`m7i.*` does not mean bare metal, and `*` does not mean burstable."""
    assert not any("metal" in name for name in names(select(full(), needs(instance_types=("m7i.*",)))))
    assert names(select(full(), needs(instance_types=("*",)))) == names(select(full(), needs()))


def test_each_pattern_counts_for_itself() -> None:
    """A list may ask for burstable types beside others."""
    offered = names(select(full(), needs(instance_types=("t3.*", "m7i.large"))))
    assert "m7i.large" in offered
    assert "t3.medium" in offered


def test_a_part_of_a_gpu_is_not_a_gpu() -> None:
    """A job that asks for a GPU gets a whole one; g6f has an eighth."""
    assert not any(name.startswith(("g6f", "gr6f")) for name in names(select(full(), needs(gpus=1))))


@pytest.mark.parametrize("model", ["l40s", "L40S", "NVIDIA-L40S", "nvidia_l40s"])
def test_gpu_model(model: str) -> None:
    """A GPU's model is found however it is written."""
    offers = select(full(), needs(gpus=1, gpu_model=model))
    assert {each.instance_type.gpu_model for each in offers} == {"L40S"}


def test_gpu_model_of_an_older_generation() -> None:
    """A model that only an older generation has is found without naming that generation."""
    assert names(select(full(), needs(gpus=1, gpu_model="A10G")))[0].startswith("g5.")


def test_capacity_blocks_are_not_for_sale() -> None:
    """A type that is only sold as reserved capacity is never offered."""
    types = [made_up("p9.large", 2, 8, markets=frozenset()), made_up("m7i.large", 2, 8)]
    catalogue = Catalogue(types, zones=lambda _: ZONES)
    assert names(select(catalogue, needs())) == ["m7i.large"]


# --- order ----------------------------------------------------------------------------------


def test_unknown_prices_rank_by_size_and_come_last() -> None:
    """Types without a price follow those with one, smallest first, and say that they have none."""
    types = [
        made_up("a.large", 8, 32),
        made_up("b.large", 2, 16),
        made_up("c.large", 2, 8),
        made_up("d.large", 64, 512),
    ]
    prices = {("d.large", ""): Price(usd_per_hour=9.0, source="made up")}
    offers = select(Catalogue(types, zones=lambda _: ZONES, prices=prices), needs())
    assert names(offers) == ["d.large", "c.large", "b.large", "a.large"]
    assert [each.price is None for each in offers] == [False, True, True, True]


def test_equal_prices_rank_by_size_then_name() -> None:
    """The order never depends on the order of the catalogue."""
    types = [made_up("b.large", 2, 8), made_up("a.large", 2, 8), made_up("c.large", 2, 4)]
    price = Price(usd_per_hour=1.0, source="made up")
    prices = {(each.name, ""): price for each in types}
    for order in (types, types[::-1]):
        catalogue = Catalogue(order, zones=lambda _: ZONES, prices=prices)
        assert names(select(catalogue, needs())) == ["c.large", "a.large", "b.large"]


def test_types_without_a_zone_are_left_out() -> None:
    """A type that no zone of ours offers can't be launched."""
    types = [made_up("a.large", 2, 8), made_up("b.large", 2, 8)]
    catalogue = Catalogue(types, zones=lambda name: ZONES if name == "b.large" else ())
    assert names(select(catalogue, needs())) == ["b.large"]


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            needs(mem_mb=90_000_000),
            "needs mem_mb=90000000; the nearest allowed type, u7in-32tb.224xlarge, "
            "has 33424570 MB that a job can use",
        ),
        (
            needs(threads=999),
            "needs threads=999; the nearest allowed type, u7i-12tb.224xlarge, has 896 vCPUs",
        ),
        (needs(gpus=9, gpu_model="T4"), "needs gpu=9; the nearest allowed type, g4dn.12xlarge, has 4 GPUs"),
        (
            needs(mem_mb=64_000, instance_types=("t3.*",)),
            "needs mem_mb=64000; the nearest allowed type, t3.2xlarge, has 32058 MB that a job can use "
            "(with types t3.*)",
        ),
        (
            needs(instance_types=("m7i.larg",)),
            "unknown instance type 'm7i.larg' in us-east-1; did you mean m7i.large?",
        ),
        (
            needs(instance_types=("m7ii.*",)),
            "no instance type matches 'm7ii.*' in us-east-1; did you mean m7i.*?",
        ),
        (
            needs(arch=Arch.ARM64, instance_types=("m7i.*",)),
            "no instance type that 'm7i.*' allows has the architecture arm64; ec2_arch chooses another one",
        ),
        (needs(gpus=1, instance_types=("m7i.*",)), "no instance type that 'm7i.*' allows has a GPU"),
        (
            needs(gpus=1, gpu_model="H1000", instance_types=("p*",)),
            "needs gpu_model='H1000'; the allowed types have A100, B200, B300, H100, H200, V100",
        ),
    ],
)
def test_refusals(wanted: Requirements, said: str) -> None:
    """What fits nowhere is refused in one sentence with the nearest type and what it lacks."""
    with pytest.raises(NoFittingInstance) as caught:
        select(full(), wanted)
    assert str(caught.value) == said


def test_no_zone_at_all() -> None:
    """Types that none of our zones has are refused by name."""
    catalogue = Catalogue([made_up("a.large", 2, 8)], zones=lambda _: ())
    with pytest.raises(NoFittingInstance, match=r"a\.large.*--ec2-subnets"):
        select(catalogue, needs())
