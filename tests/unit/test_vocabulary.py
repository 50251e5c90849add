"""What all packages speak of: pauses, and what is told."""

from __future__ import annotations

from snakemake_executor_ec2.formatting import TellOnce
from snakemake_executor_ec2.timing import Backoff, growing_s
from tests.fakes.clock import FakeClock


def test_pauses_double_up_to_a_limit() -> None:
    """Also after more failures than a number of the computer's can be doubled: a night without a network."""
    assert [growing_s(number, 2.0, 60.0) for number in range(7)] == [2, 4, 8, 16, 32, 60, 60]
    assert growing_s(10_000, 2.0, 60.0) == 60


def test_a_backoff_ends_when_its_time_is_over() -> None:
    """Each pause is between a half and the whole of what is due, so that threads part."""
    clock = FakeClock()
    backoff = Backoff(clock, total_s=20.0)
    while backoff.pause():
        pass
    due = [growing_s(number, 0.5, 8.0) for number in range(len(clock.slept))]
    assert all(most / 2 <= pause <= most for pause, most in zip(clock.slept, due, strict=True))
    assert 20 <= sum(clock.slept) < 28


def test_a_thing_is_told_once() -> None:
    """However it is worded, if it is said to be about the same."""
    told: list[str] = []
    tell_once = TellOnce(told.append)
    for text, about in (("a", None), ("a", None), ("b", "quota"), ("c", "quota")):
        tell_once(text, about=about)
    assert told == ["a", "b"]
