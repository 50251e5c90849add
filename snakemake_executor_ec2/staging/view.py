"""What a machine sees of the files that are not sent: their names, kinds, sizes and times.

A Snakefile asks more of its folder than it reads: which samples there are, whether a file exists, how
large it is. It is asked again on the machine, and has to get the same answers. So the machine gets a
list of the folder, and makes stand-ins of it that cannot be read (`agent/standins.py`).

The list is kept by folder, so that a job costs what has changed since the last one: a folder is read
again if its own time has changed, and all of them now and then, for files that were written in place.
"""

from __future__ import annotations

import json
import os
import stat
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

LIMIT_ENTRIES = 100_000
"""More names than this are not listed for machines; a folder beyond that is closed there."""
_FRESH_NS = 2 * 10**9
"""A folder that changed so shortly before it was read may have changed again without showing it."""
_READ_AGAIN_S = 60.0
_READ_AGAIN_COSTS = 50
"""Everything is read again after this multiple of the time that reading took."""
_REBASE = 4
"""The whole list is sent as one again if more than this part of it has changed."""
_NEVER = frozenset({".snakemake"})
_PART = ".ec2-part-"


@dataclass(frozen=True, kw_only=True)
class Folder:
    """One folder of this computer, as a machine is to see it."""

    path: str
    mtime_ns: int
    files: Sequence[tuple[str, int, int]] = ()
    """Name, size and modification time (ns)."""
    links: Sequence[tuple[str, str]] = ()
    """Name and text of symlinks."""
    folders: Sequence[str] = ()
    closed: bool = False
    """Its content is not listed: looking into it has to fail."""
    read_at_ns: int = field(default=0, compare=False)

    @property
    def entries(self) -> int:
        return len(self.files) + len(self.links) + len(self.folders)

    def line(self) -> bytes:
        """One line of JSON. Columns, because they compress better."""
        names, sizes, times = zip(*self.files, strict=True) if self.files else ((), (), ())
        before = (self.mtime_ns, *times)
        steps = [time - last for time, last in zip(times, before, strict=False)]
        parts = [self.path, self.mtime_ns, int(self.closed), names, sizes, steps, self.links, self.folders]
        return json.dumps(parts, separators=(",", ":")).encode()


_UNREADABLE = 0
"""The time of a folder that this user may not read."""


@dataclass(frozen=True, kw_only=True)
class View:
    """The folders at one moment: what one job's machine is to see."""

    roots: tuple[Path, ...]
    folders: dict[str, Folder]
    base: View | None = None
    """An earlier view, from which this one differs little."""
    closed: tuple[str, ...] = ()
    """Folders that went beyond the limit; not those that this user may not read either."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _blob: list[bytes] = field(default_factory=list, repr=False, compare=False)

    def encoded(self) -> list[bytes]:
        """The lists to send, each compressed; of a folder that is in two of them the later one counts."""
        with self._lock:
            if not self._blob:
                changed = _lines(self.changed())
                blob = zlib.compress(changed, 6) if changed else b""
                self._blob[:] = [*(self.base.encoded() if self.base else ()), *filter(None, [blob])]
            return list(self._blob)

    def changed(self) -> list[Folder]:
        """The folders that are not in the base as they are."""
        before = self.base.folders if self.base else {}
        return [folder for path, folder in self.folders.items() if before.get(path) is not folder]

    @property
    def entries(self) -> int:
        return sum(folder.entries for folder in self.folders.values())


class Viewer:
    """Looks at the working directory and at the folders of Snakefiles elsewhere, for one run."""

    def __init__(
        self,
        roots: Iterable[Path],
        *,
        looked_into: Callable[[], Collection[Path]] = tuple,
        limit: int = LIMIT_ENTRIES,
    ) -> None:
        """`looked_into` tells of folders that Snakefiles have listed: hidden ones count then, too."""
        self.roots = tuple(dict.fromkeys(roots))
        self._real = [os.path.realpath(root) for root in self.roots]
        self._looked_into = looked_into
        self._limit = limit
        self._view: View | None = None
        self._base: View | None = None
        self._read_again_at = 0.0

    def look(self) -> View:
        """The folders as they are now."""
        began = time.monotonic()
        everything = began >= self._read_again_at
        known = {} if everything or self._view is None else self._view.folders
        folders = {folder.path: folder for folder in self._walk(known)}
        if everything:
            took = time.monotonic() - began
            self._read_again_at = began + max(_READ_AGAIN_S, _READ_AGAIN_COSTS * took)
            # What is as it was is the same object: it is not sent twice.
            before = self._view.folders if self._view else {}
            folders = {path: _same(folder, before.get(path)) for path, folder in folders.items()}
        closed = tuple(f.path for f in folders.values() if f.closed and f.mtime_ns != _UNREADABLE)
        view = View(roots=self.roots, folders=folders, base=self._base, closed=closed)
        if self._base is None or sum(f.entries for f in view.changed()) * _REBASE > self._base.entries + 100:
            view = View(roots=self.roots, folders=folders, closed=closed)
            self._base = view
        self._view = view
        return view

    def _walk(self, known: dict[str, Folder]) -> Iterator[Folder]:
        """All folders, those of the upper levels first."""
        hidden = {os.fspath(path) for path in self._looked_into()}
        hidden.update(os.path.realpath(path) for path in tuple(hidden))
        left = self._limit
        waiting = deque(map(os.fspath, self.roots))
        roots = set(waiting)
        followed: set[str] = set()
        while waiting:
            path = waiting.popleft()
            folder = self._folder(path, known.get(path))
            if folder is None:
                continue
            if folder.entries > left:
                yield replace(folder, files=(), links=(), folders=(), closed=True)
                continue
            left -= folder.entries
            yield folder
            for name in folder.folders:
                below = os.path.join(path, name)
                if below in roots or not (_is_open(name) or below in hidden or _holds(below, hidden)):
                    continue
                if not os.path.islink(below) or self._may_follow(below, followed):
                    waiting.append(below)

    def _may_follow(self, link: str, followed: set[str]) -> bool:
        """Whether a link that leads out to a folder can be followed: once, and in no circle."""
        real = os.path.realpath(link)
        circle = any(_within(root, real) for root in self._real) or real in followed
        followed.add(real)
        return not circle

    def _folder(self, path: str, known: Folder | None) -> Folder | None:
        try:
            changed_ns = os.stat(path).st_mtime_ns
            now_ns = time.time_ns()
            if known and known.mtime_ns == changed_ns and changed_ns < known.read_at_ns - _FRESH_NS:
                return known
            return self._read(path, changed_ns, now_ns)
        except PermissionError:
            return Folder(path=path, mtime_ns=_UNREADABLE, closed=True)
        except OSError:  # it is gone
            return None

    def _read(self, path: str, mtime_ns: int, now_ns: int) -> Folder:
        files, links, folders = [], [], []
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if name in _NEVER or name.startswith(_PART):
                    continue
                try:
                    if entry.is_symlink():
                        text = self._link_inside(entry.path)
                        if text is not None:
                            links.append((name, text))
                            continue
                    status = entry.stat()
                except OSError:
                    continue  # it is gone
                if stat.S_ISDIR(status.st_mode):
                    folders.append(name)
                else:
                    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
                    files.append((name, size, status.st_mtime_ns))
        return Folder(
            path=path,
            mtime_ns=mtime_ns,
            files=tuple(sorted(files)),
            links=tuple(sorted(links)),
            folders=tuple(sorted(folders)),
            read_at_ns=now_ns,
        )

    def _link_inside(self, path: str) -> str | None:
        """The text of a symlink that stays one on the machine: to something that is told as well, or
        to nothing. None: what it leads to takes its place."""
        text = os.readlink(path)
        if not os.path.exists(path):
            return text
        real = os.path.realpath(path)
        inside = any(
            _within(real, root) and all(map(_is_open, Path(real[len(root) :]).parts)) for root in self._real
        )
        return text if inside else None


def _is_open(name: str) -> bool:
    """Whether a machine sees what is in a folder of that name, even if no Snakefile has looked into it."""
    return not name.startswith(".") and name != "__pycache__"


def _holds(folder: str, others: Collection[str]) -> bool:
    return any(_within(other, folder) for other in others)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _same(folder: Folder, before: Folder | None) -> Folder:
    return before if before == folder else folder


def _lines(folders: Iterable[Folder]) -> bytes:
    return b"\n".join(folder.line() for folder in folders)
