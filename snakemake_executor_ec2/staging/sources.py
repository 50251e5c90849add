"""Which files make up a workflow, and so travel with every job of it.

1. What Snakemake names: Snakefiles, configuration, environments, and the folders of scripts.
2. What the Snakefile read while it was parsed: sample sheets and the like (`parse_reads`).
3. Helpers that shell commands call without declaring them: what git tracks, and where there is
   no git, scripts (by their ending, executable, or beginning with `#!`) of the working directory
   and of the folders of Snakefiles that are elsewhere.
4. What the user names with `--ec2-include`, whatever its size.

Never: what rules make, data that they declare as input (it travels with the jobs that need it),
files above `LIMIT_BYTES`, hidden folders such as `.git` and `.snakemake`, `--ec2-exclude`.
"""

from __future__ import annotations

import glob
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

LIMIT_BYTES = 10_000_000
"""Larger sources are left out, with a warning. Snakemake's own limit for sources."""
LIMIT_FILES = 20_000
"""More files than this are not looked at in a folder without git: it may be a home directory."""

TRACKED = Path(".snakemake", "away-tracked")
"""On the machine of a whole run: what git tracks where the folder came from, with NUL between names."""

SCRIPT_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *(
            "awk",
            "bash",
            "do",
            "ipynb",
            "jl",
            "js",
            "lua",
            "m",
            "nf",
            "pl",
            "pm",
            "py",
            "pyx",
            "qmd",
            "r",
            "rb",
        ),
        *("rmd", "sas", "sed", "sh", "smk", "sql", "stan", "tcl", "zsh"),
    )
)
_PROJECT_FILES = frozenset({"makefile", "pyproject.toml", "setup.cfg", "requirements.txt", ".rprofile"})


class Reason(StrEnum):
    """Why a file travels with every job, in words for the user."""

    NAMED = "Snakemake names it"
    BESIDE_A_SCRIPT = "in the folder of a script"
    READ_BY_SNAKEFILE = "read while the Snakefile was parsed"
    TRACKED = "tracked by git"
    SCRIPT = "a script in a folder of the workflow"
    INCLUDED = "--ec2-include"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What travels with every job, what was left out, and why. All paths are absolute."""

    reasons: Mapping[Path, Reason]
    too_large: tuple[Path, ...] = ()
    excluded: tuple[Path, ...] = ()
    """Left out by `--ec2-exclude`."""
    unmatched: tuple[str, ...] = ()
    """Patterns of `--ec2-include` and `--ec2-exclude` that no file matches."""
    cut_short: tuple[Path, ...] = ()
    """Folders with so many files that not all were looked at."""

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(sorted(self.reasons))


def gather(
    workdir: Path,
    *,
    beside: Iterable[Path] = (),
    named: Iterable[Path],
    read_by_parse: Iterable[Path],
    inputs: frozenset[Path],
    outputs: frozenset[Path],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Sources:
    """Settle what travels with every job of a workflow.

    `named` are files and folders that Snakemake knows, `beside` folders whose helpers travel as those of
    the working directory do; `inputs` and `outputs` are those of rules, logs among the outputs. All paths
    are absolute; the patterns count from `workdir`.
    """
    found = {pattern: _matches(workdir, pattern) for pattern in (*include, *exclude)}
    gathering = _Gathering(inputs, outputs)
    gathering.include({path for pattern in include for path in found[pattern]})
    for path in named:
        gathering.name(path, workdir)
    gathering.want(read_by_parse, Reason.READ_BY_SNAKEFILE)
    for folder in (workdir, *beside):
        gathering.take_helpers(folder)
    wanted = gathering.wanted

    unwanted = {path for pattern in exclude for path in found[pattern]}
    excluded = {path for path in wanted if any(each in unwanted for each in (path, *path.parents))}
    too_large = {
        path
        for path, reason in wanted.items()
        if reason is not Reason.INCLUDED and path not in excluded and path.stat().st_size > LIMIT_BYTES
    }
    return Sources(
        reasons={p: why for p, why in wanted.items() if p not in excluded and p not in too_large},
        too_large=tuple(sorted(too_large)),
        excluded=tuple(sorted(excluded)),
        unmatched=tuple(pattern for pattern, paths in found.items() if not paths),
        cut_short=tuple(dict.fromkeys(gathering.cut_short)),
    )


class _Gathering:
    """What is wanted so far. The first reason for a file is the one that is shown."""

    def __init__(self, inputs: frozenset[Path], outputs: frozenset[Path]) -> None:
        self._inputs = inputs
        self._outputs = outputs
        self.wanted: dict[Path, Reason] = {}
        self.cut_short: list[Path] = []

    def want(self, paths: Iterable[Path], reason: Reason) -> None:
        for path in paths:
            if path.is_file():
                self.wanted.setdefault(path, reason)

    def include(self, paths: Iterable[Path]) -> None:
        """What the user names: all but what rules make."""
        self.want((path for path in _files(paths) if not _is_made(path, self._outputs)), Reason.INCLUDED)

    def name(self, path: Path, workdir: Path) -> None:
        """What Snakemake names: a file, or the folder of a script."""
        if not path.is_dir():
            self.want([path], Reason.NAMED)
            return
        # A script beside the data: take the code of that folder, not the data.
        everything = not _contains(path, workdir)
        near = (file for file in self._walk(path) if everything or _is_script(file))
        self._want_but_data(near, Reason.BESIDE_A_SCRIPT)

    def take_helpers(self, folder: Path) -> None:
        """What git tracks in a folder; without git, its scripts."""
        tracked = _git_tracked(folder)
        if tracked is not None:
            self._want_but_data(tracked, Reason.TRACKED)
        else:
            self._want_but_data([path for path in self._walk(folder) if _is_script(path)], Reason.SCRIPT)

    def _want_but_data(self, paths: Iterable[Path], reason: Reason) -> None:
        self.want((path for path in paths if not _is_data(path, self._inputs, self._outputs)), reason)

    def _walk(self, folder: Path) -> Iterator[Path]:
        for count, path in enumerate(_walk(folder)):
            if count == LIMIT_FILES:
                self.cut_short.append(folder)
                return
            yield path


def may_travel(sources: Sources, read: Iterable[Path]) -> dict[Path, Reason]:
    """Of some files that turn out to be read with the Snakefile, those that are not kept back."""
    kept_back = {*sources.reasons, *sources.too_large, *sources.excluded}
    wanted = (path for path in read if path not in kept_back and path.is_file())
    return {path: Reason.READ_BY_SNAKEFILE for path in wanted if path.stat().st_size <= LIMIT_BYTES}


def _matches(workdir: Path, pattern: str) -> frozenset[Path]:
    """Files and folders that match a pattern as a shell's: `*` within a name, `**` at any depth."""
    # A name that a shell has put in the place of a pattern may look like one itself.
    if (workdir / pattern).exists():
        names = [pattern]
    else:
        names = glob.glob(pattern, root_dir=workdir, recursive=True)  # noqa: PTH207  pathlib finds hidden files
    return frozenset(Path(os.path.normpath(workdir / name)) for name in names)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """Files as they are, folders as all that is in them."""
    for path in sorted(paths):
        yield from _walk(path) if path.is_dir() else [path]


def _is_data(path: Path, inputs: frozenset[Path], outputs: frozenset[Path]) -> bool:
    # A script that some rule declares may be called by others that do not.
    return (path in inputs and not _is_script(path)) or _is_made(path, outputs)


def _is_made(path: Path, outputs: frozenset[Path]) -> bool:
    """Whether a path is an output, or in a directory that is one: it may vanish at any time."""
    return path in outputs or any(parent in outputs for parent in path.parents)


def _contains(folder: Path, other: Path) -> bool:
    return folder == other or folder in other.parents


def _git_tracked(workdir: Path) -> list[Path] | None:
    """Files that git tracks below a folder; None if git does not know the folder."""
    if (workdir / TRACKED).is_file():
        names = os.fsdecode((workdir / TRACKED).read_bytes()).split("\0")
        return [workdir / name for name in names if name]
    # Not --recurse-submodules alone: it fails where a submodule is not checked out.
    for options in (["--recurse-submodules"], []):
        try:
            done = subprocess.run(
                ["git", "ls-files", "-z", *options, "."], cwd=workdir, capture_output=True, check=False
            )
        except FileNotFoundError:
            return None
        if done.returncode == 0:
            names = [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
            return [workdir / name for name in names] or None
    return None


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, but for hidden folders."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted(files):
            yield Path(parent, name)


def has_name_of_code(path: Path) -> bool:
    """Whether a file is code by its name: its ending, or a name that programs look for."""
    name = path.name.lower()
    return path.suffix.lower() in SCRIPT_SUFFIXES or name in _PROJECT_FILES or name.startswith("snakefile")


def _is_script(path: Path) -> bool:
    if has_name_of_code(path):
        return True
    # Not pipes and the like, which would have us wait.
    if not path.is_file():
        return False
    return (not path.suffix and os.access(path, os.X_OK)) or _begins_as_script(path)


def _begins_as_script(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False
