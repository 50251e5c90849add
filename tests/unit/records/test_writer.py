"""How the journal writes: what is waited for is on the disk before the call returns, all else a moment later,
in the order in which it was told, whoever else writes and whenever the process is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from snakemake_executor_ec2.errors import LaunchError
from snakemake_executor_ec2.model import Phase
from snakemake_executor_ec2.records.journal import FOLDER, Journal
from tests.fakes.disk import FakeDisk
from tests.fakes.records import PLAN, begin, run_record


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path, now=lambda: 100.0, warn=pytest.fail)
    yield journal
    journal.close()


def test_what_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    """In its order, whatever is told meanwhile; each time that it goes wrong is told once. A launch is
    refused meanwhile, for good, and what is on the disk can be read."""
    said: list[str] = []
    disk = FakeDisk()
    journal = Journal(tmp_path, now=lambda: 100.0, warn=said.append, connect=disk.connect)
    journal.begin_run(run_record("r1"))
    attempt = begin(journal, "r1", PLAN)
    for number in (1, 2):
        disk.full = True
        journal.enter(attempt, Phase.PREPARE)
        journal.note(attempt, saved_state={"path": [], "workdir": f"/{number}"})
        journal.enter(attempt, Phase.RUN)
        assert not journal.is_written()
        assert not journal.is_written()
        assert len(said) == number
        with pytest.raises(LaunchError, match="disk is full"):
            begin(journal, "r1", PLAN)
        assert journal.attempt(attempt).saved_state != {"path": [], "workdir": f"/{number}"}

        disk.full = False
        assert journal.is_written()
        assert journal.attempt(attempt).phase is Phase.RUN
        assert journal.attempt(attempt).saved_state == {"path": [], "workdir": f"/{number}"}
    assert len(journal.attempts()) == 1
    journal.close()


def test_a_full_disk_that_nobody_asks_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again without being asked, and at the end."""
    monkeypatch.setattr("snakemake_executor_ec2.records.writer._RETRY_S", 0.02)
    disk = FakeDisk()
    journal = Journal(tmp_path, now=lambda: 100.0, warn=lambda _: None, connect=disk.connect)
    journal.begin_run(run_record("r1"))
    attempt = begin(journal, "r1", PLAN)
    for phase, ends in ((Phase.PREPARE, False), (Phase.RUN, True)):
        disk.full = True
        journal.enter(attempt, phase)
        assert not journal.is_written()
        disk.full = False
        if ends:
            journal.close()
        _until_on_disk(tmp_path, phase)


def test_what_nobody_waits_for_is_on_the_disk_within_a_moment(journal: Journal, tmp_path: Path) -> None:
    """Also if nothing else happens: another process reads it."""
    journal.begin_run(run_record("r1"))
    attempt = begin(journal, "r1", PLAN)
    journal.enter(attempt, Phase.BOOT)
    _until_on_disk(tmp_path, Phase.BOOT)


def test_jobs_share_commits(tmp_path: Path) -> None:
    """Twenty jobs at once, 25 entries each: those that wait do so together, and nothing is lost. One job
    alone waits for five commits."""
    disk = FakeDisk()
    journal = Journal(tmp_path, now=lambda: 100.0, warn=pytest.fail, connect=disk.connect)
    journal.begin_run(run_record("r1"))

    def job(number: int) -> None:
        attempt = begin(journal, "r1", replace(PLAN, key=f"r1.{number}.1"))
        for _ in range(4):
            for phase in (Phase.BOOT, Phase.PREPARE, Phase.RUN):
                journal.enter(attempt, phase)
                journal.note(attempt, seconds={phase: float(number)})
            assert journal.is_written()

    before = disk.commits
    job(0)
    assert disk.commits - before <= 5 + 2
    before = disk.commits
    with ThreadPoolExecutor(20) as jobs:
        list(jobs.map(job, range(1, 21)))
    assert disk.commits - before <= 50
    assert {each.key: each.seconds for each in journal.attempts()} == {
        f"r1.{number}.1": {"run": float(number)} for number in range(21)
    }
    journal.close()


def test_whoever_reads_sees_what_was_told(journal: Journal) -> None:
    """At once, from the thread that told it and from any other."""
    journal.begin_run(run_record("r1"))
    attempt = begin(journal, "r1", PLAN)

    def look() -> float | None:
        return journal.attempt(attempt).usd

    with ThreadPoolExecutor(1) as other:
        for usd in (0.1, 0.2, 0.3):
            journal.note(attempt, usd=usd)
            assert look() == usd
            journal.note(attempt, usd=usd + 1)
            assert other.submit(look).result() == usd + 1


def test_what_is_wrong_with_one_entry_is_no_other_s_matter(tmp_path: Path) -> None:
    """A row that the file refuses fails whoever asked for it; what was told beside it is kept."""
    said: list[str] = []
    journal = Journal(tmp_path, now=lambda: 100.0, warn=said.append)
    journal.begin_run(run_record("r1"))
    attempt = begin(journal, "r1", PLAN)
    journal.enter(attempt, Phase.BOOT)
    with pytest.raises(LaunchError, match="NOT NULL"):
        begin(journal, "r1", replace(PLAN, rule=None))  # type: ignore[arg-type]
    journal.note(attempt, usd=object())  # type: ignore[arg-type]
    journal.note(attempt, outputs_fetched={"o": (1, 2)})
    assert journal.is_written()
    assert (journal.attempt(attempt).phase, journal.attempt(attempt).outputs_fetched) == (
        Phase.BOOT,
        {"o": (1, 2)},
    )
    assert len(said) == 1
    journal.close()


def test_a_journal_that_is_removed(tmp_path: Path) -> None:
    """Told once; nobody waits for it, and nothing more is launched."""
    said: list[str] = []
    journal = Journal(tmp_path, now=lambda: 100.0, warn=said.append)
    journal.begin_run(run_record("r1"))
    attempt = begin(journal, "r1", PLAN)
    (tmp_path / FOLDER / "journal.sqlite").unlink()
    for phase in (Phase.RUN, Phase.STAGE_OUT):
        journal.enter(attempt, phase)
        assert journal.is_written()
    with pytest.raises(LaunchError, match="was removed"):
        begin(journal, "r1", PLAN)
    assert len(said) == 1
    assert "was removed during the run" in said[0]
    journal.close()


def test_two_processes_write_one_journal(tmp_path: Path) -> None:
    """`gc` in another terminal, or another run of this folder: they wait for each other, and lose nothing."""
    Journal(tmp_path, now=lambda: 100.0, warn=pytest.fail).close()
    processes = [_process(tmp_path, name, stdout=subprocess.DEVNULL) for name in ("a", "b", "c")]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    reader = Journal(tmp_path, now=lambda: 100.0, warn=pytest.fail)
    for name in ("a", "b", "c"):
        assert [each.key for each in reader.attempts(name)] == [f"{name}.{i}.1" for i in range(20)]
        assert {each.usd for each in reader.attempts(name)} == {1.0}
    reader.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_process_that_is_killed(tmp_path: Path, seed: int) -> None:
    """At a random moment: the next one reads all that the first had waited for, and in its order."""
    pause = Random(seed)  # noqa: S311  (no secret)
    with _process(tmp_path, "a", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        waited_for = [process.stdout.readline() for _ in range(pause.randrange(1, 30))]
        time.sleep(pause.random() / 50)
        process.kill()
        waited_for += process.stdout.readlines()
    reader = Journal(tmp_path, now=lambda: 100.0, warn=pytest.fail)
    known = {each.key: each for each in reader.attempts("a")}
    reader.close()
    for line in waited_for:
        key, what = line.split()
        assert key in known
        if what == "noted":
            assert (known[key].phase, known[key].usd) == (Phase.RUN, 1.0)
    begun = [int(key.split(".")[1]) for key in known]
    assert begun == list(range(len(begun)))


def test_a_signal_at_any_moment(journal: Journal) -> None:
    """Ctrl-C while the main thread tells something or waits: nothing is written twice or half, what was
    waited for is there, and nobody hangs afterwards."""

    class Pressed(BaseException):
        pass

    def press(*_: object) -> None:
        raise Pressed

    moments, waited_for = Random(1), set[str]()  # noqa: S311  (no secret)
    journal.begin_run(run_record("r1"))
    before = signal.signal(signal.SIGALRM, press)
    try:
        for number in range(200):
            key = f"r1.{number}.1"
            with suppress(Pressed):
                signal.setitimer(signal.ITIMER_REAL, moments.random() / 100)
                attempt = begin(journal, "r1", replace(PLAN, key=key))
                waited_for.add(key)
                journal.enter(attempt, Phase.BOOT)
                journal.is_written()
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    keys = [each.key for each in journal.attempts("r1")]
    assert len(keys) == len(set(keys))
    assert waited_for <= set(keys)


def test_a_forked_child_leaves_the_journal_alone(journal: Journal) -> None:
    """It neither writes what its parent was told, nor hangs."""
    journal.begin_run(run_record("r1"))
    attempt = begin(journal, "r1", PLAN)
    journal.note(attempt, usd=1.0)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        child = os.fork()
    if child == 0:
        journal.note(attempt, usd=2.0)
        refused = not journal.is_written()
        journal.close()
        os._exit(0 if refused else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert journal.attempt(attempt).usd == 1.0


_WRITER = """
import sys, time
from dataclasses import replace
from pathlib import Path
from snakemake_executor_ec2.model import Phase
from snakemake_executor_ec2.records.journal import Journal
from tests.fakes.records import PLAN, begin, run_record

name = sys.argv[1]
journal = Journal(Path.cwd(), now=time.time, warn=sys.exit)
journal.begin_run(run_record(name))
for number in range(20):
    key = f"{name}.{number}.1"
    attempt = begin(journal, name, replace(PLAN, key=key))
    print(key, "begun", flush=True)
    journal.enter(attempt, Phase.BOOT)
    journal.enter(attempt, Phase.RUN)
    journal.note(attempt, usd=1.0)
    assert number == 19 or journal.is_written()
    print(key, "noted" if number < 19 else "told", flush=True)
"""
"""The last entry is not waited for, and the journal not closed: the end of the process has to do."""


def _process(folder: Path, name: str, *, stdout: int) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=stdout,
        text=True,
    )


def _until_on_disk(folder: Path, phase: Phase) -> None:
    """Wait until another process would read that the attempt is in this phase."""
    until = time.monotonic() + 5
    with closing(sqlite3.connect(folder / FOLDER / "journal.sqlite")) as db:
        while db.execute("SELECT phase FROM attempts").fetchone()[0] != phase:
            assert time.monotonic() < until
            time.sleep(0.01)
