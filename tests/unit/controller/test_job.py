"""One job's story on fakes: what is lost is done elsewhere, and no machine is left."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_ec2.controller.job import MACHINES_PER_JOB, RECLAIMS_PER_JOB
from snakemake_executor_ec2.errors import (
    ConnectionLost,
    CredentialsExpired,
    InstanceLost,
    PreparationError,
)
from snakemake_executor_ec2.model import (
    Failure,
    JobResult,
    Market,
    SpotUse,
    Usage,
)
from tests.fakes.session import NEW_HOST_KEY
from tests.unit.controller.stories import ONLY_SPOT, PLAN, RECLAIM, SPOT, World
from tests.unit.machines import launchers


def test_the_story(world: World) -> None:
    """Its steps, in their order, on one machine that ends with it."""
    assert world.story().ok
    steps = world.scene.steps
    assert steps[:3] == ["move in", "make host key", "rotate"]
    assert sorted(steps[3:5]) == ["install", "stage in"]
    assert steps[5:] == ["run", "stage out"]
    assert len(world.cloud.machines) == 1
    assert world.endings == ["done"]


@pytest.mark.parametrize(
    ("before", "read_again", "ok"),
    [
        ("as long", ["side.txt"], True),  # of the same size: it may only have been touched
        ("other", ["side.txt"], False),
        ("other", ["."], False),
        (None, ["."], False),
        ("other", ["else.txt", "sub"], True),
        ("other", [], True),
    ],
)
def test_an_input_that_others_would_get_unchanged(
    world: World, tmp_path: Path, before: str | None, read_again: list[str], ok: bool
) -> None:
    """A job that leaves it with another size fails if one that waits for it reads it, or its folder, too."""
    if before:
        (tmp_path / "side.txt").write_text(before)
    again = tuple(Path(tmp_path, each) for each in read_again)
    outcome = world.story(replace(PLAN, workdir=tmp_path, read_again=again))
    assert (outcome.ok, outcome.for_good) == (ok, not ok)
    if not ok:
        assert "it changed its own input (side.txt), and a job that waits for it reads" in outcome.message
    assert world.endings == ["done" if ok else "failed"]
    assert not world.cloud.alive


@pytest.mark.parametrize("rotated", [True, False])
def test_a_new_host_key_locks_nobody_out(world: World, *, rotated: bool) -> None:
    """Where the connection breaks while it is put in place, the machine may show either; then the new one."""

    def cut() -> None:
        world.scene.keys["203.0.113.1"] = NEW_HOST_KEY if rotated else launchers.HOST_KEY.public
        raise ConnectionLost("The connection broke off.")

    world.scene.happens["rotate"] = cut
    assert world.story().ok
    assert len(world.cloud.machines) == 1
    assert [each.on.host_keys for each in world.journal.attempts("run-1")] == [(NEW_HOST_KEY,)]


def test_a_failed_job_is_no_lost_machine(world: World) -> None:
    """A job's own failure is told with its cause, and is not run again: that is Snakemake's to decide."""
    world.scene.results = [JobResult(exit_code=3, failure=Failure.EXIT)]
    outcome = world.story()
    assert not outcome.ok
    assert "exit code 3" in outcome.message
    assert len(world.cloud.machines) == 1
    assert world.endings == ["failed"]


def test_what_a_job_asked_for_and_used_is_kept(world: World) -> None:
    """The journal gives it back as it was, with what ended a machine that was lost under the job."""
    used = JobResult(exit_code=0, seconds=9.5, usage=Usage(peak_mem_mib=85, cpu_seconds=3.5, peak_disk_mib=7))
    world.scene.results = [used]
    world.scene.happens["run"] = lambda: world.cloud.end(world.newest(), reason=RECLAIM)
    plan = launchers.plan("run-1.1.1", spot=SpotUse.PREFER, runtime_min=10, instance_types=("m7i.*", "c*"))
    assert world.story(plan).ok
    lost, done = world.journal.attempts("run-1")
    assert lost.asked == done.asked == plan.requirements
    assert (lost.result, done.result) == (None, used)
    assert RECLAIM in lost.error
    assert done.error == ""


@pytest.mark.parametrize("step", ["move in", "install", "stage in", "run", "stage out"])
def test_a_machine_that_is_lost_costs_another_one(world: World, step: str) -> None:
    """In whatever step: the job begins anew, on another machine."""
    world.scene.happens[step] = lambda: world.cloud.end(world.newest())
    assert world.story().ok
    assert len(world.cloud.machines) == MACHINES_PER_JOB
    assert world.endings == ["lost", "done"]
    assert any("starting rule align (run-1.1.1) again on another machine" in each for each in world.said)


def test_each_machine_has_its_own_log(world: World) -> None:
    """What a job printed on a machine that was lost is kept, beside what it prints on the next one."""
    world.scene.happens["stage out"] = lambda: world.cloud.end(world.newest())
    outcome = world.story()
    assert outcome.log is not None
    assert outcome.log.read_text() == "printed\n"
    assert outcome.log.with_name(f"{outcome.log.name}.1").read_text() == "printed\n"


def test_machines_are_not_lost_for_ever(world: World) -> None:
    """After some, the job has failed, and its sentence says that the machine ended."""
    world.at_every("run", lambda: world.cloud.end(world.newest()))
    outcome = world.story()
    assert not outcome.ok
    assert "ended by itself (Client.InstanceInitiatedShutdown)" in outcome.message
    assert len(world.cloud.machines) == MACHINES_PER_JOB


@pytest.mark.parametrize("step", ["move in", "install", "stage in", "run", "stage out"])
def test_two_reclaims_then_on_demand(world: World, step: str) -> None:
    """EC2 takes two spot machines back in whatever step: elsewhere each time, then on-demand."""
    taken = []

    def take_back() -> None:
        if world.markets[-1] is Market.SPOT:
            taken.append(world.newest())
            world.cloud.end(world.newest(), reason=RECLAIM)

    world.at_every(step, take_back)
    assert world.story(SPOT).ok
    assert world.markets == [Market.SPOT, Market.SPOT, Market.ON_DEMAND]
    first, second = (world.cloud.machines[each].machine for each in taken)
    assert (first.instance_type, first.zone) != (second.instance_type, second.zone)
    assert sum("which does not count as a retry" in each for each in world.said) == 2


def test_a_launch_that_ec2_takes_back_is_no_loss(world: World) -> None:
    """EC2 accepts a launch and then has no room: another type or zone, as often as it takes."""
    reasons = ["Server.InsufficientInstanceCapacity"] * 4

    def end() -> None:
        if reasons:
            world.cloud.end(world.newest(), reason=reasons.pop())

    world.at_every("move in", end)
    assert world.story().ok
    places = [(each.machine.instance_type, each.machine.zone) for each in world.cloud.machines.values()]
    assert len(places) == len(set(places)) == 5


def test_reclaims_and_losses_are_counted_apart(world: World) -> None:
    """A machine that crashes between two reclaims uses up neither."""
    reasons = [RECLAIM, "Client.InstanceInitiatedShutdown", RECLAIM]

    def end() -> None:
        if reasons:
            world.cloud.end(world.newest(), reason=reasons.pop(0))

    world.at_every("run", end)
    assert world.story(SPOT).ok
    assert world.markets == [Market.SPOT, Market.SPOT, Market.SPOT, Market.ON_DEMAND]


def test_nothing_but_spot_has_an_end_too(world: World) -> None:
    """Who wants only spot gets so many machines, and then the sentence that EC2 took them back."""
    world.at_every("run", lambda: world.cloud.end(world.newest(), reason=RECLAIM))
    outcome = world.story(ONLY_SPOT)
    assert not outcome.ok
    assert RECLAIM in outcome.message
    assert world.markets == [Market.SPOT] * (RECLAIMS_PER_JOB + 1)


def test_what_fails_because_the_machine_goes_down_is_its_end(world: World) -> None:
    """An installer that is killed with its machine has not failed: EC2, a moment later, says why it ended."""

    def killed() -> None:
        world.end_later(RECLAIM)
        raise PreparationError("the installer was terminated")

    world.scene.happens["install"] = killed
    assert world.story(SPOT).ok
    assert world.endings == ["lost", "done"]
    assert any(
        f"reclaimed a spot machine (machine {next(iter(world.cloud.machines))} ended by itself" in each
        for each in world.said
    )


def test_an_installation_that_fails_is_told(world: World) -> None:
    """On a machine that is well it is the job's failure, and no other machine is tried."""

    def fail() -> None:
        raise PreparationError("no such package")

    world.scene.happens["install"] = fail
    outcome = world.story()
    assert "no such package" in outcome.message
    assert world.endings == ["failed"]


@pytest.mark.parametrize("fails", ["install", "stage in"])
def test_what_fails_does_not_wait_for_what_goes_on_beside_it(world: World, fails: str) -> None:
    """An hour of installation after an input that is missing, or of upload after a typo, is not paid for."""
    begun, over, ended = threading.Event(), threading.Event(), threading.Event()

    def fail() -> None:
        begun.wait(30)
        raise PreparationError("no such thing")

    def go_on() -> None:
        begun.set()
        over.wait(30)
        ended.set()

    world.scene.happens[fails] = fail
    world.scene.happens["install" if fails == "stage in" else "stage in"] = go_on
    assert "no such thing" in world.story().message
    assert not ended.is_set()
    over.set()
    assert ended.wait(30)


def test_the_machine_s_own_word_waits_for_ec2_s(world: World) -> None:
    """A job that was interrupted on a spot machine: EC2's reason, seconds later, makes it a reclaim."""

    def interrupt() -> None:
        world.end_later(RECLAIM)
        raise InstanceLost("the job was interrupted: the machine is shutting down")

    world.scene.happens["run"] = interrupt
    assert world.story(SPOT).ok
    assert any("EC2 has reclaimed a spot machine (the job was interrupted" in each for each in world.said)


def test_a_machine_that_cannot_be_terminated_is_told_to_end(world: World) -> None:
    """Where AWS does not take the call (credentials that ran out), the machine powers itself off."""
    world.cloud.fail("terminate", CredentialsExpired("the login has expired"))
    assert world.story().ok
    assert world.scene.steps[-1] == "let go"
    assert any("powers itself off" in each for each in world.said)
    world.cloud.terminate(world.cloud.alive)


def test_a_machine_that_never_answers(world: World) -> None:
    """It ends after the boot timeout, and another one is tried."""
    world.scene.silent.add("203.0.113.1")
    assert world.story().ok
    assert world.endings == ["lost", "done"]
    assert any("within 60 s (--ec2-boot-timeout)" in each for each in world.said)


def test_bare_metal_takes_its_time_to_boot(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of an hour is no reason to take another one."""
    launch = world.cloud.launch
    monkeypatch.setattr(
        world.cloud, "launch", lambda spec, cancel: replace(launch(spec, cancel), instance_type="c5.metal")
    )
    world.scene.silent.add("203.0.113.1")
    booted = world.clock.monotonic() + 900

    def look(_: float) -> None:
        if world.clock.monotonic() > booted:
            world.scene.silent.clear()

    world.clock.on_sleep = look
    assert world.story().ok
    assert world.endings == ["done"]


def test_a_crash_does_not_wait_for_the_lease(world: World) -> None:
    """EC2 calls it running, but its checks fail: given up after ten minutes, ended, done elsewhere."""

    def crash() -> None:
        world.scene.silent.add("203.0.113.1")
        world.cloud.impaired.add(world.newest())

    world.scene.happens["run"] = crash
    began = world.clock.monotonic()
    assert world.story().ok
    assert 600 <= world.clock.monotonic() - began < 700
    assert any("has crashed" in each for each in world.said)
