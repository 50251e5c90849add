"""When a story ends before its machine does, and how another run goes on with it."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from snakemake_executor_ec2.controller.context import Inherited
from snakemake_executor_ec2.errors import (
    Cancelled,
    Ec2ExecutorError,
    NotFetched,
)
from snakemake_executor_ec2.model import (
    Failure,
    JobResult,
    Phase,
)
from tests.fakes.records import begin
from tests.fakes.session import FakeControl
from tests.unit.controller.stories import PLAN, World


def test_results_that_find_no_room_stay_on_the_machine(world: World) -> None:
    """Tried again for as long as a lease is long; then the machine is left, and that is said."""

    def no_room() -> None:
        raise NotFetched("o: No space left on device", here=True)

    world.at_every("stage out", no_room)
    outcome = world.story()
    assert not outcome.ok
    assert len(world.cloud.alive) == 1
    assert any("keeps the results until its lease ends" in each for each in world.said)
    assert sum("cannot be stored on your computer" in each for each in world.said) == 1
    world.cloud.terminate(world.cloud.alive)


def test_what_would_be_done_twice_waits_for_the_journal(world: World) -> None:
    """With the disk full, a job is not started before another run could go on with it, and its machine
    not ended before another run would know of its results."""
    known: list[bool] = []

    def look() -> None:
        (attempt,) = world.journal.attempts("run-1")
        known.append(attempt.saved_state is not None)
        world.no_room(until_s=100)

    began = world.clock.now()
    world.scene.happens["move in"] = lambda: world.no_room(until_s=100)
    world.scene.happens["run"] = look
    assert world.story().ok
    assert known == [True]
    (attempt,) = world.journal.attempts("run-1")
    assert attempt.outputs_fetched is not None
    (entry,) = world.ledger.entries
    assert entry.on.ended_at is not None
    assert entry.on.ended_at - began >= 200
    assert entry.seconds[Phase.JOURNAL] >= 200, "and that is seen"
    assert sum(entry.seconds.values()) == pytest.approx(world.clock.now() - began)
    assert sum("waits until the journal can be written" in each for each in world.said) == 2


def test_a_journal_that_cannot_be_written_for_a_lease(world: World) -> None:
    """A job that was not started by then fails, and says why; one that is done is done."""
    world.scene.happens["move in"] = lambda: world.no_room(until_s=2 * world.context.lease_s)
    outcome = world.story()
    assert "the journal could not be written for 60 minutes" in outcome.message
    assert "run" not in world.scene.steps
    assert not world.cloud.alive

    world.clock.sleep(2 * world.context.lease_s)
    world.scene.happens["stage out"] = lambda: world.no_room(until_s=2 * world.context.lease_s)
    assert world.story().ok
    world.clock.sleep(2 * world.context.lease_s)


def test_who_ends_a_run_without_room_does_not_lose_results(world: World) -> None:
    """Ctrl-C while there is no room for results, or to note that they are here: the machine keeps them."""

    def ctrl_c(_: float) -> None:
        world.cancel_token.cancel()

    def no_room() -> None:
        world.clock.on_sleep = ctrl_c
        raise NotFetched("o: No space left on device", here=True)

    def no_room_for_notes() -> None:
        world.no_room(until_s=100)
        world.clock.on_sleep = ctrl_c

    for happening in (no_room, no_room_for_notes):
        world.cancel_token = FakeControl(world.clock)
        world.scene.happens["stage out"] = happening
        assert world.story().cancelled
        (machine,) = world.cloud.alive
        assert f"snakemake-ec2 ssh {machine}" in world.said[-1]
        world.disk.full = False
        world.clock.on_sleep = None
        assert world.journal.attempts("run-1")[-1].saved_state is not None
        assert not world.endings[-1]
        world.cloud.terminate([machine])


@pytest.mark.parametrize(
    ("at", "raises", "asked_for", "stays"),
    [
        ("run", Cancelled, False, False),
        ("run", NotFetched, False, True),  # whether it has ended is not known: its log has no room here
        ("run", NotFetched, True, False),
        ("stage out", Cancelled, False, True),
        ("stage out", Cancelled, True, False),
    ],
)
def test_where_snakemake_breaks_down(
    world: World, at: str, raises: type[Ec2ExecutorError], asked_for: bool, stays: bool
) -> None:
    """What a job has made stays where it is, unless the user ends the run; a job that runs ends."""

    def break_down() -> None:
        world.cancel_token.cancel(keep_results=not asked_for)
        raise raises("no more")

    world.scene.happens[at] = break_down
    assert world.story().cancelled
    assert bool(world.cloud.alive) == stays
    world.cloud.terminate(world.cloud.alive)


def test_results_that_cannot_be_fetched_stay_on_the_machine(world: World) -> None:
    """Whatever is in the way: tried again a few times, then the machine is left, and the way there told."""

    def refuse() -> None:
        raise NotFetched("Files could not be fetched: /w/o is a symlink that leads out, to /etc.")

    world.at_every("stage out", refuse)
    began = world.clock.monotonic()
    outcome = world.story()
    assert "a symlink that leads out" in outcome.message
    assert world.scene.steps.count("stage out") == 5
    assert world.clock.monotonic() - began < 120
    (machine,) = world.cloud.alive
    assert any(f"snakemake-ec2 ssh {machine}" in each for each in world.said)
    world.cloud.terminate([machine])


def test_results_that_can_be_fetched_a_moment_later(world: World) -> None:
    """A file that was still written to is no reason to stay away."""

    def changed() -> None:
        raise NotFetched("Files could not be fetched: /w/log changed while it was read.")

    world.scene.happens["stage out"] = changed
    assert world.story().ok


def test_ctrl_c_ends_the_machine_and_detach_does_not(world: World) -> None:
    """Cancelled while the job runs: the machine ends, unless the user detached."""
    world.scene.happens["run"] = world.cancel_token.cancel
    assert world.story().cancelled
    assert not world.cloud.alive

    world.cancel_token = FakeControl(world.clock)
    world.scene.happens["run"] = lambda: world.cancel_token.cancel(detach=True)
    assert world.story().cancelled
    assert len(world.cloud.alive) == 1
    assert any("works on until its lease of 60 minutes ends" in each for each in world.said)
    world.cloud.terminate(world.cloud.alive)


def test_a_failed_machine_is_kept_for_a_look(world: World) -> None:
    """With the lease that was asked for, and in the journal, so that nobody ends it before."""
    world.context = replace(world.context, keep_failed_s=300.0)
    world.scene.results = [JobResult(exit_code=3, failure=Failure.EXIT)]
    assert not world.story().ok
    assert world.scene.steps[-1] == "lease 300"
    (attempt,) = world.journal.attempts("run-1")
    assert attempt.on.kept_until is not None
    assert len(world.cloud.alive) == 1
    world.cloud.terminate(world.cloud.alive)


def test_a_job_is_gone_on_with(world: World) -> None:
    """What a dead run left at work is followed to its end, on its machine and no other; when that is
    lost, the job begins anew."""
    for lost in (False, True):
        record = begin(world.journal, "run-0", PLAN, "ssh-ed25519 AAAA")
        machine = world.launch("run-1.1.1", no=7 + lost)
        world.journal.note(record, saved_state={"remembered": True})
        attempt = world.journal.attempt(record)
        attempt = replace(attempt, on=replace(attempt.on, machine=machine), saved_state={"remembered": True})
        before = len(world.cloud.machines)
        world.scene.steps.clear()
        if lost:
            world.scene.happens["run"] = lambda: world.cloud.end(world.newest())
        inherited = Inherited(attempt=attempt, cloud=world.cloud, connector=world.scene)
        assert world.story(PLAN, inherited).ok
        assert world.scene.steps[:2] == ["resume", "run"]
        assert len(world.cloud.machines) == before + lost


def test_a_lease_is_renewed_while_something_takes_long(world: World) -> None:
    """Files on their way and installations hold the machine as a job that is followed does."""
    world.context = replace(world.context, lease_s=0.04)
    renewed = threading.Event()
    world.scene.happens["renew"] = renewed.set
    world.scene.happens["stage in"] = lambda: renewed.wait(30)
    assert world.story().ok
    assert renewed.is_set()
