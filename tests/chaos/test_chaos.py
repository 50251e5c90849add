"""A short version of `scripts/chaos`: some schedules whose seeds are fixed."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from tests.chaos import chaos


@pytest.fixture(scope="module")
def expected() -> dict[str, bytes]:
    return chaos.expected_results()


@pytest.mark.parametrize("seed", [3])
def test_chaos(seed: int, ec2_cloud: EmbeddedCloud, expected: dict[str, bytes]) -> None:
    """Whatever the schedule, the results are those of a local run and nothing is left."""
    report = chaos.run(seed, ec2_cloud, expected)

    assert not report.problems, report.output


def test_a_schedule_is_its_seed_s() -> None:
    """The same seed gives the same faults, another one others."""
    assert chaos.schedule(7) == chaos.schedule(7)
    assert chaos.schedule(7) != chaos.schedule(8)
