"""Sizes and times of files, to see later whether they are still the same."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path


def sizes_and_times(paths: Iterable[Path]) -> dict[str, tuple[int, int]]:
    """Size and modification time (ns) of what is there; symlinks themselves, not what they lead to."""
    found = {}
    for path in paths:
        try:
            status = path.lstat()
        except OSError:
            continue
        found[str(path)] = (status.st_size, status.st_mtime_ns)
    return found


def unchanged(known: Mapping[str, tuple[int, int]], *, touched_until: float) -> bool:
    """Whether all files are still as they were, or were touched, before `touched_until` (seconds since
    the epoch): Snakemake touches a job's outputs just before it notes that it is done
    (`DAG.check_and_touch_output`), a folder by putting a file into it."""
    found = sizes_and_times(map(Path, known))
    return found.keys() == known.keys() and all(
        (size == found[path][0] or stat.S_ISDIR(os.lstat(path).st_mode))
        and (time == found[path][1] or time < found[path][1] <= touched_until * 1e9)
        for path, (size, time) in known.items()
    )
