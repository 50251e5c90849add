"""Which limit counts a machine, and who may launch beside it."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.local.wrap import quotas as embedded
from snakemake_executor_ec2.model import Market
from snakemake_executor_ec2.sizing.quotas import PROBE_S, Quota, QuotaLimiter, quota_of
from tests.fakes.clock import FakeClock
from tests.fakes.cloud import instance_type
from tests.unit.sizing.types import all_types

LARGE = instance_type("m7i.large", 2, 8)
XLARGE = instance_type("m7i.xlarge", 4, 16)
STANDARD = Quota("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances")


@pytest.mark.parametrize(
    ("name", "market", "code"),
    [
        ("m7i.large", Market.ON_DEMAND, "L-1216C47A"),
        ("t3.micro", Market.SPOT, "L-34B43A08"),
        ("im4gn.large", Market.ON_DEMAND, "L-1216C47A"),
        ("g6.xlarge", Market.ON_DEMAND, "L-DB2E81BA"),
        ("gr6.4xlarge", Market.SPOT, "L-3819A6DF"),
        ("p5.48xlarge", Market.ON_DEMAND, "L-417A185B"),
        ("p5en.48xlarge", Market.SPOT, "L-C4BD4855"),
        ("p4d.24xlarge", Market.SPOT, "L-7212CCBC"),
        ("p6-b200.48xlarge", Market.ON_DEMAND, "L-417A185B"),
        ("p6-b200.48xlarge", Market.SPOT, None),
        ("inf2.xlarge", Market.ON_DEMAND, "L-1945791B"),
        ("inf1.xlarge", Market.SPOT, "L-B5D1601B"),
        ("trn1.2xlarge", Market.ON_DEMAND, "L-2C3B7624"),
        ("trn1n.32xlarge", Market.SPOT, "L-6B0D517C"),
        ("f2.6xlarge", Market.ON_DEMAND, "L-74FC7D96"),
        ("f1.2xlarge", Market.SPOT, "L-88CF9481"),
        ("x2idn.16xlarge", Market.ON_DEMAND, "L-7295265B"),
        ("x8g.large", Market.SPOT, "L-E3A00192"),
        ("dl1.24xlarge", Market.ON_DEMAND, "L-6E869C2A"),
        ("dl1.24xlarge", Market.SPOT, "L-85EED4F7"),
        ("hpc7a.96xlarge", Market.ON_DEMAND, "L-F7808C92"),
        ("hpc7a.96xlarge", Market.SPOT, None),
        ("u7i-12tb.224xlarge", Market.ON_DEMAND, "L-43DA4232"),
        ("u-6tb1.112xlarge", Market.SPOT, None),
        ("mac2.metal", Market.ON_DEMAND, None),
    ],
)
def test_the_limit_of_a_type(name: str, market: Market, code: str | None) -> None:
    """The codes of EC2's documentation; None for what is not sold so, or what it does not tell."""
    found = quota_of(name, market)
    assert (found.code if found else None) == code


def test_the_same_as_the_embedded_cloud_enforces() -> None:
    """Two independent readings agree on all types."""
    for each in all_types():
        for market in Market:
            ours, theirs = quota_of(each.name, market), embedded.quota_of(each.name, market.value)
            assert (ours.code if ours else None) == (theirs.code if theirs else None), each.name


def test_open_until_ec2_refuses() -> None:
    """What is in use when EC2 refuses is the limit; a machine that ends makes room."""
    gate = QuotaLimiter(FakeClock())
    for _ in range(2):
        assert gate.reserve(LARGE, Market.ON_DEMAND)
        gate.launched(LARGE, Market.ON_DEMAND)
    assert gate.reserve(LARGE, Market.ON_DEMAND)
    gate.refused(LARGE, Market.ON_DEMAND)
    assert gate.in_use(STANDARD) == 4
    assert not gate.reserve(LARGE, Market.ON_DEMAND)
    gate.release(LARGE, Market.ON_DEMAND)
    assert not gate.reserve(XLARGE, Market.ON_DEMAND)
    assert gate.reserve(LARGE, Market.ON_DEMAND)


def test_one_tries_beyond_from_time_to_time() -> None:
    """After 15 s one launch goes beyond the limit; where that works, the next may follow at once."""
    clock = FakeClock()
    gate = QuotaLimiter(clock)
    gate.set_limit(STANDARD, 2)
    assert gate.reserve(LARGE, Market.ON_DEMAND)
    assert not gate.reserve(LARGE, Market.ON_DEMAND)
    clock.advance(PROBE_S)
    assert gate.reserve(LARGE, Market.ON_DEMAND)
    assert not gate.reserve(LARGE, Market.ON_DEMAND)
    gate.launched(LARGE, Market.ON_DEMAND)
    assert gate.reserve(LARGE, Market.ON_DEMAND)


def test_markets_and_classes_are_counted_apart() -> None:
    """A full limit stands in the way of its own machines only."""
    gate = QuotaLimiter(FakeClock())
    gate.set_limit(STANDARD, 0)
    assert not gate.reserve(LARGE, Market.ON_DEMAND)
    assert gate.reserve(LARGE, Market.SPOT)
    assert gate.reserve(instance_type("g6.xlarge", 4, 16, gpus=1), Market.ON_DEMAND)
