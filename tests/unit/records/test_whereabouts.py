"""Who is alive, who is dead, and who is not ours to judge: by what was noted and what can be seen."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.whereabouts import (
    FRESH_S,
    Verdict,
    Whereabouts,
    here,
    judge,
    of_json,
)
from tests.fakes.records import run_record

HERE = Whereabouts(host="pc", boot="b1", folder="/w", inode=7, device=1, pid=2**22 + 1)
"""Of a process that is not there."""
REBOOTED = replace(HERE, boot="b0", device=9)
OTHER_PC = replace(HERE, host="laptop", boot="b9", device=5)
CONTAINER = replace(HERE, host="3f2a")
MOVED = replace(HERE, folder="/old")
COPIED = replace(HERE, folder="/original", inode=8)
RESTORED = replace(HERE, inode=8)
OLD, NOW = 10 * FRESH_S, 0.0


@pytest.mark.parametrize(
    ("theirs", "locked", "age_s", "verdict"),
    [
        (HERE, True, OLD, Verdict.ALIVE),
        (HERE, False, NOW, Verdict.DEAD),  # killed a moment ago: the lock tells at once
        (HERE, None, NOW, Verdict.ALIVE),  # no locks here: the heartbeat counts
        (HERE, None, OLD, Verdict.DEAD),
        (replace(HERE, pid=os.getpid()), None, OLD, Verdict.ALIVE),
        (CONTAINER, False, NOW, Verdict.DEAD),  # another name, the same kernel: locks reach it
        (REBOOTED, False, OLD, Verdict.DEAD),
        (REBOOTED, False, NOW, Verdict.ALIVE),
        (MOVED, False, NOW, Verdict.DEAD),  # `mv` keeps the folder
        (OTHER_PC, False, NOW, Verdict.ALIVE),  # a lock that does not reach us, a heart that beats
        (OTHER_PC, False, OLD, Verdict.ELSEWHERE),  # asleep, perhaps
        (OTHER_PC, True, OLD, Verdict.ALIVE),
        (COPIED, False, NOW, Verdict.ELSEWHERE),
        (COPIED, False, OLD, Verdict.ELSEWHERE),
        (replace(COPIED, boot="b0"), False, OLD, Verdict.ELSEWHERE),
        (replace(OTHER_PC, inode=8), False, NOW, Verdict.ELSEWHERE),
        (RESTORED, False, OLD, Verdict.DEAD),  # a backup, where the folder was
        (replace(RESTORED, pid=os.getpid()), False, OLD, Verdict.ELSEWHERE),
        (None, False, NOW, Verdict.DEAD),  # of a version that noted nothing: as it was
        (None, True, OLD, Verdict.ALIVE),
    ],
)
def test_what_is_known_of_a_run(
    theirs: Whereabouts | None, locked: bool | None, age_s: float, verdict: Verdict
) -> None:
    """Locks count on this computer since it was started; the heartbeat where they do not; a copy's runs,
    and another computer's, are nobody's to end from here."""
    assert judge(theirs, HERE, locked=locked, seen_at=time.time() - age_s) is verdict


def test_a_run_that_noted_its_end_may_be_gone_on_with_elsewhere() -> None:
    """One that was detached on another computer with the same folder; not one of a copy."""
    assert judge(OTHER_PC, HERE, locked=False, seen_at=time.time(), ended=True) is Verdict.DEAD
    assert judge(COPIED, HERE, locked=False, seen_at=0, ended=True) is Verdict.ELSEWHERE


def test_a_folder_knows_itself(tmp_path: Path) -> None:
    """After a move it is the same, after a copy another one."""
    folder, moved, copy = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    folder.mkdir()
    first = here(folder)
    assert of_json(first.as_json()) == first
    folder.rename(moved)
    shutil.copytree(moved, copy)
    assert judge(first, here(moved), locked=False, seen_at=time.time()) is Verdict.DEAD
    assert judge(first, here(copy), locked=False, seen_at=time.time()) is Verdict.ELSEWHERE


def test_the_tag_of_a_folder() -> None:
    """Readable, within EC2's rules, and different for folders that these rules would make alike."""
    assert HERE.tag == "pc:/w"
    odd = [replace(HERE, folder=name).tag for name in ("/w*", "/w?", "/" + "x" * 300, "/" + "x" * 301)]
    assert len(set(odd)) == 4
    assert all(len(each) <= 256 and set("*?").isdisjoint(each) for each in odd)


def test_the_journal_of_a_copied_folder(tmp_path: Path) -> None:
    """`cp -a` of a folder whose run lives: in the copy it is not dead, and in the original it is alive."""
    folder, copy = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    original = Journal(folder, now=time.time, warn=pytest.fail)
    original.begin_run(run_record("r1"))
    subprocess.run(["cp", "-a", str(folder), str(copy)], check=True)
    copied = Journal(copy, now=time.time, warn=pytest.fail)
    assert copied.verdict(copied.run("r1")) is Verdict.ELSEWHERE
    assert original.is_alive("r1")
    for each in (original, copied):
        each.close()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`flock` that says ENOLCK: no traceback, and a run is alive while its heart beats."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    journal = Journal(tmp_path, now=time.time, warn=pytest.fail)
    journal.begin_run(run_record("r1", where=replace(here(tmp_path), pid=2**22 + 1)))
    assert journal.is_alive("r1")
    old = time.time() - OLD
    os.utime(tmp_path / ".snakemake/ec2/runs/r1.lock", (old, old))
    assert not journal.is_alive("r1")
    journal.close()


def test_it_costs_a_start_of_snakemake_nothing() -> None:
    """What is imported at every start stays light."""
    code = "import sys, snakemake_executor_ec2.records.whereabouts; print('ssl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
