"""Folders outside of the working directory that jobs list: `../data` and `../results`, seen from `code/`.

A job that lists one of them on a machine must not find just the files that were sent for it: it would
compute with fewer, and end well. So machines see what is in these folders, as in the working directory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

_TEMPORARY = frozenset(map(Path, ("/tmp", "/var/tmp", "/dev/shm", tempfile.gettempdir())))  # noqa: S108


def data_folders(workflow: Any, known: Sequence[Path], inputs: Iterable[Path]) -> list[Path]:
    """Those of a workflow, beside the folders whose files machines see already.

    `inputs` are those of its jobs, as far as Snakemake knows them yet: functions have named some of them.
    """
    read = {path.parent for path in inputs}
    made: set[Path] = set()
    for rule in workflow.rules:
        read.update(_places(rule.input))
        made.update(_places([*rule.output, *rule.log, rule.benchmark]))
    return folders_elsewhere(read, made, known)


def folders_elsewhere(read: Collection[Path], made: Collection[Path], known: Sequence[Path]) -> list[Path]:
    """Given the folders that rules read from and write to, those whose content machines are to see.

    In a project around a known folder (the folder around it, and those up to its git repository) that is
    the folder of the project's first level. From elsewhere rules may read a little of something large (a
    collection of genomes), so only what they write to counts, and none that holds everything.
    """
    around = [*_around(known)]
    found: list[Path] = []
    for place in sorted({*read, *made}):
        if _is_within(place, *known):
            continue
        project = next((folder for folder in around if folder in place.parents), None)
        if project:
            place = project / place.relative_to(project).parts[0]
        elif place not in made:
            continue
        holds_more = any(_is_within(other, place) for other in (*known, Path.home()))
        if not holds_more and place not in _TEMPORARY and not _is_within(place, *found):
            found = [*(other for other in found if not _is_within(other, place)), place]
    return found


def _places(files: Iterable[Any]) -> Iterator[Path]:
    """The folders that files of a rule are in, as far as wildcards leave them open."""
    for file in files:
        if isinstance(file, str):
            known = str(file).partition("{")[0]
            yield Path(os.path.abspath(os.path.dirname(known) or "."))  # noqa: PTH120 - "a/" is in a


def _around(known: Iterable[Path]) -> list[Path]:
    """The folders of projects, the smallest first. A home directory is none."""
    found: set[Path] = set()
    for folder in known:
        above = [each for each in folder.parents if each != each.parent]
        repository = next((each for each in (folder, *above) if (each / ".git").exists()), None)
        found.update(above[:1])
        found.update(each for each in above if repository and _is_within(each, repository))
    wide = {*_TEMPORARY, Path.home(), *Path.home().parents}
    return sorted(found - wide, key=lambda folder: -len(folder.parts))


def _is_within(path: Path, *folders: Path) -> bool:
    return any(map(path.is_relative_to, folders))
