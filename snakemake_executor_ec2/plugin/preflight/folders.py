"""A copy of the folders that machines see: what travels, and stand-ins for the rest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from snakemake_executor_ec2.staging.view import Folder, View

_COPIED_BYTES = 10 * 10**6
"""Larger files are linked, on the same file system, or have a stand-in."""


@contextmanager
def make_folders(view: View, sent: Collection[Path]) -> Iterator[list[tuple[str, str]]]:
    """Pairs of a made folder and the root of the view that it is to replace. They go with the block."""
    texts = frozenset(map(str, sent))
    made = []
    try:
        for root in view.roots:
            place = Path(root, ".snakemake", "ec2", f"preflight-{os.getpid()}")
            made.append((str(place), str(root)))
            place.mkdir(parents=True)
            _fill(view, str(root), place, texts)
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
