"""The same failure of many jobs is told once."""

from __future__ import annotations

from snakemake_executor_ec2.report.failures import failures
from tests.fakes.records import run_record
from tests.unit.report.made_up import BEGAN_AT, attempt, machine, summary


def test_failures_that_differ_in_a_machine_or_a_number_are_one() -> None:
    """With their number, what they cost, and how many of their jobs succeeded in the end."""
    attempts = [
        attempt(
            number,
            machine(number, BEGAN_AT),
            label=f"rule a ({number})",
            end_reason="lost",
            error=f"i-{number:017x} was silent for {number}.5 s",
            ended_at=BEGAN_AT + 60,
        )
        for number in range(1, 4)
    ]
    attempts.append(attempt(4, label="rule a (2)"))
    attempts.append(attempt(5, label="rule b", rule="b", end_reason="failed", error="no python"))
    attempts.append(attempt(6, label="rule b", rule="b", end_reason="left"))
    found = summary(run_record("run-1"), attempts, until=BEGAN_AT + 60)
    first, second = failures(found.total.jobs)
    assert (first.rule, first.state, first.count, first.done_again) == ("a", "lost", 3, 1)
    assert first.reason == "i-00000000000000001 was silent for 1.5 s"
    assert first.usd == sum(each.usd or 0.0 for each in found.machines[:3])
    assert (second.rule, second.reason, second.count, second.done_again) == ("b", "no python", 1, 0)


def test_a_job_that_was_kept_or_runs_is_no_failure() -> None:
    """Nor is one that succeeded."""
    fine = [attempt(number, end_reason=end) for number, end in enumerate(("done", "left"))]
    assert failures(summary(run_record("run-1"), fine, until=BEGAN_AT).total.jobs) == []
