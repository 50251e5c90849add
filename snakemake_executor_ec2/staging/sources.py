"""Which files make up a workflow, and so travel with every job of it.

1. What Snakemake names: Snakefiles, configuration, environments, and the folders of scripts.
2. What the Snakefile read while it was parsed: sample sheets and the like (`parse_reads`).
3. Helpers that shell commands call without declaring them: what git tracks, and where there is
   no git, scripts (by their ending, or executable) of the working directory.

Never: data that rules make or declare as input (they travel with the jobs that need them), files
above `LIMIT_BYTES`, hidden folders such as `.git` and `.snakemake`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LIMIT_BYTES = 10_000_000
"""Above this a source is left out and the user told. Snakemake's own limit for sources."""
LIMIT_FILES = 20_000
"""More files than this are not looked at in a folder without git: it is somebody's home."""

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
_PROJECT_FILES = frozenset(
    {"snakefile", "makefile", "pyproject.toml", "setup.cfg", "requirements.txt", ".rprofile"}
)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What travels with every job, and what was left out for its size."""

    files: tuple[Path, ...]
    too_large: tuple[Path, ...]


def gather(
    workdir: Path, *, named: Iterable[Path], read_by_parse: Iterable[Path], data: frozenset[Path]
) -> Sources:
    """Settle what travels with every job of a workflow.

    `named` are files and folders that Snakemake knows; `data` are inputs and outputs of rules.
    All paths are absolute, as is the answer, which is sorted.
    """
    wanted: set[Path] = set()
    for path in named:
        if path.is_dir():
            # A script beside the data: take the code of that folder, not the data.
            everything = not _contains(path, workdir)
            wanted.update(f for f in _walk(path) if f not in data and (everything or _is_script(f)))
        else:
            wanted.add(path)
    wanted.update(path for path in read_by_parse if path.is_file())
    wanted.update(path for path in _helpers(workdir) if path not in data)
    present = {path for path in wanted if path.is_file()}
    too_large = {path for path in present if path.stat().st_size > LIMIT_BYTES}
    return Sources(files=tuple(sorted(present - too_large)), too_large=tuple(sorted(too_large)))


def _contains(folder: Path, other: Path) -> bool:
    return folder == other or folder in other.parents


def _helpers(workdir: Path) -> Iterator[Path]:
    tracked = _git_tracked(workdir)
    if tracked is not None:
        yield from tracked
    else:
        yield from (path for path in _walk(workdir) if _is_script(path))


def _git_tracked(workdir: Path) -> list[Path] | None:
    """Files that git tracks below a folder; None where git does not know the folder."""
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
    seen = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted(files):
            seen += 1
            if seen > LIMIT_FILES:
                return
            yield Path(parent, name)


def _is_script(path: Path) -> bool:
    if path.suffix.lower() in SCRIPT_SUFFIXES or path.name.lower() in _PROJECT_FILES:
        return True
    return not path.suffix and os.access(path, os.X_OK) and path.is_file()
