"""A short version of `scripts/chaos`: some schedules whose seeds are fixed."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from tests.chaos import away, chaos, faults
from tests.chaos.witness import Stay, Witness


@pytest.fixture(scope="module")
def expected() -> dict[str, bytes]:
    return chaos.expected_results()


@pytest.mark.parametrize("seed", [240])
def test_chaos(seed: int, ec2_cloud: EmbeddedCloud, expected: dict[str, bytes]) -> None:
    """Whatever the schedule, the results are those of a local run and nothing is left."""
    report = chaos.run(seed, ec2_cloud, expected)

    assert not report.problems, f"{report}\n{report.output}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [6])
def test_chaos_with_the_controller_away(
    seed: int, ec2_cloud: EmbeddedCloud, expected: dict[str, bytes]
) -> None:
    """Its line is cut, and its machine crashes: another start ends with the same results, and nothing is
    left."""
    report = chaos.run_away(seed, ec2_cloud, expected)

    assert not report.problems, f"{report}\n{report.output}"


def test_a_schedule_is_its_seed_s() -> None:
    """The same seed gives the same faults, another one others; every kind has its turn."""
    assert faults.schedule(7) == faults.schedule(7)
    assert faults.schedule(7) != faults.schedule(8)
    assert {event.kind for seed in range(200) for event in faults.schedule(seed)} >= set(faults.KINDS)
    assert away.schedule(7) == away.schedule(7)
    assert {event.kind for seed in range(200) for event in away.schedule(seed)} >= set(away.KINDS)


def test_what_the_witness_objects_to() -> None:
    """Two stays at once, and a second completion where the first was not lost."""
    witness = Witness()
    witness.stays = [
        Stay(job="one", host="a", began=1, ended=5, done=True),
        Stay(job="one", host="b", began=4, ended=9, done=True),
        Stay(job="other", host="b", began=4, ended=9, done=True),
    ]

    assert witness.overlaps() == ["one began on b while it ran on a"]
    assert witness.completed_again(set()) == ["one was completed on b after it had been on a"]
    assert not witness.completed_again({"a"})
