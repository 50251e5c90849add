"""Links among what a job has made: what they lead to comes home with them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from snakemake_executor_ec2.staging.sources import has_name_of_code

LINKS_IN_A_ROW = 5
_READ_BY_SNAKEMAKE = frozenset({"profiles", "workflow"})
"""Folders in which Snakemake looks for settings and rules by itself."""


def dangling(paths: Iterable[Path], workdir: Path) -> tuple[Path, ...]:
    """What links among the paths lead to, where that is in the working directory and not there.

    No rule declares it: a machine that has gone bad could name anything. So nothing is among it that
    would be code, or be read without being asked for.
    """
    targets = set()
    for path in paths:
        for _ in range(LINKS_IN_A_ROW):
            if not path.is_symlink():
                break
            path = Path(os.path.normpath(path.parent / path.readlink()))
            if not os.path.lexists(path) and workdir in path.parents and _is_data(path, workdir):
                targets.add(path)
    return tuple(sorted(targets))


def _is_data(path: Path, workdir: Path) -> bool:
    parts = path.relative_to(workdir).parts
    special = any(part.startswith(".") or part in _READ_BY_SNAKEMAKE for part in parts)
    return not special and not has_name_of_code(path)
