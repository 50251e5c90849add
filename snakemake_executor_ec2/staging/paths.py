"""Where a file of this computer is on the machine: at the same absolute path, if that is possible."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PathMap:
    """The working directory here and there; what lies outside of it has the same path on both."""

    here: Path
    there: Path

    def to_machine(self, path: Path) -> Path:
        return self.there / path.relative_to(self.here) if self._inside(path, self.here) else path

    def to_controller(self, path: Path) -> Path:
        return self.here / path.relative_to(self.there) if self._inside(path, self.there) else path

    @staticmethod
    def _inside(path: Path, folder: Path) -> bool:
        return path == folder or folder in path.parents


@dataclass(frozen=True, kw_only=True)
class Sending:
    """A file or directory to send: where its content is here, and its path on the machine."""

    content: Path
    name: Path


def sendings(paths: Iterable[Path], path_map: PathMap) -> list[Sending]:
    """What to send so that every path can be read on the machine.

    Symlinks are followed: what they point at may lie anywhere here and nowhere there. Links
    within a directory that is sent stay links, unless they lead out of it.
    Raises FileNotFoundError for a path that is not there, or a link to nothing.
    """
    return [each for path in dict.fromkeys(paths) for each in _sending(path, path_map.to_machine(path))]


def _sending(path: Path, name: Path) -> list[Sending]:
    content = path.resolve(strict=True)
    if not content.is_dir() or not _leads_out(content):
        return [Sending(content=content, name=name)]
    found: list[Sending] = []
    for child in sorted(content.iterdir()):
        # A link to nothing is somebody's, but nothing that a job could read.
        if child.exists():
            found += _sending(child, name / child.name)
    return found


def _leads_out(folder: Path) -> bool:
    """Whether a directory holds a link, at any depth, to something outside of it."""
    for parent, folders, files in os.walk(folder):
        for entry in (*folders, *files):
            path = Path(parent, entry)
            if path.is_symlink() and folder not in path.resolve().parents:
                return True
    return False
