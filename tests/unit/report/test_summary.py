"""What runs come to: every sum is the same amount, and time that nobody noted is told as such."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_ec2.model import Failure, JobResult, Phase
from snakemake_executor_ec2.records.ledger import Entry, MachineEntry
from snakemake_executor_ec2.report import charts
from snakemake_executor_ec2.report.charts import STACKED
from snakemake_executor_ec2.report.page import _MEANINGS
from snakemake_executor_ec2.report.summary import IDLE, PARTS, summarize
from snakemake_executor_ec2.sizing.cost import cost_usd
from tests.fakes.records import run_record
from tests.unit.report.made_up import BEGAN_AT, attempt, lives_of, machine, many, summary


def test_all_sums_are_the_same_amount() -> None:
    """Over machines, jobs, rules and parts, of 300 jobs with losses and reuse: to a millionth of a cent."""
    run, attempts = many(300, at_a_time=20)
    found = summary(run, attempts)
    machines = {each.on.id: each for each in attempts}
    expected = sum(
        cost_usd(each.machine, (each.on.ended_at or 0) - each.machine.launched_at) or 0.0
        for each in machines.values()
        if each.machine
    )
    assert found.total.usd == pytest.approx(expected, abs=1e-8)
    assert sum(each.usd or 0.0 for each in found.machines) == pytest.approx(expected, abs=1e-8)
    assert sum(each.usd or 0.0 for each in found.rules) == pytest.approx(expected, abs=1e-8)
    assert sum(found.total.usd_by_part.values()) == pytest.approx(expected, abs=1e-8)
    for each in found.machines:
        assert sum(job.usd or 0.0 for job in each.jobs) == pytest.approx(each.usd, abs=1e-8)
        assert sum(job.billed_s for job in each.jobs) == pytest.approx(each.billed_s)
    assert found.total.billed_s == pytest.approx(sum(each.billed_s for each in found.machines))
    assert found.total.machine_count == len(machines) < found.total.job_count == 300


def test_a_job_s_share_is_that_of_the_run_s_own_table() -> None:
    """Two jobs on a machine: the report and the table at the end of the run split its cost alike."""
    of = machine(1, BEGAN_AT + 2)
    seconds = (
        {"launch": 2.0, "boot": 20.0, "prepare": 10.0, "run": 100.0, "stage out": 5.0},
        {"prepare": 1.0, "run": 300.0, "stage out": 5.0, "terminate": 1.0},
    )
    on = MachineEntry(record=1, machine=of, ended_at=BEGAN_AT + 500)
    for each in seconds:
        Entry(label="", record=1, on=on, seconds={Phase(name): value for name, value in each.items()})
    began = (BEGAN_AT, BEGAN_AT + 150)
    attempts = [
        attempt(number, of, on=1, seconds=one, began_at=at, ended_at=BEGAN_AT + 500)
        for number, (one, at) in enumerate(zip(seconds, began, strict=True))
    ]
    (row,) = summary(run_record("run-1"), attempts).machines
    told = [each.cost_usd(BEGAN_AT + 900) for each in on.entries]
    assert [job.usd for job in row.jobs] == pytest.approx(told)


def test_a_machine_that_was_launched_ahead_boots() -> None:
    """What it did before it had a job is no idle time; only its waiting is. The job's share is as ever."""
    of = machine(1, BEGAN_AT + 2)
    ahead = {"launch": 1.0, "boot": 20.0, "prepare": 8.0}
    job = attempt(
        1,
        of,
        ahead_s=ahead,
        began_at=BEGAN_AT + 60,
        ended_at=BEGAN_AT + 120,
        seconds={"prepare": 2.0, "run": 58.0},
    )
    found = summary(run_record("run-1"), [job])
    (row,) = found.machines
    spans = [(span.part, span.began_at - BEGAN_AT, span.ended_at - BEGAN_AT) for span in row.spans]
    assert spans == [
        ("boot", 2, 22), ("prepare", 22, 30), ("idle", 30, 60), ("prepare", 60, 62), ("run", 62, 120),
    ]  # fmt: skip
    per_s = (row.usd or 0.0) / 118
    by_part = {"boot": 20, "prepare": 10, "idle": 30, "run": 58}
    assert found.total.usd_by_part == pytest.approx({part: s * per_s for part, s in by_part.items()})


def test_phases_are_drawn_from_the_beginning_and_idle_between_jobs() -> None:
    """A machine's parts follow each other without a gap, from the launch to its end."""
    of = machine(1, BEGAN_AT + 2)
    first = attempt(
        1,
        of,
        on=1,
        ended_at=BEGAN_AT + 300,
        seconds={"launch": 1.5, "boot": 20.0, "prepare": 8.0, "run": 70.0},
    )
    second = attempt(
        2, of, on=1, ended_at=BEGAN_AT + 300, began_at=BEGAN_AT + 150, seconds={"prepare": 10.0, "run": 90.0}
    )
    (row,) = summary(run_record("run-1"), [first, second]).machines
    spans = [(span.part, span.began_at - BEGAN_AT, span.ended_at - BEGAN_AT) for span in row.spans]
    assert spans == [
        ("launch", 0, 1.5), ("boot", 2, 22), ("prepare", 22, 30), ("run", 30, 100), ("idle", 100, 150),
        ("prepare", 150, 160), ("run", 160, 250), ("idle", 250, 300),
    ]  # fmt: skip
    by_part = row.jobs[0].usd_by_part
    assert by_part is not None
    assert by_part["run"] / (row.usd or 0) == pytest.approx(70 / 298)
    assert by_part[IDLE] / (row.usd or 0) == pytest.approx(50 / 298)
    assert "launch" not in by_part, "it was not billed"


def test_what_is_under_way_goes_on_until_now() -> None:
    """The phase of a running job has no time of its own in the journal yet."""
    of = machine(1, BEGAN_AT + 2)
    running = attempt(1, of, end_reason="", phase=Phase.RUN, seconds={"launch": 2.0, "boot": 20.0})
    found = summary(run_record("run-1"), [running], until=BEGAN_AT + 122, alive=True)
    (job,) = found.total.jobs
    assert (job.state, job.seconds[Phase.RUN], found.runs[0].state) == ("running", 100, "running")


def test_a_killed_run_is_told_as_such() -> None:
    """Nobody saw its job's end: neither done nor failed."""
    of = machine(1, BEGAN_AT + 2)
    unseen = attempt(1, of, end_reason="", phase=Phase.RUN, seconds={"boot": 20.0})
    found = summary(run_record("run-1"), [unseen], until=BEGAN_AT + 122)
    assert (found.total.jobs[0].state, found.runs[0].state) == ("not seen to end", "killed")
    ended = summary(run_record("run-1", ended_at=BEGAN_AT + 5), [unseen], until=BEGAN_AT + 122)
    assert ended.runs[0].state == "ended"


def test_a_machine_that_never_came_costs_nothing() -> None:
    """Its launch is time, and no money; and it is no machine."""
    refused = attempt(1, None, end_reason="failed", error="no capacity", seconds={"launch": 30.0})
    found = summary(run_record("run-1"), [refused], until=BEGAN_AT + 60)
    assert (found.total.usd, found.total.machine_count, found.total.billed_s) == (0.0, 0, 0.0)
    assert found.total.jobs[0].reason == "no capacity"
    assert found.machines[0].spans[0].seconds == 30.0


def test_an_unknown_price_is_not_nothing() -> None:
    """Without a price the cost is unknown; beside a known one, the machine is counted as missing."""
    without = attempt(1, machine(1, BEGAN_AT, price=None), seconds={"run": 60.0}, ended_at=BEGAN_AT + 60)
    known = attempt(2, machine(2, BEGAN_AT), seconds={"run": 60.0}, ended_at=BEGAN_AT + 60)
    alone = summary(run_record("run-1"), [without]).total
    both = summary(run_record("run-1"), [without, known]).total
    assert (alone.usd, alone.unknown_prices) == (None, 1)
    assert known.machine is not None
    assert both.usd == pytest.approx(cost_usd(known.machine, 60))
    assert both.unknown_prices == 1


def test_spot_savings_count_what_was_lost() -> None:
    """The difference of both prices for the time that was of use, less all that a lost attempt cost."""
    of = machine(1, BEGAN_AT, spot=True)
    facts = {"seconds": {"run": 3600.0}, "ended_at": BEGAN_AT + 3600}
    done = attempt(1, of, **facts)
    lost = attempt(2, machine(2, BEGAN_AT, spot=True), end_reason="lost", **facts)
    other = attempt(3, machine(3, BEGAN_AT), **facts)
    saved = summary(run_record("run-1"), [done, other]).saved_usd
    assert saved == pytest.approx(0.1008 - 0.0393)
    found = summary(run_record("run-1"), [done, lost, other])
    assert found.saved_usd == pytest.approx(saved - (found.machines[1].usd or 0))
    assert [each.saved_usd is None for each in found.machines] == [False, False, True]
    assert len(found.spot) == 2


def test_a_machine_counts_for_the_run_that_launched_it() -> None:
    """Also if another run has taken it over: it is counted once, and runs while its new owner lives."""
    of = machine(1, BEGAN_AT)
    adopted = attempt(1, of, run="run-1", owner="run-2", end_reason="", phase=Phase.RUN)
    own = attempt(2, machine(2, BEGAN_AT), run="run-2", ended_at=BEGAN_AT + 60, seconds={"run": 60.0})
    runs = [
        run_record("run-2", began_at=BEGAN_AT + 9),
        run_record("run-1", began_at=BEGAN_AT, ended_at=BEGAN_AT),
    ]
    attempts = [adopted, own]
    now = BEGAN_AT + 600
    found = summarize(runs, attempts, lives_of(attempts, now), alive={"run-2"}, now=now)
    assert [(run.record.id, run.state, run.total.machine_count) for run in found.runs] == [
        ("run-1", "ended", 1),
        ("run-2", "running", 1),
    ]
    assert found.total.jobs[0].state == "running"
    assert (found.total.usd or 0) == pytest.approx(sum(run.total.usd or 0 for run in found.runs))


@pytest.mark.parametrize(
    ("error", "result", "reason"),
    [
        ("", JobResult(exit_code=3, failure=Failure.EXIT), "exit code 3"),
        ("", JobResult(exit_code=-9, failure=Failure.SIGNAL, evidence="by kill"), "signal 9: by kill"),
        ("", JobResult(exit_code=137, failure=Failure.OUT_OF_MEMORY), "out of memory (exit code 137)"),
        ("the machine is gone", None, "the machine is gone"),
        ("a checkpoint left files", JobResult(exit_code=0), "a checkpoint left files"),
    ],
)
def test_why_an_attempt_failed(error: str, result: JobResult | None, reason: str) -> None:
    """Its command's own end, or what ended it otherwise."""
    failed = attempt(1, end_reason="failed", error=error, result=result)
    job = summary(run_record("run-1"), [failed], until=BEGAN_AT).total.jobs[0]
    assert job.reason == reason
    done = replace(failed, end_reason="done", error="")
    assert summary(run_record("run-1"), [done], until=BEGAN_AT).total.jobs[0].reason == ""


def test_a_job_that_began_again_is_one_job() -> None:
    """Its attempts are two; the report counts jobs."""
    lost, done = (
        attempt(number, machine(number, BEGAN_AT), label="rule a", end_reason=end, ended_at=BEGAN_AT + 60)
        for number, end in ((1, "lost"), (2, "done"))
    )
    found = summary(run_record("run-1"), [lost, done])
    assert (found.total.job_count, found.total.machine_count) == (1, 2)
    assert found.total.states == {"lost": 1, "done": 1}
    assert found.total.failed_count == 0
    assert summary(run_record("run-1"), [lost]).total.failed_count == 1


def test_waiting_for_a_machine_that_works_for_another_job_costs_nothing() -> None:
    """The second job waited while the first one ran, and got its machine: what that cost is the first's."""
    of = machine(1, BEGAN_AT)
    first = attempt(1, of, on=1, seconds={"boot": 20.0, "run": 180.0}, ended_at=BEGAN_AT + 400)
    second = attempt(
        2, of, on=1, began_at=BEGAN_AT + 50, seconds={"launch": 190.0, "run": 160.0}, ended_at=BEGAN_AT + 400
    )
    (row,) = summary(run_record("run-1"), [first, second]).machines
    assert [(span.part, span.seconds) for span in row.idle] == [("idle", 40.0)]
    by_part = [job.usd_by_part or {} for job in row.jobs]
    assert all("launch" not in each for each in by_part)
    assert (row.usd or 0) * 180 / 400 == pytest.approx(by_part[0]["run"])
    assert (row.usd or 0) * 160 / 400 == pytest.approx(by_part[1]["run"])
    assert by_part[0][IDLE] == by_part[1][IDLE] == pytest.approx((row.usd or 0) * 20 / 400)


def test_every_phase_is_drawn() -> None:
    """Also one that comes later: in the charts, and with a meaning in the legend and a colour."""
    assert set(PARTS) == set(STACKED) == {*Phase, IDLE}
    css = Path(charts.__file__).with_name("html").joinpath("page.css").read_text()
    for part in PARTS:
        assert f".{part.replace(' ', '-')} {{ fill: var(" in css
        assert _MEANINGS[part]
