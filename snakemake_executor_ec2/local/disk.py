"""A host's disk as files of this computer, and its copies: what an image has, and starts a host with.

A host's root folder holds what is its own; what it wrote to system directories is in the upper layers of
their overlays (see `machine/sandbox.py`), and its user's home may be elsewhere, in memory.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .image import SYSTEM_DIRECTORIES, USER

_HOME = Path("home", USER)
_NOT_ON_THE_DISK = frozenset({"dev", "proc", "run", "sys"})
"""File systems of the kernel's, or in memory."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Where a host's files are, or an image's."""

    directory: Path
    home: Path | None
    """The user's home, where it is not in the root folder."""

    @property
    def exists(self) -> bool:
        return (self.directory / "root").exists()

    def copy_to(self, other: Disk) -> None:
        """Copy all that there is. Raises OSError."""
        root, target = self.directory / "root", other.directory / "root"
        (target / _HOME.parent).mkdir(parents=True, exist_ok=True)
        for each in sorted(root.iterdir()):
            if each.name not in _NOT_ON_THE_DISK and each.name != _HOME.parts[0]:
                _copy(each, target / each.name)
        _copy(self.home or root / _HOME, other.home or target / _HOME)
        for path in SYSTEM_DIRECTORIES:
            upper = f"layers{path}/upper"
            if (self.directory / upper).is_dir():
                _copy(self.directory / upper, other.directory / upper)

    def remove(self) -> None:
        for folder in (self.directory, self.home):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """With modes, times, links and what overlays note in attributes; without copying blocks, if the file
    system can share them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform != "linux":
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target, follow_symlinks=False)
        return
    command = ["cp", "--archive", "--no-target-directory", "--reflink=auto", str(source), str(target)]
    with _readable(source, target):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{source} could not be copied: {done.stderr.strip()[-500:]}")


@contextmanager
def _readable(source: Path, target: Path) -> Iterator[None]:
    """Lets its owner read what only the host's root may read: that has no mode at all there."""
    closed: dict[Path, int] = {}
    for folder, names, files in os.walk(source):
        for path in (Path(folder, name) for name in (*names, *files)):
            mode = path.lstat().st_mode
            needed = stat.S_IRWXU if stat.S_ISDIR(mode) else stat.S_IRUSR
            if not stat.S_ISLNK(mode) and mode & needed != needed:
                closed[path] = stat.S_IMODE(mode)
                path.chmod(stat.S_IMODE(mode) | needed)
    try:
        yield
    finally:
        for path, mode in closed.items():
            for each in (path, target / path.relative_to(source)):
                if each.exists():
                    each.chmod(mode)
