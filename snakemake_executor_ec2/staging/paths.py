"""Where a file of this computer is on the machine: at the same absolute path, if that is possible."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
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


def sendings(paths: Iterable[Path], path_map: PathMap, *, followed: Collection[Path] = ()) -> list[Sending]:
    """What to send so that every path can be read on the machine.

    A symlink to something in the working directory stays one, with its modification time, and what
    it leads to is sent as well. Others, and those that are to be `followed`, become what they lead
    to: it may lie anywhere here and nowhere there. Links within a directory that is sent stay
    links, unless they lead out of it.
    Raises FileNotFoundError for a path that is not there, or a link to nothing.
    """
    found: list[Sending] = []
    for path in dict.fromkeys(paths):
        target: Path | None = path
        while target is not None:
            path, target = target, None if target in followed else _next_in_workdir(target, path_map)
            name = path_map.to_machine(path)
            found += _sending(path, name) if target is None else [Sending(content=path, name=name)]
    return found


def _next_in_workdir(link: Path, path_map: PathMap) -> Path | None:
    """Where a symlink leads to, if that is in the working directory and will be there on the machine."""
    if not link.is_symlink():
        return None
    text = link.readlink()
    if text.is_absolute() and path_map.here != path_map.there:
        return None
    target = Path(os.path.normpath(link.parent / text))
    # Not where `..` was meant to climb out of what another link leads to.
    same = path_map.here in target.parents and target.resolve() == link.resolve(strict=True)
    return target if same else None


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
