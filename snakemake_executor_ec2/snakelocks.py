"""Snakemake's lock on a folder, where the run that took it was killed.

Snakemake asks for `--unlock` after a SIGKILL, because its lock files do not say who made them. Our
runs do: each notes which lock files it holds, and as long as it lives it holds a lock of the
operating system's. Files of a run that is gone are removed, those of anybody else are left alone.
"""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_NOTES = Path(".snakemake", "ec2", "runs")
_LOCKS = Path(".snakemake", "locks")


def note(folder: Path, run_id: str, lock_files: Sequence[str]) -> None:
    """Note what this process holds, in the file that it locks while it lives."""
    held = {name: _identity(path) for name in lock_files if (path := folder / name).is_file()}
    (folder / _NOTES / f"{run_id}.lock").write_text(json.dumps(held))


def release_of_dead_runs(folder: Path) -> None:
    """Remove the lock files of runs that are gone. Nothing else is touched, nothing is raised."""
    for notes in (folder / _NOTES).glob("*.lock"):
        with suppress(OSError, ValueError), notes.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: it lives
            for name, identity in json.loads(file.read() or "{}").items():
                path = folder / name
                if path.is_file() and _identity(path) == identity and path.parent == folder / _LOCKS:
                    path.unlink()
            file.seek(0)
            file.truncate()


def working_directory(arguments: Sequence[str] = ()) -> Path:
    """The folder that a call of Snakemake will work in, before Snakemake goes there."""
    words = list(arguments or sys.argv[1:])
    for here, following in zip(words, [*words[1:], ""], strict=False):
        if here in ("--directory", "-d"):
            return Path(following).absolute()
        if here.startswith("--directory="):
            return Path(here.partition("=")[2]).absolute()
    return Path.cwd()


def _identity(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_ino, stat.st_mtime_ns]
