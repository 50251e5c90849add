"""Snakemake's lock on a folder, where the run that took it was killed.

Snakemake asks for `--unlock` after a SIGKILL, because its lock files do not say who made them. Our
runs do: each notes which lock files it holds, and as long as it lives it holds a lock of the
operating system's. Files of a run that is gone are removed, those of anybody else are left alone.
Snakemake locks seconds before it makes its executor: until then, an audit hook follows it to the
folder that it works in (`--directory`, a profile's, `workdir:`) and notes what it locks there.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from snakemake_executor_ec2.records import whereabouts
from snakemake_executor_ec2.records.whereabouts import (
    Verdict,
    Whereabouts,
    judge,
    of_json,
)

_NOTES = Path(".snakemake", "ec2", "runs")
_LOCKS = Path(".snakemake", "locks")
_EARLY = "early-"
_FILES, _WHERE = "files", "where"


class _Early:
    """An audit hook: releases what dead runs have locked in the folders that this process goes to,
    and notes each lock file that it makes there, once it has been written."""

    def __init__(self) -> None:
        self._opened: list[str] = []
        self._due = self._over = False
        self._file: IO[str] | None = None
        self._enter(Path.cwd())

    def _enter(self, folder: Path) -> None:
        self._folder = folder
        self._prefix = str(folder / _LOCKS) + os.sep
        release_of_dead_runs(folder)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._over:
            return
        if event == "os.chdir" and not self._opened and isinstance(arguments[0], str | os.PathLike):
            self._enter(Path(os.path.abspath(arguments[0])))
        if event != "open":
            return
        path, mode = arguments[:2]
        if mode == "w" and isinstance(path, str) and os.path.abspath(path).startswith(self._prefix):
            # Not there yet. When another file is opened, it has been written and closed.
            self._opened.append(os.path.abspath(path))
            self._due = True
        elif self._due:
            self._due = False
            with suppress(OSError):  # --unlock is needed then, as without us
                self._note()

    def end(self) -> None:
        self._over = True
        if self._file is not None:
            with suppress(OSError):
                Path(self._file.name).unlink()
            self._file.close()
            self._file = None

    def _note(self) -> None:
        if self._file is None:
            notes = self._folder / _NOTES
            notes.mkdir(parents=True, exist_ok=True)
            self._file = (notes / f"{_EARLY}{os.getpid()}-{secrets.token_hex(3)}.lock").open("w")
            with suppress(OSError):  # there are no locks here: its times have to do
                fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.seek(0)
        self._file.write(json.dumps(_held(self._folder, self._opened)))
        self._file.flush()


_early: list[_Early] = []


def listen() -> None:
    """From now on and until `note`: release what dead runs have locked in the folder that Snakemake
    works in, whichever it will be, and note what it locks there as soon as it does."""
    if not _early:
        _early.append(_Early())
        sys.addaudithook(_early[0])
        atexit.register(_early[0].end)


def note(folder: Path, run_id: str, lock_files: Sequence[str]) -> None:
    """Note what this process holds, in the file that it locks while it lives."""
    (folder / _NOTES / f"{run_id}.lock").write_text(json.dumps(_held(folder, lock_files)))
    for early in _early:
        early.end()


def release_of_dead_runs(folder: Path) -> None:
    """Remove the lock files of runs that are gone. Nothing else is touched, nothing is raised."""
    with suppress(OSError):
        ours = whereabouts.here(folder)
        for notes in (folder / _NOTES).glob("*.lock"):
            with suppress(OSError, ValueError):
                _release(folder, notes, ours)


def who_locks(folder: Path) -> str:
    """A word beside Snakemake's advice to unlock a folder: who is at work there; empty: nobody of ours."""
    with suppress(OSError):
        ours = whereabouts.here(folder)
        for notes in sorted((folder / _NOTES).glob("*.lock")):
            with suppress(OSError, ValueError):
                if word := _at_work(notes, ours):
                    return word
    return ""


def _at_work(notes: Path, ours: Whereabouts) -> str:
    locks, where = _read(notes)
    verdict = judge(where, ours, locked=whereabouts.is_locked(notes), seen_at=notes.stat().st_mtime)
    if not locks or verdict is Verdict.DEAD or (where is not None and ours.is_copy_of(where)):
        return ""
    name = f"run {notes.stem}" if not notes.name.startswith(_EARLY) else "a run that has just begun"
    if verdict is Verdict.ELSEWHERE:
        who = where.host if where else "another computer"
        return f"{name} may be at work here, on {who}: --unlock only if it is not."
    process = f" (process {where.pid} of {where.host})" if where else ""
    return (
        f"Do not --unlock now: {name} is at work in this folder{process}. `snakemake-ec2 watch` shows it, "
        "`snakemake-ec2 stop` ends it."
    )


def _read(notes: Path) -> tuple[dict[str, list[int]], Whereabouts | None]:
    """The lock files that a run has noted, and where it is."""
    noted = json.loads(notes.read_text() or "{}")
    return noted.get(_FILES, noted), of_json(noted.get(_WHERE))


def _release(folder: Path, notes: Path, ours: Whereabouts) -> None:
    locks, where = _read(notes)
    if where is not None and ours.is_copy_of(where):
        # Copied with the folder, as its times show: they lock nothing here, whoever lives there.
        for name, identity in locks.items():
            _remove(folder, name, identity, copied=True)
        return
    seen_at = notes.stat().st_mtime
    if judge(where, ours, locked=whereabouts.is_locked(notes), seen_at=seen_at) is not Verdict.DEAD:
        return
    with notes.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another one is at it
        except OSError:
            pass  # there are no locks here
        for name, identity in locks.items():
            _remove(folder, name, identity)
        if notes.name.startswith(_EARLY):
            notes.unlink()
        elif locks or where:
            seen = os.fstat(file.fileno())
            file.truncate(0)
            # When the run was there last: its machines' leases count from then.
            os.utime(file.fileno(), ns=(seen.st_atime_ns, seen.st_mtime_ns))


def _remove(folder: Path, name: str, noted: list[int], *, copied: bool = False) -> None:
    """Remove a lock file, if it is the one that was noted; of a copy only the time is the same."""
    path = folder / name
    if path.is_file() and path.parent == folder / _LOCKS:
        found = _identity(path)
        if found == noted or (copied and found[1] == noted[1]):
            path.unlink()


def _held(folder: Path, lock_files: Sequence[str]) -> dict[str, Any]:
    paths = [folder / name for name in lock_files]
    files = {str(path.relative_to(folder)): _identity(path) for path in paths if path.is_file()}
    return {_FILES: files, _WHERE: whereabouts.here(folder).as_json()}


def _identity(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_ino, stat.st_mtime_ns]
