"""The end of a run: what the journal says is left is what EC2 says."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from snakemake_executor_ec2.aws.cloud import Ec2Cloud
from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.controller.context import RunContext
from snakemake_executor_ec2.controller.idle import Promise
from snakemake_executor_ec2.controller.process import allow_many_files
from snakemake_executor_ec2.controller.recovery import Recovery
from snakemake_executor_ec2.controller.run import Run
from snakemake_executor_ec2.errors import ThrottledError
from snakemake_executor_ec2.model import JobOutcome, Software
from snakemake_executor_ec2.ports import Connector
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.ledger import Ledger
from snakemake_executor_ec2.records.rows import RunRecord
from tests.fakes.clock import FakeClock
from tests.fakes.cloud import FakeCloud
from tests.fakes.records import run_record
from tests.fakes.threads import no_threads
from tests.unit.machines import launchers


class OwnCloud(FakeCloud):
    """The cloud of the run itself."""

    interrupted = False
    """The next `close` is ended by Ctrl-C."""

    def close(self) -> bool:
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt
        return super().close()


class World:
    """A run that is open, with one machine that its story has left to it."""

    def __init__(self, folder: Path) -> None:
        clock = FakeClock()
        self.cloud = OwnCloud(clock)
        self.said: list[str] = []
        self.run = run = Run(
            RunConfig(), software=Software(snakemake="9"), tell=self.said.append, warn=self.said.append
        )
        self.journal = journal = Journal(folder, now=clock.now, warn=pytest.fail)
        journal.begin_run(run_record(run.id, began_at=clock.now()))
        run._journal, run._ledger = journal, Ledger(clock, journal, run.id)
        run._cloud = cast("Ec2Cloud", self.cloud)
        run._recovery = Recovery(
            journal=journal,
            run_id=run.id,
            region="us-east-1",
            endpoint="",
            account=None,
            now=clock.now,
            cloud_of=lambda _: self.cloud,
            connector_of=lambda record: cast("Connector", record),
            tell=self.said.append,
        )
        self.entry = run._ledger.open(launchers.plan(), "ssh-ed25519 A")
        self.entry.on.machine = launchers.World(self.cloud, clock).launch()

    @property
    def record(self) -> RunRecord:
        (record,) = self.journal.runs(closed=True)
        return record


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    made = World(tmp_path)
    yield made
    made.journal.close()


def test_a_clean_end(world: World) -> None:
    """Nothing is left, and the key is erased."""
    world.run.close()
    assert not world.cloud.alive
    assert world.record.closed
    assert world.record.login is None


def test_an_end_without_a_network(world: World) -> None:
    """What could not be ended is looked for by the next call, which needs the key."""
    world.cloud.fail("terminate", ThrottledError("AWS did not answer"))
    world.run.close()
    assert world.cloud.alive
    assert not world.record.closed
    assert world.record.login is not None
    assert not world.journal.is_alive(world.run.id)


def test_detached_without_a_network(world: World) -> None:
    """That machines were left on purpose is noted, although EC2 cannot be asked for others."""
    world.entry.on.kept_reason = "works on"
    world.cloud.fail("take_over", ThrottledError("AWS did not answer"))
    world.run.cancel(detach=True)
    world.run.close()
    assert world.said[0] == "AWS did not answer"
    assert world.record.detached
    assert not world.journal.is_alive(world.run.id)


def test_an_end_that_is_interrupted(world: World) -> None:
    """Ctrl-C while machines are looked for: Python's exit asks again, and they end."""
    world.cloud.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        world.run.close()
    assert world.cloud.alive
    world.run.close()
    assert not world.cloud.alive
    assert world.record.closed


def test_a_bug_in_one_story_ends_no_other(world: World) -> None:
    """An error of our own is that job's failure, with all that whoever mends it needs to see."""
    story = world.run.submit(launchers.plan("2"))  # of a run that was never opened
    story.join(30)
    outcome = story.result()
    assert not outcome.ok
    assert outcome.message.startswith("rule align (2) failed because of a bug in the EC2 executor")
    assert "AttributeError" in outcome.message


def test_a_job_that_gets_no_thread_has_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says why, and neither holds up the run's end nor leaves anybody waiting for a machine of it."""
    dropped: list[Promise] = []
    idle = SimpleNamespace(drop=dropped.append)
    world.run._context = cast("RunContext", SimpleNamespace(idle=idle))
    no_threads(monkeypatch)
    story = world.run.begin(launchers.plan("2"), lambda *_: JobOutcome(ok=True))
    assert story.done()
    assert "rule align (2) failed: this computer can start no more threads" in story.result().message
    promise = Promise(plan=launchers.plan("3"))
    world.run._begin_ahead(promise)
    assert dropped == [promise]
    assert not world.run._stories
    world.run.cancel()


def test_a_thousand_connections_are_allowed() -> None:
    """The system's limit of open files, 256 or 1024 as a rule, is raised as far as we may."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        allow_many_files()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert soft == (8192 if hard == resource.RLIM_INFINITY else min(8192, hard))


@pytest.mark.parametrize("use_baked", [True, False])
def test_a_hint_after_much_preparation(world: World, use_baked: bool) -> None:
    """Told once, and only to who might start from images."""
    world.run.config = replace(world.run.config, use_baked=use_baked)
    world.run._install_s += [100.0, 140.0]
    world.run.close()
    world.run.close()
    assert sum("`snakemake-ec2 bake` with the same arguments" in each for each in world.said) == use_baked


def test_ended_stories_are_forgotten(world: World) -> None:
    """A run holds nothing of jobs that are over: of thousands, it would be the connections of all."""
    run = world.run
    run._context = cast("RunContext", None)
    stories = [run.begin(launchers.plan(), lambda *_: JobOutcome(ok=True)) for _ in range(20)]
    for each in stories:
        each.join()
    assert all(each.result().ok for each in stories)
    assert not run._stories
