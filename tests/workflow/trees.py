"""What a run of Snakemake's left in a folder, to be compared with another run's."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

_NOT_THE_RUNS = {".snakemake", ".cache", "__pycache__"}


def snakemake(folder: Path, *arguments: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    """A call of Snakemake's with the executor that it has by itself."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False)


def tree(folder: Path, *, figures: Collection[str] = ("benchmarks",)) -> dict[str, tuple[str, int, bytes]]:
    """Kind, mode and content of everything below a folder, by relative path.

    Of files in the folders `figures`, whose content differs from run to run, the first line.
    """
    found = {}
    for path in _below(folder):
        name = str(path.relative_to(folder))
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink():
            target = path.readlink()
            # A link into the folder is the same wherever that folder is.
            inside = target.relative_to(folder) if folder in target.parents else target
            found[name] = ("link", mode, bytes(inside))
        elif path.is_dir():
            found[name] = ("directory", mode, b"")
        else:
            content = path.read_bytes()
            short = any(part in figures for part in Path(name).parts)
            found[name] = ("file", mode, content.splitlines()[0] if short and content else content)
    return found


def order(folder: Path) -> dict[tuple[str, str], bool]:
    """For each job that Snakemake has on record, every file that it made and every one that it
    read: whether the first is no older than the second. Directories count with all that is in them."""
    found = {}
    for output, record in records(folder).items():
        for read in record["input"]:
            for old in _files(folder, read):
                for new in _files(folder, output):
                    names = (_name(new, folder), _name(old, folder))
                    found[names] = new.lstat().st_mtime_ns >= old.lstat().st_mtime_ns
    return found


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """What Snakemake noted of each output, by name, without times and the like."""
    metadata = folder / ".snakemake" / "metadata"
    found = {}
    for path in sorted(metadata.rglob("*")):
        if path.is_file():
            encoded = "".join(part.removeprefix("@") for part in path.relative_to(metadata).parts)
            record = json.loads(path.read_text())
            kept = {key: record[key] for key in ("input", "log", "params", "rule", "shellcmd", "code")}
            found[base64.urlsafe_b64decode(encoded).decode()] = kept
    return found


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _NOT_THE_RUNS)
        yield from (Path(parent, name) for name in sorted((*folders, *files)))


def _files(folder: Path, name: str) -> list[Path]:
    path = folder / name
    if path.is_dir() and not path.is_symlink():
        return [each for each in _below(path) if each.is_symlink() or not each.is_dir()]
    return [path] if os.path.lexists(path) else []


def _name(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder)
