"""Machines that are launched before their jobs are ready, on fakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_ec2.controller.ahead import get_ahead
from snakemake_executor_ec2.errors import PreparationError
from snakemake_executor_ec2.model import JobOutcome, JobPlan, JobResult, Usage
from snakemake_executor_ec2.report.idle import launched_ahead
from snakemake_executor_ec2.sizing.ahead import Key, Needs, Step
from snakemake_executor_ec2.sizing.reuse import Reuse
from tests.fakes.threads import no_threads
from tests.unit.controller.stories import World
from tests.unit.controller.test_reuse import wait_for
from tests.unit.machines import launchers

A, B, C = (replace(launchers.plan(f"run-1.{rule}.1"), rule=rule, label=f"rule {rule}") for rule in "abc")
NEEDS = Needs(label="rule b", requirements=A.requirements)
WELL = JobResult(exit_code=0, seconds=2.0, usage=Usage(peak_disk_mib=1))


class Ahead(World):
    """A run of a chain of three rules; nothing is launched ahead before `look` is called."""

    def __init__(self, folder: Path, reuse: Reuse = Reuse.NEVER, **more: Any) -> None:
        super().__init__(folder, reuse, **more)
        self.chain(a=(), b=("a",), c=("b",))

    def chain(self, **after: tuple[str, ...]) -> None:
        steps: dict[Key, Step] = {key: Step(rule=key, after=each, needs=NEEDS) for key, each in after.items()}
        self.ahead.plan(steps, at_a_time=3)
        self.idle.expect(dict.fromkeys(after, 1))

    def history(self) -> None:
        """All rules have taken 30 s to their commands, 10 s for these, and 1 s for results."""
        for rule in "abc":
            for part, seconds in {
                "boot": 25.0,
                "prepare": 5.0,
                "next": 1.0,
                "run": 10.0,
                "fetch": 1.0,
            }.items():
                self.ahead._paces.add(rule, part, seconds)

    def submit(self, plan: JobPlan) -> None:
        """Snakemake hands a job over."""
        self.ahead.handed_over(plan.rule)
        self.ahead.getting(plan, plan.rule)
        coming = {rule: number for rule, number in self.idle._coming.items() if rule != plan.rule}
        self.idle.want(plan)
        self.idle.expect(coming)

    def runs(self, plan: JobPlan) -> None:
        """It has got a machine, and its command has begun."""
        self.idle.has_one(plan)
        self.ahead.running(plan)

    def look(self) -> list[str]:
        """For which rules machines are launched ahead now; none is yet."""
        before = len(self.begun)
        self.ahead.look()
        return [each.plan.rule for each in self.begun[before:]]

    def get(self) -> list[JobOutcome]:
        """Launch those that were begun."""
        begun = list(self.begun)
        self.begun.clear()
        return [get_ahead(each, self.context, each.cancel) for each in begun]

    def told(self) -> str | None:
        return launched_ahead(self.ledger.machines, self.clock.now())


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Ahead]:
    made = Ahead(tmp_path)
    yield made
    made.idle.close()
    made.journal.close()
    assert not made.cloud.alive, "a machine is left"


def test_while_results_are_fetched(run: Ahead) -> None:
    """Without any history: what has run well is followed by its children, and not before."""
    run.submit(A)
    run.runs(A)
    assert run.look() == []
    run.ahead.ran(A, WELL)
    assert run.look() == ["b"]
    assert run.look() == []
    assert [each.ok for each in run.get()] == [True]
    assert len(run.cloud.alive) == 1
    run.ahead.ended("a", ok=True)
    run.submit(B)
    assert run.story(B).ok
    assert len(run.cloud.machines) == 1
    assert run.scene.steps.count("install") == 2
    assert "ahead of their jobs: 1, used: 1, cost of waiting: $0.0000" in (run.told() or "")
    assert any("which was launched ahead, is used for rule b" in line for line in run.said)
    assert run.cloud.alive == []
    # The job bears all of the machine's cost, here and in the journal.
    (attempt,) = run.journal.attempts("run-1")
    assert (attempt.label, attempt.end_reason) == ("rule b", "done")
    assert attempt.usd == pytest.approx(run.ledger.machines[0].cost_usd(run.clock.now()))
    # What was done before it had the job is the machine's, and not a time that the job waited.
    assert {"boot", "prepare"} <= attempt.on.ahead_s.keys()
    assert "boot" not in attempt.seconds


def test_not_for_results_that_take_long(run: Ahead) -> None:
    """A GPU would be idle while they come; neither after a job that has failed."""
    run.submit(A)
    run.runs(A)
    run.ahead.ran(A, replace(WELL, usage=Usage(peak_disk_mib=30_000)))
    assert run.look() == []


def test_with_history_in_time(run: Ahead) -> None:
    """Each machine is launched when it will be ready with its job, however many jobs are in between."""
    run.history()
    run.submit(A)
    run.idle.has_one(A)
    assert run.look() == []
    run.clock.sleep(12)
    assert run.look() == ["b"]  # in 30 s, as `a` ends
    run.clock.sleep(12)
    assert run.look() == ["c"]
    assert run.look() == []


def test_a_guess_that_is_wrong_is_not_made_again(run: Ahead) -> None:
    """The machine waits no longer than others, is told of, and its rule is not guessed again; when the job
    is certain to come, one is launched all the same."""
    run.history()
    run.submit(A)
    run.runs(A)
    assert run.look() == ["b", "c"]
    assert [each.ok for each in run.get()] == [True, True]
    run.clock.sleep(61)
    with run.idle._changed:
        run.idle._changed.notify_all()
    wait_for(lambda: not run.cloud.alive)
    wait_for(lambda: run.idle.was_in_vain("b", certain=False))
    assert run.look() == []
    assert any("launched ahead and not used" in line for line in run.said)
    assert "ahead of their jobs: 2, used: 0, cost of waiting: $0.00" in (run.told() or "")
    assert [each.end_reason for each in run.journal.attempts("run-1")] == ["not used"] * 2
    run.ahead.ran(A, WELL)
    assert run.look() == ["b"]
    run.get()


def test_never_more_than_jobs_at_a_time(run: Ahead) -> None:
    """Jobs at work, those that could begin, and machines ahead are together no more than `--jobs`."""
    run.chain(a=(), a2=(), a3=(), a4=(), b=("a",), c=("a",))
    for name in ("a", "a2", "a3"):
        plan = replace(A, key=name, rule=name)
        run.submit(plan)
        run.runs(plan)
    run.ahead.ran(replace(A, key="a"), WELL)
    assert run.look() == []  # a4 waits for a place
    run.ahead.handed_over("a4")
    run.ahead.ended("a4", ok=True)
    assert run.look() == ["b"]
    run.ahead.ended("a2", ok=True)
    assert run.look() == ["c"]


def test_not_while_a_job_waits_for_a_machine(run: Ahead) -> None:
    """What there is, is for jobs."""
    run.chain(a=(), b=("a",), x=())
    run.submit(A)
    run.runs(A)
    run.submit(replace(A, key="x", rule="x"))
    run.ahead.ran(A, WELL)
    assert run.look() == []
    run.idle.has_one(replace(A, key="x"))
    assert run.look() == ["b"]


def test_a_job_waits_for_its_machine_that_boots(run: Ahead) -> None:
    """It launches none of its own, unless that fails."""
    run.submit(A)
    run.runs(A)
    run.ahead.ran(A, WELL)
    assert run.look() == ["b"]
    run.ahead.ended("a", ok=True)
    run.submit(B)
    run.on_pause = once(run, lambda: run.get())
    assert run.story(B).ok
    assert len(run.cloud.machines) == 1
    run.submit(C)
    assert run.story(C).ok


@pytest.mark.parametrize("step", ["move in", "install"])
def test_one_that_cannot_be_used_harms_no_job(run: Ahead, step: str) -> None:
    """It ends, and the job gets a machine of its own."""
    run.submit(A)
    run.runs(A)
    run.ahead.ran(A, WELL)
    run.look()

    def fail() -> None:
        raise PreparationError("no index")

    run.scene.happens[step] = fail
    assert [each.ok for each in run.get()] == [False]
    assert run.cloud.alive == []
    assert any("launched ahead for rule b cannot be used: no index" in line for line in run.said)
    run.submit(B)
    assert run.story(B).ok


@pytest.mark.parametrize("refuse", [launchers.NONE_LEFT, launchers.LIMIT])
def test_none_to_be_had(run: Ahead, refuse: Exception) -> None:
    """No capacity, or a limit of the account: nothing waits, nothing is in the journal, and no job fails."""
    run.submit(A)
    run.runs(A)
    run.ahead.ran(A, WELL)
    run.look()
    run.cloud.refuse = lambda _: refuse  # type: ignore[assignment,return-value]
    assert [each.ok for each in run.get()] == [False]
    assert run.journal.attempts("run-1") == []
    assert run.told() is None


def test_what_ec2_had_is_used(run: Ahead) -> None:
    """Also if it is dearer than a machine of which EC2 has none."""
    run.cloud.refuse = lambda spec: (
        launchers.NONE_LEFT if spec.offer.instance_type.name == "c7i.large" else None
    )
    run.submit(A)
    run.runs(A)
    run.ahead.ran(A, WELL)
    run.look()
    assert [each.ok for each in run.get()] == [True]
    run.submit(B)
    assert run.story(B).ok
    assert len(run.cloud.machines) == 1


def test_it_makes_room(tmp_path: Path) -> None:
    """If the budget is in the way of a job, what was launched ahead ends, ready or not; what all have cost is
    within it."""
    own: Ahead = Ahead(
        tmp_path,
        max_cost_usd=0.1095,
        costs_usd=lambda: costs(own),
        make_room=lambda plan: own.idle.make_room(plan),
    )
    try:
        own.submit(A)
        own.runs(A)
        own.ahead.ran(A, WELL)
        assert own.look() == ["b"]
        (promise,) = own.begun
        large = replace(C, key="large", requirements=replace(C.requirements, mem_mb=6000))
        own.get()
        assert len(own.cloud.alive) == 1
        own.submit(large)
        assert own.story(large).ok
        assert own.cloud.machines[next(iter(own.cloud.machines))].ended_at is not None
        assert not own.idle.make_room(large)
        assert sum(costs(own).values()) < 0.1095
        again = own.idle.promise(promise.plan)
        assert again is not None
        assert not own.idle.make_room(large)
        assert again.cancel.cancelled
        assert not get_ahead(again, own.context, again.cancel).ok
        # Beyond the budget, nothing is launched ahead.
        own.feasibility.budget.adopted("i-other", 0.1)
        other = own.idle.promise(promise.plan)
        assert other is not None
        launches = len(own.cloud.launches)
        assert not get_ahead(other, own.context, other.cancel).ok
        assert len(own.cloud.launches) == launches
    finally:
        own.idle.close()
        own.journal.close()
    assert not own.cloud.alive


def test_what_depends_on_files_is_taken_from_earlier_runs(tmp_path: Path) -> None:
    """The same job's needs. Without them: none, if the rule says what they are; else the least."""
    before = replace(A.requirements, mem_mb=6000)
    for label, unknown, expected in [
        ("rule b", True, [before]),
        ("rule new", True, []),
        ("rule new", False, [A.requirements]),
    ]:
        folder = tmp_path / f"{label}{unknown}"
        folder.mkdir()
        own = Ahead(folder)
        own.ahead._history = lambda _: {"rule b": before}
        needs = Needs(label=label, requirements=A.requirements, settled=False, unknown=unknown)
        own.ahead.plan({"a": Step(rule="a"), "b": Step(rule="b", after=("a",), needs=needs)}, at_a_time=3)
        own.submit(A)
        own.runs(A)
        own.ahead.ran(A, WELL)
        own.look()
        assert [each.plan.requirements for each in own.begun] == expected
        own.journal.close()


@pytest.mark.parametrize("reuse", [Reuse.RULE, Reuse.RUN])
def test_a_machine_about_to_be_free_serves(tmp_path: Path, reuse: Reuse) -> None:
    """With `run` that of the job before, and nothing is launched ahead."""
    run = Ahead(tmp_path, reuse)
    run.submit(A)
    run.scene.happens["stage out"] = lambda: looked.extend(run.look())
    looked: list[str] = []
    assert run.story(A).ok
    assert looked == ([] if reuse is Reuse.RUN else ["b"])
    run.get()
    run.idle.close()
    run.journal.close()
    assert run.cloud.alive == []


def test_what_no_job_needs_ends(run: Ahead) -> None:
    """Jobs that are not there any more, and the end of the run, while a machine is being prepared."""
    for happens in (lambda: run.idle.expect({}), run.ahead.close):
        run.chain(a=(), b=("a",))
        promise = run.idle.promise(replace(B, key=f"{happens}"))
        assert promise is not None
        run.scene.happens["install"] = happens
        assert not get_ahead(promise, run.context, promise.cancel).ok
        assert run.cloud.alive == []


def test_without_a_thread_nothing_is_launched_ahead(run: Ahead, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs launch their machines themselves; and what was launched ahead and cannot wait ends."""
    run.submit(A)
    run.runs(A)
    run.ahead.ran(A, WELL)
    assert run.look() == ["b"]
    with monkeypatch.context() as patch:
        no_threads(patch, "idle machines", "look ahead")
        assert [each.ok for each in run.get()] == [False]
        run.ahead.start()
    assert run.cloud.alive == []
    assert not run.idle.ahead()
    run.ahead.ended("a", ok=True)
    run.submit(B)
    assert run.look() == []
    assert run.story(B).ok


def test_off(run: Ahead) -> None:
    """Nothing is launched ahead once it is closed."""
    run.submit(A)
    run.runs(A)
    run.ahead.ran(A, WELL)
    run.ahead.close()
    assert run.look() == []


def costs(run: World) -> dict[str, float]:
    now = run.clock.now()
    return {each.machine.id: each.cost_usd(now) or 0.0 for each in run.ledger.machines if each.machine}


def once(run: World, happening: Callable[[], object]) -> Callable[[], None]:
    def happen() -> None:
        run.on_pause = lambda: None
        happening()

    return happen
