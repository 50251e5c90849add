"""A machine that does not answer: crashed, alone, or is it our own network?"""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.errors import LaunchError
from snakemake_executor_ec2.machines.failure_detector import ALONE_FACTOR, FailureDetector, Reachability

PATIENCE_S = 100.0


@pytest.fixture
def detector() -> FailureDetector:
    return FailureDetector(began=0.0, lost_after_s=PATIENCE_S)


def test_a_crash_is_believed_after_a_while(detector: FailureDetector) -> None:
    """EC2's checks have to fail for as long as the setting says, without a pause."""
    detector.seen(10.0, impaired=True, others_answer=False)
    detector.seen(60.0, impaired=False, others_answer=False)
    detector.seen(70.0, impaired=True, others_answer=False)
    assert not detector.why_lost(169.0)
    assert "crashed" in detector.why_lost(170.0)


def test_a_machine_that_ec2_finds_well_is_waited_for(detector: FailureDetector) -> None:
    """Where nothing else of ours answers either, it may be that our network lets no ssh out: for ever."""
    detector.seen(10.0, impaired=False, others_answer=False)
    assert not detector.why_lost(1e9)


def test_a_machine_that_alone_does_not_answer(detector: FailureDetector) -> None:
    """Where other machines let us in it counts as lost, but after a longer time."""
    detector.seen(10.0, impaired=False, others_answer=True)
    assert not detector.why_lost(9.0 + ALONE_FACTOR * PATIENCE_S)
    assert "other machines do" in detector.why_lost(10.0 + ALONE_FACTOR * PATIENCE_S)


def test_while_our_own_network_is_down_nothing_counts(detector: FailureDetector) -> None:
    """Whatever was seen before, it begins anew once EC2 answers again."""
    detector.seen(10.0, impaired=True, others_answer=True)
    detector.ec2_is_silent()
    assert not detector.why_lost(1e9)
    detector.seen(5000.0, impaired=True, others_answer=False)
    assert not detector.why_lost(5099.0)
    assert detector.why_lost(5100.0)


def test_none_reachable() -> None:
    """Two machines that never let us in are enough, and one that did is enough to go on."""
    reachability = Reachability()
    reachability.note_unreached("a", "no answer")
    reachability.note_unreached("a", "no answer")
    reachability.check()
    reachability.note_unreached("b", "no answer in time.")
    with pytest.raises(
        LaunchError, match=r"launched 2, .* none of them \(no answer in time\): .*outgoing ssh"
    ):
        reachability.check()
    reachability.note("c", 10.0)
    reachability.check()


def test_neighbours_are_others_and_later() -> None:
    """Only another machine, and only a connection made since the outage began, shows that our line is up."""
    reachability = Reachability()
    reachability.note("a", 10.0)
    reachability.note("b", 20.0)
    assert reachability.answered_since("a", 15.0)
    assert not reachability.answered_since("a", 20.0)
    assert not reachability.answered_since("b", 15.0)
