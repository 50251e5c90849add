"""Whether a machine that has done a job is one for the next."""

from __future__ import annotations

from dataclasses import replace

from snakemake_executor_ec2.model import InstanceType, Machine, Market, Offer, Price, Requirements
from snakemake_executor_ec2.sizing.reuse import Used, fits
from tests.fakes.cloud import instance_type
from tests.unit.machines.launchers import needs

TYPE: InstanceType = instance_type("m7gd.large", 2, 8, nvme_gb=118)
PRICE = Price(usd_per_hour=0.1, source="made up")
FRESH = Offer(instance_type=TYPE, market=Market.ON_DEMAND, zones=("a",), price=PRICE)
MACHINE = Machine(
    id="i-1",
    instance_type=TYPE.name,
    zone="a",
    market=Market.ON_DEMAND,
    price=PRICE,
    disk_gib=20,
    launched_at=0.0,
)


def _used(launched_for: Requirements) -> Used:
    return Used(
        machine=MACHINE, type=TYPE, launched_for=launched_for, rule="a", free_mib=20_000, ends_at=7 * 86_400.0
    )


def test_local_disks_are_only_where_a_job_has_asked_for_them() -> None:
    """The working directory of a machine that was launched for a job without is on its other disk."""
    with_disks, without = needs(nvme_gb=100), needs()

    assert fits(_used(with_disks), with_disks, FRESH, 60.0)
    assert fits(_used(with_disks), without, FRESH, 60.0)
    assert fits(_used(without), without, FRESH, 60.0)
    assert not fits(_used(without), with_disks, FRESH, 60.0)


def test_a_job_gets_the_disk_that_it_asks_for() -> None:
    """Its throughput and IOPS, if its rule or the run asks for any."""
    fast = replace(MACHINE, disk_mbps=500, disk_iops=4000)
    for wanted, usual_fits in ((needs(staged_mib=10**6), True), (needs(disk_mbps=500), False)):
        assert fits(_used(wanted), wanted, FRESH, 60.0) is usual_fits
        assert fits(replace(_used(wanted), machine=fast), wanted, FRESH, 60.0)
    slower = needs(disk_iops=5000)
    assert not fits(replace(_used(slower), machine=fast), slower, FRESH, 60.0)
