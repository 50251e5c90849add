"""A copy of the folders that machines see: what travels, and stand-ins for the rest."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from snakemake_executor_ec2.staging.folder import Folder
from snakemake_executor_ec2.staging.view import View

_COPIED_BYTES = 10 * 10**6
"""Larger files are linked, on the same file system, or have a stand-in."""


@contextmanager
def make_folders(view: View, sent: frozenset[str]) -> Iterator[list[tuple[str, str]]]:
    """Pairs of a made folder and the root of the view that it is to replace. They go with the block."""
    made = []
    try:
        for root in view.roots:
            place = Path(root, ".snakemake", "ec2", f"preflight-{os.getpid()}")
            made.append((str(place), str(root)))
            place.mkdir(parents=True)
            _fill(view, str(root), place, sent)
        yield made
    finally:
        for copy, _ in made:
            shutil.rmtree(copy, ignore_errors=True)


def _fill(view: View, root: str, place: Path, sent: frozenset[str]) -> None:
    times = []
    waiting = [(root, place)]
    while waiting:
        origin, copy = waiting.pop()
        copy.mkdir(exist_ok=True)
        folder = view.folders.get(origin)
        if folder is None:
            continue
        times.append((copy, folder.mtime_ns))
        _fill_one(folder, copy, sent)
        waiting.extend((f"{origin}/{name}", copy / name) for name in folder.folders if name != ".snakemake")
        if folder.closed:
            copy.chmod(0o300)
    for copy, time_ns in reversed(times):
        with suppress(OSError):
            os.utime(copy, ns=(time_ns, time_ns))


def _fill_one(folder: Folder, copy: Path, sent: frozenset[str]) -> None:
    for name, text in folder.links:
        (copy / name).symlink_to(text)
    for name, size, mtime_ns in folder.files:
        path, new = f"{folder.path}/{name}", copy / name
        if path in sent and _bring(Path(path), new, size):
            continue
        with new.open("wb") as file:
            file.truncate(size)
        os.utime(new, ns=(mtime_ns, mtime_ns))
        new.chmod(0o222)


def _bring(path: Path, new: Path, size: int) -> bool:
    """Have a file itself; whether that worked. If it is small, a copy: a Snakefile may write to it."""
    try:
        if size <= _COPIED_BYTES:
            shutil.copy2(path, new)
        else:
            new.hardlink_to(path)
    except OSError:
        new.unlink(missing_ok=True)
        return False
    return True


def refused_files(said: Iterable[str], view: View, sent: frozenset[str]) -> frozenset[Path]:
    """The files of a view that could not be opened, by what was said, because they are stand-ins.

    Readers in C and Rust, and other programs, open files unseen by Python. All name what they may not open.
    """
    lines = [line for line in said if "permission denied" in line.lower()]
    if not lines:
        return frozenset()
    files = (f"{folder.path}/{name}" for folder in view.folders.values() for name, *_ in folder.files)
    here = f"{Path.cwd()}/"
    return frozenset(
        Path(file)
        for file in files
        if file not in sent and any(_names(line, (file, file.removeprefix(here))) for line in lines)
    )


def _names(line: str, texts: Iterable[str]) -> bool:
    """Whether a line has one of some paths in it, and not only as a part of another one."""
    return any(
        text in line and re.search(rf"(?<![\w./-])(?:\./)?{re.escape(text)}(?![\w/-]|\.\w)", line)
        for text in texts
    )
