"""The journal: what it holds is read as it was told, and a run is alive while its process holds a lock."""

from __future__ import annotations

import argparse
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from snakemake_executor_ec2.cli.common import folder_journal
from snakemake_executor_ec2.errors import ConfigurationError, LaunchError
from snakemake_executor_ec2.model import Machine, Market, Phase, Price
from snakemake_executor_ec2.plugin import stale_locks
from snakemake_executor_ec2.records.journal import FOLDER, Journal
from snakemake_executor_ec2.records.rows import RunRecord
from tests.fakes.records import PLAN, begin, run_record
from tests.unit.machines import launchers

MACHINE = Machine(
    id="i-1",
    instance_type="m5.large",
    zone="z",
    market=Market.SPOT,
    price=Price(usd_per_hour=0.04, source="spot"),
    on_demand=Price(usd_per_hour=0.1, source="Pricing API"),
    disk_gib=8,
    launched_at=1.0,
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path, now=lambda: 100.0, warn=pytest.fail)
    yield journal
    journal.close()


def _run(name: str = "r1") -> RunRecord:
    return run_record(name, began_at=1.0, endpoint="http://e", lease_s=60.0)


def test_an_attempt_comes_back_as_it_was_told(journal: Journal, tmp_path: Path) -> None:
    """Another process reads the machine, host keys, bench and phase that the first one wrote."""
    journal.begin_run(_run())
    number = begin(journal, "r1", PLAN, "key-1")
    world = launchers.World()
    world.launch(PLAN.key)
    journal.intend(journal.attempt(number).on.id, world.cloud.launches[-1])
    journal.launched(world.cloud.launches[-1].token, MACHINE)
    journal.enter(number, Phase.PREPARE)
    assert not journal.attempt(number).may_go_on
    journal.note_machine(journal.attempt(number).on.id, host_keys=["key-2"])
    journal.note(number, saved_state={"path": [], "workdir": "/w"})
    assert journal.attempt(number).may_go_on
    journal.enter(number, Phase.RUN)
    reader = Journal(tmp_path, now=lambda: 100.0, warn=pytest.fail)
    attempt = reader.attempt(number)
    reader.close()

    assert attempt.machine == MACHINE
    assert attempt.on.host_keys == ("key-2",)
    assert attempt.outputs == PLAN.outputs
    assert attempt.may_go_on


@pytest.mark.parametrize("version", [0, 99])
def test_a_journal_of_another_version(tmp_path: Path, version: int) -> None:
    """It is neither read nor changed, and what ends its machines is told; `stop` goes on without it."""
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    path = folder / "journal.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE runs (id TEXT PRIMARY KEY)")
        db.execute(f"PRAGMA user_version={version}")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"another version .*`snakemake-ec2 stop --mine` ends all"):
        Journal(tmp_path, now=lambda: 100.0, warn=pytest.fail)
    assert path.read_bytes() == before
    options = argparse.Namespace(directory=tmp_path)
    with folder_journal(options, needed=False) as journal:
        assert journal is None
    with pytest.raises(ConfigurationError), folder_journal(options):
        pass


def test_a_run_is_alive_while_its_process_holds_the_lock(journal: Journal, tmp_path: Path) -> None:
    """Closing the file, as the end of a process does, makes the run dead for everybody."""
    journal.begin_run(_run())
    reader = Journal(tmp_path, now=lambda: 100.0, warn=pytest.fail)
    assert reader.is_alive("r1")
    journal.leave_run("r1", detached=True)
    assert not reader.is_alive("r1")
    assert reader.runs()[0].detached
    reader.close()


def test_only_one_run_takes_a_machine_over(journal: Journal) -> None:
    """Two runs that want the same machine: the second one is told that it came too late."""
    for name in ("r1", "r2", "r3"):
        journal.begin_run(_run(name))
    machine = journal.attempt(begin(journal, "r1")).on

    assert journal.claim(machine, "r2")
    assert not journal.claim(machine, "r3")


def test_two_jobs_on_one_machine(journal: Journal) -> None:
    """What is known of the machine is known of both, and its end is that of what is under way on it."""
    for name in ("r1", "r2"):
        journal.begin_run(_run(name))
    _, first = journal.begin_machine("r1", "k", PLAN)
    machine = journal.attempt(first).on
    journal.end(first, "done")
    second = journal.begin(machine.id, PLAN)
    other = begin(journal, "r2")
    journal.note_machine(machine.id, usd=0.5, lease_s=60.0)
    assert journal.claim(machine, "r2")
    journal.end_machine(machine.id, "lost")

    assert [each.id for each in journal.attempts("r1")] == [first, second], "by the run that launched it"
    assert [each.end_reason for each in journal.attempts()] == ["done", "lost", ""]
    for number in (first, second):
        on = journal.attempt(number).on
        assert (on.owner, on.usd, on.lease_s, on.ended_at) == ("r2", 0.5, 60.0, 100.0)
    assert journal.attempt(other).on.ended_at is None
    assert [each.id for each in journal.machines()] == [machine.id, journal.attempt(other).on.id]


def test_a_story_that_outlives_the_journal(tmp_path: Path) -> None:
    """Where the file is closed already, a story hears nothing of it and ends its machine; nothing new
    is launched."""
    said: list[str] = []
    journal = Journal(tmp_path, now=lambda: 100.0, warn=said.append)
    journal.begin_run(_run())
    attempt = begin(journal, "r1", PLAN)
    journal.close()

    journal.enter(attempt, Phase.TERMINATE)
    journal.end(attempt, "cancelled")
    assert len(said) == 1
    with pytest.raises(LaunchError):
        begin(journal, "r1", PLAN)


def test_the_key_is_its_owner_s_and_erased_at_the_end(journal: Journal, tmp_path: Path) -> None:
    """Mode 0600, and nothing of the key is in the file when nothing of the run is left."""
    journal.begin_run(_run())
    path = tmp_path / FOLDER / "journal.sqlite"
    assert b"SECRET" in path.read_bytes()
    journal.close_run("r1")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"SECRET" not in path.read_bytes()


def test_a_lock_is_noted_before_there_is_a_run(tmp_path: Path) -> None:
    """Killed right after Snakemake locked the folder that it went to: the next call's way there releases
    its lock files, and one that it only read stays."""
    below = tmp_path / "below"
    locks = below / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("another's")
    go_there = "import os; from pathlib import Path; from snakemake_executor_ec2.plugin import stale_locks\n"
    go_there += "stale_locks.listen(); os.chdir('below')\n"
    lock = (
        "Path('.snakemake/locks/0.input.lock').read_text()\n"
        "Path('.snakemake/locks/1.input.lock').write_text('x')\n"
        "Path('/dev/null').read_text(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", go_there + lock], cwd=tmp_path, check=False)
    assert len(list(locks.iterdir())) == 2
    subprocess.run([sys.executable, "-c", go_there], cwd=tmp_path, check=True)

    assert [path.name for path in locks.iterdir()] == ["0.input.lock"]
    assert not list((below / ".snakemake/ec2/runs").iterdir())


def test_lock_files_of_the_living_and_of_others_stay(journal: Journal, tmp_path: Path) -> None:
    """Only what a dead run noted is removed."""
    locks = tmp_path / ".snakemake/locks"
    locks.mkdir(parents=True)
    for name in ("0.input.lock", "1.input.lock"):
        (locks / name).write_text("x")
    journal.begin_run(_run())
    stale_locks.note(tmp_path, "r1", [".snakemake/locks/0.input.lock"])
    stale_locks.release_of_dead_runs(tmp_path)
    assert len(list(locks.iterdir())) == 2, "the run lives"
    journal.leave_run("r1", detached=False)
    stale_locks.release_of_dead_runs(tmp_path)

    assert [path.name for path in locks.iterdir()] == ["1.input.lock"]


def test_who_looks_for_locks_does_not_make_a_dead_run_younger(journal: Journal, tmp_path: Path) -> None:
    """When a run was last seen, from which its machines' leases count, stays as it was."""
    journal.begin_run(_run())
    (run,) = journal.runs()
    stale_locks.note(tmp_path, "r1", [])
    lock = tmp_path / FOLDER / "runs" / "r1.lock"
    os.utime(lock, (50.0, 50.0))
    journal.leave_run("r1", detached=False)
    for _ in range(2):
        stale_locks.release_of_dead_runs(tmp_path)
        assert not lock.read_text()
        assert journal.last_seen(run) == 50.0
