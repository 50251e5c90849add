"""How fast a machine's root volume is made, what that costs, and what EC2 would refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_ec2.errors import ConfigurationError, NoFittingInstance
from snakemake_executor_ec2.model import Arch, Image, Market, Offer, Price, WithDisk
from snakemake_executor_ec2.sizing import disk
from snakemake_executor_ec2.sizing.cost import disk_usd_per_hour, usd_per_hour
from snakemake_executor_ec2.sizing.requirements import requirements
from snakemake_executor_ec2.sizing.select import select
from tests.fakes.cloud import instance_type
from tests.unit.sizing.types import all_types, full, names, needs

IMAGE = Image(ami="ami-1", name="image", arch=Arch.X86_64, root_device="/dev/xvda", root_gib=8)


def offer(usd: float | None = 0.1, ebs_mbps: float = 1250.0) -> Offer:
    price = None if usd is None else Price(usd_per_hour=usd, source="made up")
    row = instance_type("m7i.large", 2, 8, ebs_mbps=ebs_mbps)
    return Offer(instance_type=row, market=Market.ON_DEMAND, zones=("a",), price=price)


def speed(on: Offer, **wanted: int) -> tuple[int, int]:
    made = disk.volume(needs(**wanted), IMAGE, on)
    return made.disk_mbps, made.disk_iops


@pytest.mark.parametrize(
    ("staged_mib", "on", "mbps"),
    [
        (0, offer(), 125),
        (7500, offer(), 125),
        (7501, offer(), 250),
        (20_000, offer(0.5), 375),
        (1_000_000, offer(), 250),  # 1 cent an hour pays 184 MiB/s more
        (1_000_000, offer(2.0), 750),
        (1_000_000, offer(2.0, ebs_mbps=593.75), 500),
        (1_000_000, offer(2.0, ebs_mbps=81.25), 125),
        (1_000_000, offer(2.0, ebs_mbps=0.0), 125),
        (1_000_000, offer(None), 125),
    ],
)
def test_a_disk_that_suits_the_inputs(staged_mib: int, on: Offer, mbps: int) -> None:
    """They can be read in a minute, if the machine can and a tenth of its price pays it."""
    assert speed(on, staged_mib=staged_mib) == (mbps, 3000)
    assert speed(on, staged_mib=staged_mib, nvme_gb=100) == (125, 3000)


@given(st.integers(0, 10**7), st.floats(0.01, 100), st.sampled_from([0.0, 81.25, 593.75, 1250.0, 12500.0]))
def test_nobody_pays_much_for_what_nobody_asked_for(staged_mib: int, usd: float, ebs_mbps: float) -> None:
    """Never more than a tenth of the machine's price, and never what EC2 would refuse."""
    made = disk.volume(needs(staged_mib=staged_mib), IMAGE, offer(usd, ebs_mbps))
    disk.check_speed(made.disk_mbps, made.disk_iops)
    same = disk_usd_per_hour(WithDisk(disk_gib=made.disk_gib))
    assert disk_usd_per_hour(made) - same <= 0.1 * usd * (1 + 1e-9)


def test_what_is_asked_for() -> None:
    """A throughput brings its IOPS; a rule's own go before the run's."""
    assert speed(offer(), disk_mbps=1000, staged_mib=10**6) == (1000, 4000)
    assert speed(offer(), disk_iops=4000, staged_mib=10**6) == (250, 4000)

    def asked(own: dict[str, object], default: tuple[int, int]) -> tuple[int, int]:
        found = requirements(threads=1, resources=own, default_speed=default)
        return found.disk_mbps, found.disk_iops

    assert asked({}, (250, 5000)) == (250, 5000)
    assert asked({"ec2_disk_mbps": 2000}, (250, 5000)) == (2000, 8000)
    assert asked({"ec2_disk_mbps": 0, "ec2_disk_iops": "6000"}, (250, 5000)) == (0, 6000)


@pytest.mark.parametrize(
    ("own", "why"),
    [
        ({"ec2_disk_mbps": 124}, "ec2_disk_mbps=124: EC2's gp3 volumes have 125 to 2000"),
        ({"ec2_disk_mbps": 2001}, "ec2_disk_mbps=2001"),
        ({"ec2_disk_iops": 80_001}, "ec2_disk_iops=80001: EC2's gp3 volumes have 3000 to 80000"),
        (
            {"ec2_disk_mbps": 1000, "ec2_disk_iops": 3999},
            "ec2_disk_mbps=1000 needs ec2_disk_iops=4000 or more, not 3999",
        ),
    ],
)
def test_what_ec2_would_refuse(own: dict[str, object], why: str) -> None:
    """It is refused here, with the limit."""
    with pytest.raises(ConfigurationError, match=why):
        requirements(threads=1, resources=own)


def test_a_small_disk_has_few_iops() -> None:
    """500 a GiB; the message says which disk_mb would do."""
    with pytest.raises(
        ConfigurationError, match=r"16000 IOPS.* has 13 GiB.* disk_mb=(\d+) or more"
    ) as refused:
        speed(offer(), disk_iops=16_000)
    enough = int(str(refused.value).partition("disk_mb=")[2].split()[0])
    assert speed(offer(), disk_iops=16_000, disk_mb=enough) == (125, 16_000)


def test_what_it_costs() -> None:
    """AWS's example: 500 MiB/s and 5,000 IOPS for a month are $15 and $10 beside the size."""
    made = WithDisk(disk_gib=100, disk_mbps=500, disk_iops=5000)
    assert disk_usd_per_hour(made) * 730 == pytest.approx(8 + 15 + 10)
    price = Price(usd_per_hour=1.0, source="made up")
    assert usd_per_hour(price, made) == pytest.approx(1.005 + 33 / 730)


def test_a_machine_that_can_use_it() -> None:
    """Types whose EBS bandwidth is below what is asked for are left out; the refusal names the nearest."""
    some = ("c5.large", "m7i.large", "m7i.24xlarge")
    bandwidths = {each.name: each.ebs_mbps for each in all_types() if each.name in some}
    assert bandwidths == {"c5.large": 593.75, "m7i.large": 1250.0, "m7i.24xlarge": 3750.0}

    def found(mbps: int) -> set[str]:
        return set(names(select(full(), needs(disk_mbps=mbps, instance_types=some))))

    assert [found(500), found(1000), found(1500)] == [{*some}, {*some[1:]}, {some[2]}]
    with pytest.raises(NoFittingInstance, match=r"needs ec2_disk_mbps=1500; .* has 1192 MiB/s of EBS"):
        select(full(), needs(disk_mbps=1500, instance_types=some[:2]))
