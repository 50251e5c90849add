"""The snapshot of types and prices: what is written is read, and when it is used."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_ec2.aws import snapshot
from snakemake_executor_ec2.aws.cloud import Ec2Cloud
from snakemake_executor_ec2.aws.snapshot import Snapshot
from snakemake_executor_ec2.errors import CloudError
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.model import Market
from snakemake_executor_ec2.timing import SystemClock
from tests.unit.aws.moto_server import environment
from tests.unit.sizing.types import all_types

MADE_UP = Snapshot(
    taken="2026-11-01",
    source="us-east-1, made up",
    types=tuple(sorted(all_types(), key=lambda each: each.name)),
    usd_per_hour={"us-east-1": {"m7i.large": 0.125}, "eu-west-1": {"m7i.large": 0.25, "c7i.large": 0.5}},
    prices_taken="2026-10-01",
    prices_source="made up",
)


def test_what_is_written_is_read() -> None:
    """All fields of all types, and prices by region."""
    assert snapshot.read(snapshot.write(MADE_UP)) == MADE_UP


def test_what_the_package_came_with() -> None:
    """It is dated, says where it is from, has the usual types, and no price that is not AWS's."""
    shipped = snapshot.read()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", shipped.taken)
    assert len(shipped.types) > 1000
    assert {"m7i.large", "c7a.medium", "g6.xlarge"} <= {each.name for each in shipped.types}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", shipped.prices_taken)
    assert "Pricing API" in shipped.prices_source
    usd = shipped.usd_per_hour["us-east-1"]
    assert len(usd) > 1000
    # as AWS's page says: sizes of a family double, those with GPUs do not
    assert (usd["m7i.large"], usd["m7i.48xlarge"], usd["g5.xlarge"]) == (0.1008, 9.6768, 1.006)


def test_where_ec2_may_not_be_asked(
    ec2_cloud: EmbeddedCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Types and prices are the snapshot's, every zone counts, and each is said once with the permission."""
    for action in ("DescribeInstanceTypes", "DescribeInstanceTypeOfferings", "GetProducts"):
        ec2_cloud.faults.deny(action)
    said: list[str] = []
    (tmp_path / "snapshot.csv").write_text(snapshot.write(MADE_UP))
    monkeypatch.setattr(snapshot, "PATH", tmp_path / "snapshot.csv")
    with environment(ec2_cloud.env):
        cloud = Ec2Cloud(run_id="run-1", clock=SystemClock(), warn=said.append)
        for _ in range(2):
            assert cloud.instance_types() == MADE_UP.types
            assert len(cloud.zones("m7i.large")) > 1
            price = cloud.prices(Market.ON_DEMAND)["m7i.large", ""]
    assert (price.usd_per_hour, price.source) == (0.125, "us-east-1, 2026-10-01")
    assert [re.findall(r"permission (\S+);", each) for each in said] == [
        ["ec2:DescribeInstanceTypes"],
        ["ec2:DescribeInstanceTypeOfferings"],
        ["pricing:GetProducts"],
    ]


def test_prices_of_another_region() -> None:
    """They rank machines as well, and are told as what they are; but China's are others altogether."""
    assert MADE_UP.prices_for("eu-west-1") == ("eu-west-1", {"m7i.large": 0.25, "c7i.large": 0.5})
    assert MADE_UP.prices_for("eu-central-1") == ("us-east-1", {"m7i.large": 0.125})
    assert MADE_UP.prices_for("cn-north-1") == ("cn-north-1", {})


def test_where_the_snapshot_has_another_region_s_prices(
    ec2_cloud: EmbeddedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cost says whose they are."""
    ec2_cloud.faults.deny("GetProducts")
    said: list[str] = []
    with environment(ec2_cloud.env):
        cloud = Ec2Cloud(run_id="run-1", region="eu-central-1", clock=SystemClock(), warn=said.append)
        price = cloud.prices(Market.ON_DEMAND)["m7i.large", ""]
    assert price.usd_per_hour == 0.1008
    assert re.fullmatch(r"us-east-1, \S+; those of eu-central-1 may be higher", price.source)
    assert "the prices of us-east-1 as of" in said[0]


def test_where_the_snapshot_has_no_prices_either(
    ec2_cloud: EmbeddedCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then none is known, and that is said."""
    ec2_cloud.faults.deny("GetProducts")
    said: list[str] = []
    (tmp_path / "snapshot.csv").write_text(snapshot.write(replace(MADE_UP, usd_per_hour={})))
    monkeypatch.setattr(snapshot, "PATH", tmp_path / "snapshot.csv")
    with environment(ec2_cloud.env):
        cloud = Ec2Cloud(run_id="run-1", clock=SystemClock(), warn=said.append)
        assert cloud.prices(Market.ON_DEMAND) == {}
    assert "prices are unknown, so machines are ranked by size" in said[0]


def test_another_failure_is_a_failure(ec2_cloud: EmbeddedCloud) -> None:
    """A catalogue that EC2 merely fails to give is not replaced by an older one."""
    ec2_cloud.faults.throttle("DescribeInstanceTypes", count=100)
    with environment(ec2_cloud.env), pytest.raises(CloudError):
        Ec2Cloud(run_id="run-1", clock=SystemClock(), warn=pytest.fail).instance_types()
