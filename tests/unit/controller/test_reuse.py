"""One machine for one job after the other, on fakes: when it is used again, and that it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_ec2.errors import (
    Cancelled,
    CredentialsExpired,
    Ec2ExecutorError,
    InstanceLost,
    PreparationError,
)
from snakemake_executor_ec2.machines.launcher import Launcher
from snakemake_executor_ec2.model import (
    Arch,
    Cleaned,
    Failure,
    JobOutcome,
    JobPlan,
    JobResult,
    Machine,
    Market,
)
from tests.fakes.threads import no_threads
from tests.unit.controller.stories import RECLAIM, SPOT, World
from tests.unit.machines import launchers

FIRST, SECOND, THIRD = (launchers.plan(f"run-1.{number}.1") for number in (1, 2, 3))
RULE = FIRST.rule


def jobs(world: World, *plans: JobPlan, coming: int = 0) -> list[JobOutcome]:
    """One job after the other, with the others and so many more still to come."""
    outcomes = []
    for number, plan in enumerate(plans, start=1):
        world.idle.want(plan)
        world.idle.expect({RULE: len(plans) - number + coming})
        outcomes.append(world.story(plan))
    return outcomes


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_machine_for_all_jobs_of_a_rule(world: World) -> None:
    """Each finds it clean; it ends with the last one; each bears its part of its cost."""
    assert all(outcome.ok for outcome in jobs(world, FIRST, SECOND, THIRD))
    assert len(world.cloud.machines) == 1
    assert world.cloud.alive == []
    assert world.endings == ["done"] * 3
    assert world.scene.steps.count("clean") == 2
    assert world.scene.steps.count("rotate") == 1
    (machine,) = world.ledger.machines
    now = world.clock.now()
    assert machine.cost_usd(now) == pytest.approx(sum(each.cost_usd(now) or 0 for each in machine.entries))
    attempts = world.journal.attempts("run-1")
    assert {each.on.id for each in attempts} == {machine.record}
    assert attempts[0].on.ended_at is not None


def test_no_machine_waits_for_nobody(world: World) -> None:
    """It ends with its job where no other one of the rule is to come, without being cleaned."""
    world.idle.expect({"another": 5})
    assert world.story(FIRST).ok
    assert world.cloud.alive == []
    assert "clean" not in world.scene.steps


def test_a_machine_ends_when_the_rule_is_over(world: World) -> None:
    """What waits ends as soon as fewer jobs are to come."""
    jobs(world, FIRST, coming=1)
    assert len(world.cloud.alive) == 1
    world.idle.expect({})
    assert world.cloud.alive == []
    assert any("after 1 job, estimated cost" in line for line in world.said)


def test_a_machine_does_not_wait_for_ever(world: World) -> None:
    """A job that is to come may come in an hour."""
    jobs(world, FIRST, coming=1)
    world.clock.sleep(61)
    with world.idle._changed:
        world.idle._changed.notify_all()
    wait_for(lambda: not world.cloud.alive)


def test_without_a_thread_no_machine_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could end it in time: it ends with its job, and the next job finds none."""
    no_threads(monkeypatch, "idle machines")
    jobs(world, FIRST, coming=1)
    assert world.cloud.alive == []
    assert not world.idle.serving()
    monkeypatch.undo()
    jobs(world, SECOND, coming=1)
    assert len(world.cloud.alive) == 1
    world.idle.close()


def test_none_waits_after_the_end(world: World) -> None:
    """Ctrl-C, a deleted folder, the end of the run."""
    jobs(world, FIRST, coming=5)
    world.idle.close()
    assert world.cloud.alive == []
    jobs(world, SECOND, coming=5)
    assert world.cloud.alive == []


@pytest.mark.parametrize(
    "cleaned",
    [Cleaned(changed="it has changed /etc/passwd", free_mib=20_000), Cleaned(changed="", free_mib=100)],
    ids=["changed", "full"],
)
def test_what_is_not_as_it_was_is_not_used(world: World, cleaned: Cleaned) -> None:
    """Another machine is launched; why, is told."""
    world.scene.cleaned = cleaned
    assert all(outcome.ok for outcome in jobs(world, FIRST, SECOND))
    assert len(world.cloud.machines) == 2
    world.idle.close()
    assert world.cloud.alive == []
    told = [line for line in world.said if "gets no other job" in line]
    assert bool(told) == bool(cleaned.changed)


def test_a_failed_job_ends_its_machine(world: World) -> None:
    """Its next attempt, and all other jobs, run elsewhere."""
    world.scene.results = [JobResult(exit_code=3, failure=Failure.EXIT), JobResult(exit_code=0)]
    first, second = jobs(world, FIRST, SECOND)
    assert (first.ok, second.ok) == (False, True)
    assert len(world.cloud.machines) == 2


def test_other_needs_want_other_machines(world: World) -> None:
    """What does not fit is left alone."""
    jobs(world, FIRST, coming=9)
    for number, need in enumerate(
        [
            replace(SECOND.requirements, mem_mb=60_000),
            replace(SECOND.requirements, threads=16),
            replace(SECOND.requirements, instance_types=("r7i.*",)),
            replace(SECOND.requirements, ami="ami-0fake0arm", arch=Arch.ARM64),
            SPOT.requirements,
        ]
    ):
        assert jobs(world, replace(SECOND, key=f"run-1.{number}.2", requirements=need), coming=9)[0].ok
    # What needs 16 processors fits on the machine that was large enough for the memory; spot is cheaper than
    # an on-demand machine that waits.
    names = [each.spec.offer.instance_type.name for each in world.cloud.machines.values()]
    assert names == ["c7i.large", "m7i.4xlarge", "r7i.large", "m7g.large", "c7i.large"]
    assert world.markets[-1] is Market.SPOT
    world.idle.close()
    assert world.cloud.alive == []


@pytest.mark.parametrize("number", [1, 2])
def test_the_one_that_has_the_inputs_is_taken(world: World, number: int) -> None:
    """Of two that would do."""
    plans = {n: replace(FIRST, key=f"run-1.{n}.1", inputs=(Path(f"/w/{n}"),)) for n in (1, 2)}
    jobs(world, plans[1], coming=9)
    one = world.idle.take(plans[1])
    assert one is not None
    jobs(world, plans[2], coming=9)
    assert world.idle.put(one.ready, one.on, one.used, plans[1])
    jobs(world, replace(plans[number], key="run-1.3.1"), coming=9)
    last = world.ledger.entries[-1].machine
    assert last is not None
    assert last.id == f"i-{number:017x}"
    world.idle.close()


def test_a_machine_that_ended_while_it_waited_costs_no_try(world: World) -> None:
    """The job had not begun: it is given another one, and no loss is counted."""
    jobs(world, FIRST, coming=1)
    world.cloud.end(world.newest(), reason="Server.SpotInstanceTermination")
    assert jobs(world, SECOND)[0].ok
    assert len(world.cloud.machines) == 2
    assert world.endings == ["done", "done"]


def test_a_machine_that_is_lost_with_its_second_job(world: World) -> None:
    """That job begins anew elsewhere; the first one is not touched."""
    jobs(world, FIRST, coming=1)
    world.scene.happens["stage in"] = lambda: world.cloud.end(world.newest())
    assert jobs(world, SECOND)[0].ok
    assert world.endings == ["done", "lost", "done"]


def test_what_cannot_be_ended_is_told(world: World) -> None:
    """Expired credentials: the machine is told to power itself off, and nothing is raised."""
    jobs(world, FIRST, coming=1)
    world.cloud.fail("terminate", CredentialsExpired("The AWS credentials have expired."))
    world.idle.close()
    assert "let go" in world.scene.steps
    assert any("have expired" in line for line in world.said)
    world.cloud.end(world.newest())


def test_a_job_whose_end_is_not_on_the_disk_keeps_its_machine_to_itself(world: World) -> None:
    """If we were killed, the next run would start it again, in what the next job has left."""
    world.scene.happens["stage out"] = lambda: world.no_room(until_s=10_000)
    jobs(world, FIRST, coming=1)
    assert "clean" not in world.scene.steps


@pytest.mark.parametrize("error", [PreparationError("full"), InstanceLost("gone"), Cancelled("now")])
def test_a_machine_that_cannot_be_cleaned_costs_no_result(world: World, error: Ec2ExecutorError) -> None:
    """The results are here: the job is done, and it does not run twice."""

    def fail() -> None:
        raise error

    world.scene.happens["clean"] = fail
    assert jobs(world, FIRST, coming=1)[0].ok
    assert world.endings == ["done"]
    assert world.scene.steps.count("run") == 1
    assert world.cloud.alive == []


def test_what_waits_makes_room_for_what_does_not_fit(world: World) -> None:
    """A machine of the same rule that is too small for a job is in its way, like any other."""
    jobs(world, FIRST, coming=9)
    large = replace(SECOND, requirements=replace(SECOND.requirements, mem_mb=60_000))
    assert world.idle.make_room(SECOND)
    assert len(world.cloud.alive) == 1
    assert world.idle.make_room(large)
    assert world.cloud.alive == []
    assert not world.idle.make_room(large)


def test_a_machine_that_ends_as_soon_as_it_waits_needs_no_budget(world: World) -> None:
    """Else the budget would count it for ever, and jobs would wait for its end."""

    class Slow(Launcher):
        def idle(self, machine: Machine, waiting_s: float) -> None:
            ends = threading.Thread(target=world.idle.expect, args=({},), daemon=True)
            ends.start()
            ends.join(0.2)
            super().idle(machine, waiting_s)

    object.__setattr__(world.launcher, "__class__", Slow)
    jobs(world, FIRST, coming=1)
    wait_for(lambda: not world.cloud.alive)
    wait_for(lambda: not world.feasibility.budget.is_running())


def test_a_job_without_capacity_takes_what_comes_free(world: World) -> None:
    """At once, and not when its long pause is over. Nothing more is launched."""
    jobs(world, FIRST, coming=9)
    free = world.idle.take(FIRST)
    assert free is not None
    world.cloud.refuse = lambda _: launchers.NONE_LEFT
    pauses: list[float] = []

    def pause() -> None:
        if world.clock.slept[-1] < 1:
            return  # only its turn to ask EC2
        pauses.append(world.clock.slept[-1])
        if len(pauses) == 5:
            assert world.idle.put(free.ready, free.on, free.used, FIRST)

    world.on_pause = pause
    assert jobs(world, SECOND)[0].ok
    assert (len(pauses), len(world.cloud.machines)) == (5, 1)


def test_to_ask_for_room_sets_nothing_aside(world: World) -> None:
    """The budget counts a machine that suits a job as waiting until that job has it."""
    jobs(world, FIRST, coming=9)
    before = world.feasibility.budget.set_aside_usd()
    assert world.idle.make_room(SECOND)
    assert world.feasibility.budget.set_aside_usd() == before
    world.idle.close()


def test_no_idle_spot_machine_after_two_reclaims(world: World) -> None:
    """A third one could be taken back as well."""
    jobs(world, SPOT, coming=9)
    free = world.idle.take(SPOT)
    assert free is not None

    def reclaim() -> None:
        world.cloud.end(world.newest(), reason=RECLAIM)
        if len(world.cloud.machines) == 3:
            del world.scene.happens["run"]
            assert world.idle.put(free.ready, free.on, free.used, SPOT)

    world.at_every("run", reclaim)
    assert jobs(world, replace(SPOT, key="run-1.2.1"), coming=9)[0].ok
    assert world.markets == [*[Market.SPOT] * 3, Market.ON_DEMAND]
    world.idle.close()
