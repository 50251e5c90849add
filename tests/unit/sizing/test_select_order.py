"""What nobody gets unasked, the order of offers, and how a refusal reads."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from snakemake_executor_ec2.errors import NoFittingInstance
from snakemake_executor_ec2.model import Arch, Price, Requirements
from snakemake_executor_ec2.sizing.catalogue import Catalogue
from snakemake_executor_ec2.sizing.select import select
from tests.fakes.cloud import instance_type as made_up
from tests.unit.sizing.types import ZONES, full, is_unsuited, names, needs

# --- what nobody asked for ------------------------------------------------------------------


def test_special_types_only_when_asked() -> None:
    """Without a pattern, no burstable, bare-metal, old, accelerated or GPU type is offered."""
    for each in select(full(), needs()):
        row = each.instance_type
        assert not any((row.burstable, row.bare_metal, row.accelerators))
        assert row.current_generation
        assert row.gpus == 0


@pytest.mark.parametrize(
    "wanted",
    [
        needs(threads=96),
        needs(threads=192),
        needs(gpus=1),
        needs(gpus=8, gpu_mem_mb=30_000),
        needs(arch=Arch.ARM64),
    ],
)
def test_types_that_would_not_serve(wanted: Requirements) -> None:
    """Slow disks, no driver in AWS's image, no start with Amazon Linux: cheap, and not offered unasked."""
    assert not [name for name in names(select(full(), wanted)) if is_unsuited(name)]


@pytest.mark.parametrize(
    "pattern",
    ["t3.*", "t3.large", "c5.metal", "m3.*", "inf2.xlarge", "g4dn.xlarge", "g6f.large", "hpc7a.*", "p3dn.*"],
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


def test_gpu_memory_as_it_is_sold() -> None:
    """What is sold as a GPU of 24 GB has 24,000 MB; a job that needs more gets a larger one."""
    enough = select(full(), needs(gpus=1, gpu_model="L4", gpu_mem_mb=24_000))
    assert {each.instance_type.gpu_model for each in enough} == {"L4"}
    more = select(full(), needs(gpus=1, gpu_mem_mb=24_001))
    assert not {each.instance_type.gpu_model for each in more} & {"L4", "A10G", "T4"}


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
            needs(gpus=1, gpu_model="L4", gpu_mem_mb=24_001),
            "needs gpu_mem_mb=24001; the nearest allowed type, g6.12xlarge, has 24000 MB on each GPU "
            "(with gpu=1 gpu_model=L4)",
        ),
        (
            needs(nvme_gb=500, instance_types=("m6id.large",)),
            "needs ec2_nvme_gb=500; the nearest allowed type, m6id.large, has 118 GB of local NVMe "
            "(with types m6id.large)",
        ),
        (
            needs(network_gbps=12.5, nvme_gb=100, instance_types=("m6id.large", "m7i.large")),
            "needs ec2_network_gbps=12.5; the nearest allowed type, m6id.large, has 0.781 Gbit/s "
            "(with ec2_nvme_gb=100 and types m6id.large, m7i.large)",
        ),
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
