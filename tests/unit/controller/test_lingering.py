"""Machines that stay for others, on fakes: for whom, and that they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_ec2.controller.lingering import Lingering, Reader
from snakemake_executor_ec2.errors import CredentialsExpired
from snakemake_executor_ec2.machines.fan_out import Copy, File
from snakemake_executor_ec2.machines.peers import Peers
from snakemake_executor_ec2.model import Failure, JobResult
from snakemake_executor_ec2.ssh.keys import new_key_pair
from tests.fakes.threads import no_threads
from tests.unit.controller.stories import World
from tests.unit.machines import launchers

FIRST, SECOND = (launchers.plan(f"run-1.{number}.1") for number in (1, 2))
LARGE = Path("/w/large")


class Staying:
    """A world in which the first job's machine has a large file."""

    def __init__(self, world: World, size: int) -> None:
        self.world = world
        self.peers = Peers(
            cloud=world.cloud,
            clock=world.clock,
            authority=new_key_pair(),
            user="ec2-user",
            port=22,
            tell=world.said.append,
        )
        self.lingering = Lingering(
            self.peers,
            60.0,
            world.clock,
            world.ledger,
            launcher=lambda: world.launcher,
            tell=world.said.append,
        )
        world.context = replace(world.context, lingering=self.lingering)
        self.size = size
        world.scene.happens["stage out"] = self.has_it

    def has_it(self) -> None:
        (machine_id,) = self.world.cloud.alive
        copy = Copy(
            machine_id=machine_id,
            zone="a",
            name="n",
            path=str(LARGE),
            host_keys=(),
            ahead_s=0.0,
            content=LARGE,
            size=self.size,
        )
        self.peers.fan_out.has("key", copy)

    def step(self) -> str:
        """Where another machine gets the file."""
        step = self.peers.fan_out.step(File(keys=("key",), size=self.size), "i-9", "a", 0.0)
        return step.machine_id if isinstance(step, Copy) else "sent"

    def reader(self, *after: int) -> None:
        """The second job is to read it after these."""
        self.lingering.read_later([Reader(job=2, paths=(LARGE,), after=frozenset(after))])


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_machine_stays_until_the_next_job_has_its_file(world: World) -> None:
    """From the end of its own job, whose outcome does not wait for that, until the other has staged in."""
    staying = Staying(world, 5 << 20)
    staying.reader(1)
    assert world.story(FIRST).ok
    assert len(world.cloud.alive) == 1
    assert world.endings == ["done"]
    staying.lingering.expect(SECOND)  # which reads other files, as far as is known here
    wait_for(lambda: not world.cloud.alive)
    staying.lingering.read_later([Reader(job=2, paths=(LARGE,), after=frozenset({1}))])
    staying.lingering.ended(FIRST, ok=True)  # too late to wait for it
    assert not staying.peers.needs("i-1", least=0)
    wait_for(lambda: any("after 1 job, estimated cost" in line for line in world.said))


def test_a_reader_that_lies_ends_no_machine(world: World) -> None:
    """It says that a file is wrong which a machine stays for: others still get it from there."""
    staying = Staying(world, 5 << 20)
    staying.reader(1)
    assert world.story(FIRST).ok
    (machine_id,) = world.cloud.alive
    for _ in range(5):
        staying.peers.fan_out.has_not(File(keys=("key",), size=staying.size), machine_id, reader="i-hostile")
    assert staying.step() == machine_id
    time.sleep(0.6)
    assert world.cloud.alive == [machine_id]
    staying.peers.fan_out.has_not(File(keys=("key",), size=staying.size), machine_id, reader="i-2")
    assert staying.step() == "sent"
    wait_for(lambda: not world.cloud.alive)


def test_without_a_thread_no_machine_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could end it: it ends with its job, and the controller sends the file."""
    staying = Staying(world, 5 << 20)
    staying.reader(1)
    no_threads(monkeypatch, "stays")
    assert world.story(FIRST).ok
    assert world.cloud.alive == []
    assert staying.step() == "sent"
    staying.lingering.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_while_a_machine_stays_ends_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else would, before the run's end."""
    staying = Staying(world, 5 << 20)
    staying.reader(1)

    def fail(*_: object) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(staying.lingering, "_in_time", fail)
    assert world.story(FIRST).ok
    wait_for(lambda: not any(each.name.startswith("stays") for each in threading.enumerate()))
    assert world.cloud.alive == []


@pytest.mark.parametrize("why", ["not the last", "nobody", "small and old", "failed"])
def test_a_machine_that_is_not_needed_ends_with_its_job(world: World, why: str) -> None:
    """The reader waits for another job, too; there is none; it would cost more than to send it; the job has
    failed."""
    staying = Staying(world, 5 << 20)
    if why != "nobody":
        staying.reader(*([1, 3] if why == "not the last" else [1]))
    if why == "small and old":
        world.scene.happens["run"] = lambda: world.clock.advance(90)
    if why == "failed":
        world.scene.results = [JobResult(exit_code=1, failure=Failure.EXIT)]
    assert world.story(FIRST).ok is (why != "failed")
    assert world.cloud.alive == []


@pytest.mark.parametrize("end", ["after its job", "after its time", "when it was idle"])
def test_nobody_relies_on_a_machine_that_ends(world: World, end: str) -> None:
    """However it ends: what it had is not asked for there any more, nor counted."""
    staying = Staying(world, 200 << 20)
    if end == "after its time":
        staying.reader(1)
    if end == "when it was idle":
        world.idle.expect({FIRST.rule: 1})
    assert world.story(FIRST).ok
    if end != "after its job":
        assert staying.step() != "sent"
        world.clock.advance(61)
        world.idle.close()
    wait_for(lambda: not world.cloud.alive)
    assert staying.step() == "sent"


@pytest.mark.parametrize("end", ["idle", "room", "close"])
def test_a_machine_does_not_stay_for_ever(world: World, end: str) -> None:
    """Not longer than machines may be idle, nor if another job needs its room, nor after the run."""
    staying = Staying(world, 200 << 20)
    staying.reader(1)
    assert world.story(FIRST).ok
    assert len(world.cloud.alive) == 1
    if end == "idle":
        world.clock.advance(61)
    if end == "room":
        assert staying.lingering.make_room()
    if end == "close":
        staying.lingering.close()
    wait_for(lambda: not world.cloud.alive)
    (machine,) = world.ledger.machines
    wait_for(lambda: machine.ended_at is not None)


def test_a_machine_that_ec2_does_not_end_is_told_to_go(world: World) -> None:
    """Credentials may have expired; it is told over ssh, and the user is told."""
    staying = Staying(world, 200 << 20)
    staying.reader(1)
    assert world.story(FIRST).ok
    world.cloud.fail("terminate", CredentialsExpired("expired"))
    staying.lingering.close()
    assert "let go" in world.scene.steps
    world.cloud.end(world.cloud.alive[0])
