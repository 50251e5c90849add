"""Snakemake's lock files of runs that are gone: removed; of runs that live, or may live: not."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from snakemake.exceptions import LockException

from snakemake_executor_ec2.plugin import snakemake_private, stale_locks
from snakemake_executor_ec2.records.whereabouts import FRESH_S, Whereabouts, here

LOCK = ".snakemake/locks/0.input.lock"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which a run has locked something; nobody holds the run's own lock."""
    folder = tmp_path / "a"
    (folder / ".snakemake/locks").mkdir(parents=True)
    (folder / ".snakemake/ec2/runs").mkdir(parents=True)
    (folder / LOCK).write_text("o.txt\n")
    stale_locks.note(folder, "r1", [LOCK])
    return folder


def noted_by(folder: Path, where: Whereabouts, age_s: float) -> None:
    """Somebody else has noted it, so long ago."""
    notes = folder / ".snakemake/ec2/runs/r1.lock"
    facts = json.loads(notes.read_text())
    notes.write_text(json.dumps({**facts, "where": where.as_json()}))
    os.utime(notes, (time.time() - age_s,) * 2)


def test_snakemake_s_advice_gets_a_word_if_a_run_lives_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who it is, and what to do instead; nothing if the run is dead."""
    # Snakemake's own, also if a run in this process has had its word before.
    now = LockException.__init__
    monkeypatch.setattr(LockException, "__init__", getattr(now, "instead_of", now))
    snakemake_private.add_to_lock_error(lambda: stale_locks.who_locks(folder))
    snakemake_private.add_to_lock_error(lambda: "a second time")
    assert str(LockException()).endswith("the --unlock argument.")
    with (folder / ".snakemake/ec2/runs/r1.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        told = str(LockException())
    assert f"Do not --unlock now: run r1 is at work in this folder (process {os.getpid()} of " in told
    assert "the --unlock argument.\nDo not" in told
    assert "second time" not in told
    noted_by(folder, replace(here(folder), host="other", boot="other"), 10 * FRESH_S)
    assert "run r1 may be at work here, on other: --unlock only if it is not." in str(LockException())


def test_of_a_dead_run_of_this_computer(folder: Path) -> None:
    """Nobody holds its lock: its files go, at once."""
    stale_locks.release_of_dead_runs(folder)
    assert not (folder / LOCK).exists()


@pytest.mark.parametrize("age_s", [0.0, 10 * FRESH_S])
def test_of_another_computer(folder: Path, age_s: float) -> None:
    """A lock that does not reach us (node-local `flock`) is no proof: the files stay."""
    noted_by(folder, replace(here(folder), host="other", boot="other"), age_s)
    stale_locks.release_of_dead_runs(folder)
    assert (folder / LOCK).exists()


def test_of_the_time_before_this_computer_was_started(folder: Path) -> None:
    """Its heart does not beat any more: the files go."""
    noted_by(folder, replace(here(folder), boot="before", device=99), 10 * FRESH_S)
    stale_locks.release_of_dead_runs(folder)
    assert not (folder / LOCK).exists()


def test_in_a_copy(folder: Path) -> None:
    """What was copied along locks nothing in the copy, and stays where it was; what somebody has locked
    in the copy itself stays as well."""
    copy, busy = folder.parent / "copy", folder.parent / "busy"
    for each in (copy, busy):
        subprocess.run(["cp", "-a", str(folder), str(each)], check=True)
    (busy / LOCK).write_text("another\n")
    for each in (copy, busy):
        stale_locks.release_of_dead_runs(each)
    assert not (copy / LOCK).exists()
    assert (busy / LOCK).exists()
    assert (folder / LOCK).exists()


def test_notes_of_an_earlier_version(folder: Path) -> None:
    """They have no whereabouts, and are read as they were meant."""
    notes = folder / ".snakemake/ec2/runs/r1.lock"
    notes.write_text(json.dumps(json.loads(notes.read_text())["files"]))
    stale_locks.release_of_dead_runs(folder)
    assert not (folder / LOCK).exists()
