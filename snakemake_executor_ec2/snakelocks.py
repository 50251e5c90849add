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

_NOTES = Path(".snakemake", "ec2", "runs")
_LOCKS = Path(".snakemake", "locks")
_EARLY = "early-"


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
    for notes in (folder / _NOTES).glob("*.lock"):
        with suppress(OSError, ValueError), notes.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: it lives
            noted = file.read()
            for name, identity in json.loads(noted or "{}").items():
                path = folder / name
                if path.is_file() and _identity(path) == identity and path.parent == folder / _LOCKS:
                    path.unlink()
            if notes.name.startswith(_EARLY):
                notes.unlink()
            elif noted:
                seen = os.fstat(file.fileno())
                file.truncate(0)
                # When the run was there last: its machines' leases count from then.
                os.utime(file.fileno(), ns=(seen.st_atime_ns, seen.st_mtime_ns))


def _held(folder: Path, lock_files: Sequence[str]) -> dict[str, list[int]]:
    paths = [folder / name for name in lock_files]
    return {str(path.relative_to(folder)): _identity(path) for path in paths if path.is_file()}


def _identity(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_ino, stat.st_mtime_ns]
