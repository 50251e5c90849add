"""The most that a machine costs unasked: on EC2's types, with AWS's prices."""

from __future__ import annotations

from functools import cache

import pytest

from snakemake_executor_ec2.aws import snapshot
from snakemake_executor_ec2.controller import compose
from snakemake_executor_ec2.errors import NoFittingInstance
from snakemake_executor_ec2.model import InstanceType
from snakemake_executor_ec2.plugin.run_config import run_config
from snakemake_executor_ec2.plugin.settings import ExecutorSettings
from snakemake_executor_ec2.sizing.catalogue import Catalogue
from snakemake_executor_ec2.sizing.ceiling import DEFAULT_USD_PER_HOUR
from snakemake_executor_ec2.sizing.select import best, select
from tests.fakes.clock import FakeClock
from tests.fakes.cloud import FakeCloud, instance_type
from tests.unit.sizing.types import needs


@cache
def _known() -> snapshot.Snapshot:
    return snapshot.read()


class Region(FakeCloud):
    """EC2's own types at AWS's prices in us-east-1."""

    def __init__(self, *further: InstanceType) -> None:
        known = _known()
        super().__init__(FakeClock(), types=(*known.types, *further), prices=known.usd_per_hour["us-east-1"])


def catalogue(*further: InstanceType, max_price: float | None = None) -> Catalogue:
    config = run_config(ExecutorSettings(max_price=max_price))
    return compose.catalogue(config, Region(*further))


def test_nothing_above_the_ceiling_is_offered_unasked() -> None:
    """Whatever a job asks for, no offer is dearer; an ordinary job's choice is the same as without it."""
    for wanted in (needs(), needs(threads=64), needs(gpus=1), needs(mem_mb=500_000)):
        offers = select(catalogue(), wanted)
        assert all(each.price.usd_per_hour <= DEFAULT_USD_PER_HOUR for each in offers if each.price)
        assert offers[0] == best(catalogue(max_price=float("inf")), wanted)


def test_a_terabyte_of_memory_needs_no_permission() -> None:
    """What a genome's assembly may well need is had without an option."""
    found = best(catalogue(), needs(mem_mb=990_000))
    assert found.price is not None
    assert 6 < found.price.usd_per_hour < DEFAULT_USD_PER_HOUR


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (
            {"mem_mb": 10_000_000},
            r"with mem_mb=10000000 \(10 TB\), the cheapest machine is u7i-12tb\.224xlarge",
        ),
        ({"threads": 400, "mem_mb": 10_000}, r"with threads=400, the"),
        ({"gpus": 8, "gpu_model": "A100"}, r"with gpu=8, the cheapest machine is p4d\.24xlarge"),
        ({"gpus": 8, "mem_mb": 1_500_000}, r"with .*gpu=8.*, the"),
        ({"instance_types": ("u7i*",)}, r"with the instance types u7i\*, the"),
        ({"nvme_gb": 50_000}, r"with ec2_nvme_gb=50000, the"),
    ],
)
def test_what_made_it_so_is_named(asked: dict[str, object], named: str) -> None:
    """The resource without which the job would be below the ceiling, and the option that allows it."""
    with pytest.raises(NoFittingInstance, match=named) as caught:
        best(catalogue(), needs(**asked))
    price = best(catalogue(max_price=float("inf")), needs(**asked)).price
    assert price is not None
    assert f"at ${price.usd_per_hour:.4g} an hour. None above $10 an hour" in caught.value.message
    option = caught.value.message.rpartition("--ec2-max-price ")[2]
    assert best(catalogue(max_price=float(option)), needs(**asked)).price == price


def test_what_fits_nowhere_is_told_of_the_largest_there_is() -> None:
    """A ceiling does not hide that no machine at all would do."""
    with pytest.raises(
        NoFittingInstance, match=r"needs mem_mb=90000000; the nearest allowed type, u7in-32tb"
    ):
        best(catalogue(), needs(mem_mb=90_000_000))


def test_types_of_unknown_price() -> None:
    """One of ordinary size is taken, as before; a large one, or one with GPUs, only if that is allowed."""
    ordinary = instance_type("m99.large", 2, 8)
    large = instance_type("u99.large", 512, 8192)
    gpus = instance_type("p99.large", 8, 64, gpus=1, gpu_model="X1", gpu_mem_mib=100_000)
    unpriced = catalogue(ordinary, large, gpus)
    assert best(unpriced, needs(instance_types=("m99.large",))).price is None
    for each in (needs(instance_types=("u99.large",)), needs(gpus=1, gpu_model="X1")):
        with pytest.raises(NoFittingInstance, match=r"price is not known.*--ec2-max-price inf allows it"):
            best(unpriced, each)
        assert best(catalogue(large, gpus, max_price=float("inf")), each).price is None


def test_a_limit_of_one_s_own_takes_nothing_of_unknown_price() -> None:
    """Who names a limit wants it kept."""
    with pytest.raises(NoFittingInstance, match=r"--ec2-max-price 50 can't be kept: .* m99\.large"):
        best(catalogue(instance_type("m99.large", 2, 8), max_price=50), needs(instance_types=("m99.large",)))
