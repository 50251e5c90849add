"""What dead runs left: given to the jobs that want it, kept where somebody may come for it, else ended."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from snakemake_executor_ec2.aws.cloud import Ec2Cloud
from snakemake_executor_ec2.controller.recovery import Recovery
from snakemake_executor_ec2.errors import ThrottledError
from snakemake_executor_ec2.model import MachineState, Phase
from snakemake_executor_ec2.ports import Connector
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.whereabouts import here
from snakemake_executor_ec2.staging.file_stats import sizes_and_times
from tests.fakes.clock import FakeClock
from tests.fakes.cloud import FakeCloud
from tests.fakes.records import begin, run_record
from tests.unit.machines import launchers

ENDPOINT = "https://ec2.us-east-1.example"


class OldCloud(FakeCloud):
    """The cloud of an earlier run."""

    def take_over(self) -> dict[str, MachineState]:
        return {name: self.status(name).state for name in self.machines}


@dataclass(kw_only=True)
class DeadRun:
    """An earlier run of the folder: what it has on EC2, and what its journal says."""

    id: str
    cloud: OldCloud
    world: launchers.World
    journal: Journal

    def left(self, key: str, phase: Phase, **facts: Any) -> str:
        """A machine with a job in some phase; its id."""
        plan = replace(launchers.plan(key), outputs=(Path("/w", key),), fingerprint=f"mark of {key}")
        machine = self.world.launch(key, no=len(self.cloud.machines) + 1)
        attempt = begin(self.journal, self.id, plan)
        on = self.journal.attempt(attempt).on.id
        spec = self.cloud.launches[-1]
        self.journal.intend(on, spec)
        self.journal.launched(spec.token, machine)
        self.journal.enter(attempt, phase)
        if phase in (Phase.RUN, Phase.STAGE_OUT):
            self.journal.note(attempt, saved_state={})
        if "kept_until" in facts:
            self.journal.note_machine(on, kept_until=facts.pop("kept_until"))
        self.journal.note(attempt, **facts)
        return f"{self.id} {machine.id}"


class World:
    """A folder in which runs died, and the run that comes after them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.journal = self._open()
        self.open = [self.journal]
        self.said: list[str] = []
        self.clouds: dict[str, OldCloud] = {}
        self._record("new")
        self.recovery = self._estate_of("new", self.journal)

    def _estate_of(self, name: str, journal: Journal) -> Recovery:
        return Recovery(
            journal=journal,
            run_id=name,
            region="us-east-1",
            endpoint=ENDPOINT,
            account="111",
            now=self.clock.now,
            cloud_of=lambda run_id: cast("Ec2Cloud", self.clouds[run_id]),
            connector_of=lambda run: cast("Connector", run),
            tell=self.said.append,
        )

    def _open(self) -> Journal:
        return Journal(self.folder, now=self.clock.now, warn=pytest.fail)

    def _record(self, name: str, journal: Journal | None = None, **more: Any) -> None:
        record = run_record(name, began_at=self.clock.now(), endpoint=ENDPOINT)
        (journal or self.journal).begin_run(replace(record, **more))

    def run(self, name: str, *, alive: bool = False, **more: Any) -> DeadRun:
        """A run before ours; its process is gone, unless it is alive."""
        journal = self._open()
        self._record(name, journal, **more)
        if alive:
            self.open.append(journal)
        else:
            journal.leave_run(name, detached=bool(more.get("detached")))
            journal.close()
        cloud = self.clouds[name] = OldCloud(self.clock, run_id="run-1")
        cloud.pending_s = 0
        return DeadRun(id=name, cloud=cloud, world=launchers.World(cloud, self.clock), journal=self.journal)

    def another(self, name: str) -> Recovery:
        """What another call in the same folder, which goes on at the same time, makes of it."""
        self.run(name, alive=True)
        return self._estate_of(name, self.open[-1])

    def alive(self) -> list[str]:
        """The machines that cost money, with the runs that launched them."""
        return [f"{run} {name}" for run, cloud in self.clouds.items() for name in cloud.alive]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for journal in made.open:
        journal.close()


def test_what_was_being_prepared_ends_at_once(world: World) -> None:
    """There is nothing to go on with: neither a machine that boots nor one whose job is over."""
    old = world.run("old")
    for phase in (Phase.LAUNCH, Phase.BOOT, Phase.PREPARE, Phase.TERMINATE):
        old.left(f"old.{phase.value}", phase)
    running = old.left("old.run", Phase.RUN)
    world.recovery.settle([Path("/w/old.run")], all_known=True)
    assert world.alive() == [running]
    assert "ending 4 machines that run old left behind" in world.said[0]


def test_a_job_that_is_asked_for_is_taken_once(world: World) -> None:
    """Its machine is then ours; another job like it gets none."""
    old = world.run("old")
    machine = old.left("old.1", Phase.RUN)
    world.recovery.settle([Path("/w/old.1")], all_known=True)
    assert world.recovery.take("mark of another", []) is None
    taken = world.recovery.take("mark of old.1", [])
    assert taken is not None
    assert taken.attempt.machine is not None
    assert f"old {taken.attempt.machine.id}" == machine
    assert world.recovery.take("mark of old.1", []) is None
    assert world.journal.attempts()[0].on.owner == "new"


@pytest.mark.parametrize(("all_known", "stays"), [(True, False), (False, True)])
def test_a_job_that_nobody_will_ask_for(world: World, all_known: bool, stays: bool) -> None:
    """It ends at once where all jobs are known, else when the run is over."""
    world.run("old").left("old.1", Phase.RUN)
    world.recovery.settle([Path("/w/something else")], all_known=all_known)
    assert bool(world.alive()) == stays
    world.recovery.close(left=(), detached=False)
    assert not world.alive()


def test_a_run_that_is_alive_is_let_alone(world: World) -> None:
    """And so is one on another EC2, or in another account, whose machines this one's EC2 does not show."""
    world.run("living", alive=True).left("living.1", Phase.BOOT)
    world.run("elsewhere", endpoint="https://another.example").left("elsewhere.1", Phase.BOOT)
    world.run("another's", account="222").left("another's.1", Phase.BOOT)
    before = world.alive()
    world.recovery.settle([], all_known=True)
    world.recovery.close(left=(), detached=False)
    assert world.alive() == before
    assert len(before) == 3
    assert len(world.journal.runs()) == 4


def test_a_job_that_has_changed(world: World) -> None:
    """What makes the same outputs in another way ends as soon as the new one begins, others do not."""
    old = world.run("old")
    changed, other = old.left("old.1", Phase.RUN), old.left("old.2", Phase.RUN)
    world.recovery.settle([Path("/w/old.1"), Path("/w/old.2")], all_known=True)
    assert world.alive() == sorted([changed, other])

    assert world.recovery.take("another mark", [Path("/w/old.1")]) is None
    assert world.alive() == [other]
    assert any("which has changed since it was started" in each for each in world.said)
    inherited = world.recovery.take("mark of old.2", [Path("/w/old.2")])
    assert inherited is not None
    assert inherited.attempt.key == "old.2"


def test_a_run_in_another_region(world: World) -> None:
    """Its machines are not seen here, and it is said where they are; not of one that has none any more."""
    west = ENDPOINT.replace("us-east-1", "eu-west-1")
    world.run("west", region="eu-west-1", endpoint=west, lease_s=1e10).left("west.1", Phase.RUN)
    world.run("over", region="eu-west-1", endpoint=west)
    world.recovery.settle([], all_known=True)
    (said,) = world.said
    assert "run west left machines in eu-west-1" in said
    assert len(world.alive()) == 1


@pytest.mark.parametrize("account", ["111", None])
def test_a_run_of_this_account(world: World, account: str | None) -> None:
    """It is looked after, and so is one of whose account nothing is known."""
    world.run("old", account=account).left("old.1", Phase.BOOT)
    world.recovery.settle([], all_known=True)
    assert not world.alive()


def test_what_one_live_run_asks_for_is_not_another_s(world: World) -> None:
    """From the start of the one that asks for it, and to its end."""
    old = world.run("old")
    machines = [old.left("old.1", Phase.RUN), old.left("old.2", Phase.RUN)]
    other = world.another("other")
    world.recovery.settle([Path("/w/old.1"), Path("/w/old.2")], all_known=True)
    other.settle([Path("/w/old.2")], all_known=True)
    assert world.recovery.take("mark of old.1", []) is not None
    assert other.take("mark of old.2", []) is None
    other.close(left=(), detached=False)
    assert world.alive() == machines

    world.recovery.close(left=(), detached=False)
    assert not world.alive()


def test_what_one_run_may_ask_for_is_left_to_one_that_does(world: World) -> None:
    """The first does not yet know all of its jobs, and ends before the second asks."""
    machine = world.run("old").left("old.1", Phase.RUN)
    other = world.another("other")
    world.recovery.settle([], all_known=False)
    other.settle([Path("/w/old.1")], all_known=True)
    world.recovery.close(left=(), detached=False)
    assert world.alive() == [machine]
    assert other.take("mark of old.1", []) is not None


def test_a_machine_that_stays_is_its_old_run_s(world: World) -> None:
    """Its lease counts from the last sign of whoever worked with it, not of a run that did not come to it."""
    machine = world.run("detached", detached=True).left("detached.1", Phase.RUN)
    world.recovery.settle([Path("/w/detached.1")], all_known=True)
    assert world.journal.attempts()[0].on.owner == "new"
    world.recovery.close(left=(), detached=False)
    assert world.alive() == [machine]
    assert world.journal.attempts()[0].on.owner == "detached"


def test_what_stays_on_purpose(world: World) -> None:
    """A detached run's jobs and a failed one's machine that is kept for a look, until its time is over."""
    detached = world.run("detached", detached=True).left("detached.1", Phase.RUN)
    kept = world.run("old").left("old.1", Phase.STAGE_OUT, kept_until=world.clock.now() + 300)
    world.recovery.settle([], all_known=True)
    world.recovery.close(left=(), detached=False)
    assert world.alive() == [detached, kept]

    world.clock.advance(301)
    world.recovery.settle([], all_known=True)
    assert world.alive() == [detached]


def test_a_run_without_a_machine_is_tidied_up(world: World) -> None:
    """Its security group goes (`Cloud.close`) and its key is erased."""
    world.run("old").left("old.1", Phase.BOOT)
    world.recovery.settle([], all_known=True)
    world.recovery.close(left=(), detached=False)
    assert world.clouds["old"].closed == 1
    (record,) = [run for run in world.journal.runs(closed=True) if run.id == "old"]
    assert record.closed
    assert record.login is None


def test_a_run_whose_machines_could_not_be_ended(world: World) -> None:
    """Its key stays, and the next call looks again."""
    old = world.run("old")
    machine = old.left("old.1", Phase.RUN)
    world.recovery.settle([], all_known=False)
    old.cloud.fail("terminate", ThrottledError("AWS did not answer"), times=2)
    world.recovery.close(left=(), detached=False)
    assert world.alive() == [machine]
    assert "old" in [run.id for run in world.journal.runs()]

    world.recovery.settle([], all_known=True)
    world.recovery.close(left=(), detached=False)
    assert not world.alive()
    assert "old" not in [run.id for run in world.journal.runs()]


def test_results_that_are_here_already(world: World, tmp_path: Path) -> None:
    """Fetched by a run that was killed before Snakemake knew; not where a file was changed since."""
    output = tmp_path / "o"
    output.write_text("made")
    world.run("old").left("old.1", Phase.TERMINATE, outputs_fetched=sizes_and_times([output]))
    assert world.recovery.finished("mark of old.1", ["another key"]) is None
    assert world.recovery.finished("another mark", ["old.1"]) is None
    found = world.recovery.finished("mark of old.1", ["old.1"])
    assert found is not None
    assert found.key == "old.1"
    output.write_text("changed")
    assert world.recovery.finished("mark of old.1", ["old.1"]) is None


def test_results_that_snakemake_had_touched(world: World, tmp_path: Path) -> None:
    """It does so before it notes a job as done, and is killed or finds no room; who changes a file later
    has it made anew."""
    output, folder = tmp_path / "o", tmp_path / "tree"
    output.write_text("made")
    folder.mkdir()
    for path in (output, folder):
        os.utime(path, (1000.0, 1000.0))
    world.run("old").left("old.1", Phase.TERMINATE, outputs_fetched=sizes_and_times([output, folder]))
    output.touch()
    (folder / ".snakemake_timestamp").touch()
    assert world.recovery.finished("mark of old.1", ["old.1"]) is not None

    later = time.time() + 600
    os.utime(output, (later, later))
    assert world.recovery.finished("mark of old.1", ["old.1"]) is None


@pytest.mark.parametrize("host", ["another", None])
def test_what_is_not_ours_to_judge_is_told_and_left_alone(world: World, host: str | None) -> None:
    """A run of another computer, or of the folder that this one is a copy of: whatever phase its machines
    are in, nothing is ended, nothing taken over, nothing taken for done."""
    ours = here(world.folder)
    theirs = replace(ours, host="another", boot="another") if host else replace(ours, inode=1)
    old = world.run("old", where=theirs)
    if host:  # nothing was noted of its end, and its heart does not beat
        with closing(sqlite3.connect(world.journal.folder / "journal.sqlite")) as db, db:
            db.execute("UPDATE runs SET ended_at=NULL WHERE id='old'")
        os.utime(world.folder / ".snakemake/ec2/runs/old.lock", (0, 0))
    machines = [old.left("old.1", Phase.RUN), old.left("old.2", Phase.BOOT)]
    world.recovery.settle([Path("/w/old.1")], all_known=True)
    assert world.recovery.take("mark of old.1", [Path("/w/old.1")]) is None
    assert world.recovery.finished("mark of old.1", ["old.1"]) is None
    world.recovery.close(left=(), detached=False)
    assert world.alive() == sorted(machines)
    (said,) = world.said
    assert said.startswith("2 machines of run old (")
    assert f"the run belongs to {theirs.tag}, and whether it is alive cannot be seen from this folder" in said


@pytest.mark.parametrize(
    ("lease_s", "why"),
    [(1e9, "does not exist any more"), (-1e9, "ended with its lease: no run had contacted it for")],
)
def test_a_machine_that_ended_meanwhile_is_told_of_once(world: World, lease_s: float, why: str) -> None:
    """Its job starts anew, which nobody should have to guess."""
    old = world.run("old", lease_s=lease_s)
    _, machine = old.left("old.1", Phase.RUN).split()
    old.cloud.end(machine, reason="Client.InstanceInitiatedShutdown")
    world.recovery.settle([Path("/w/old.1")], all_known=True)
    world.recovery.settle([Path("/w/old.1")], all_known=True)
    (said,) = world.said
    assert said.startswith(f"{machine} of rule align (old.1), which an earlier run left running, {why}")
    assert said.endswith("; the job starts again")
    assert world.journal.attempts()[0].on.ended_at is not None
