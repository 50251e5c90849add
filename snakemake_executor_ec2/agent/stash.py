"""What attempts that broke off have brought of a transfer, so that the next one goes on from there.

The sender names each file, in the state in which it is, by a key (`archive_writer.key_of`), and says how much
of it has arrived. What has arrived is used only as long as nobody has touched it, which the kernel's change
time tells.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .frames import ArchiveError


class Kept(NamedTuple):
    """A file that has arrived, or the beginning of one."""

    path: str
    have: int
    """Up to where it has arrived."""
    stamp: tuple[int, ...]
    """By which it is seen whether it was touched since."""


class Stash:
    """The files that have arrived, by their keys."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}
        self._roots: list[str] = []

    def have(self) -> dict[str, int]:
        """Up to where each file has arrived."""
        return {key: kept.have for key, kept in self._kept.items() if _stamp(kept.path) == kept.stamp}

    def take(self, key: str, have: int, to: str) -> None:
        """Move a file of which so much has arrived. Raises ArchiveError if it is not there any more."""
        kept = self._kept.pop(key, None)
        if kept is None or kept.have != have or _stamp(kept.path) != kept.stamp:
            raise ArchiveError("what had arrived before the connection broke is not there any more")
        os.rename(kept.path, to)

    def keep(self, roots: Iterable[str], files: Iterable[tuple[str, str, int]]) -> None:
        """Keep what has arrived: the files and folders that hold it; key, path and length of each file."""
        self._roots += roots
        for key, path, have in files:
            stamp = _stamp(path)
            if key and stamp is not None:
                self._kept[key] = Kept(path, have, stamp)

    def move(self, name: Callable[[str], str]) -> None:
        """Give everything a new name in the same folder, by its old one: it has another owner."""
        self._kept = {key: kept for key, kept in self._kept.items() if _stamp(kept.path) == kept.stamp}
        renamed = {}
        for root in self._roots:
            with contextlib.suppress(FileNotFoundError):
                to = name(root)
                os.rename(root, to)
                renamed[root] = to
        moved = [(key, *_moved(kept.path, renamed), kept.have) for key, kept in self._kept.items()]
        self._roots, self._kept = list(renamed.values()), {}
        self.keep((), [(key, root + rest, have) for key, root, rest, have in moved])

    def discard(self, remove: Callable[[str], None]) -> None:
        """Remove what is left of it."""
        for root in self._roots:
            remove(root)
        self._roots.clear()
        self._kept.clear()

    def told(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {"roots": self._roots, "files": {key: list(kept) for key, kept in self._kept.items()}}

    @classmethod
    def of(cls, told: dict[str, Any]) -> Stash:
        """The same again."""
        stash = cls()
        stash._roots = list(told["roots"])
        stash._kept = {
            key: Kept(path, have, tuple(stamp)) for key, (path, have, stamp) in told["files"].items()
        }
        return stash


def _moved(path: str, renamed: dict[str, str]) -> tuple[str, str]:
    root = path
    while root not in renamed:
        root = os.path.dirname(root)
        if root in ("", "/"):
            return path, ""
    return renamed[root], path[len(root) :]


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
