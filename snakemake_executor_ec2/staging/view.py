"""What a machine sees of the files that are not sent: their names, kinds, sizes and times.

A Snakefile asks more of its folder than it reads: which samples there are, whether a file exists, how
large it is. It is asked again on the machine, and has to get the same answers. So the machine gets a
list of the folder, and makes stand-ins of it that cannot be read (`agent/standins.py`).

The list is kept by folder, so that a job costs what has changed since the last one: a folder is read
again if its own time has changed, and all of them now and then, for files that were written in place.
Of a folder with many files mostly names and inodes are read again, and what is new: a workflow puts the
result of each of its jobs there.
"""

from __future__ import annotations

import os
import stat
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from snakemake_executor_ec2.staging.folder import Changes, Folder

LIMIT_ENTRIES = 100_000
"""More names than this are not listed for machines; a folder beyond that is closed there."""
_FRESH_NS = 2 * 10**9
"""A folder that changed so shortly before it was read may have changed again without showing it."""
_READ_AGAIN_S = 60.0
_READ_AGAIN_COSTS = 50
"""Everything is read again after this multiple of the time that reading took; and so are the sizes and
times in one folder of many files, if that has changed."""
_MANY = 5000
"""Files in a folder that has many."""
_REBASE = 4
"""The whole list is sent as one again if more than this part of it has changed, and so is a folder."""
_NEVER = frozenset({".snakemake"})
_PART = ".ec2-part-"


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
    touched: Mapping[str, Collection[str]] = field(default_factory=dict, repr=False, compare=False)
    """Names in some folders, beside which nothing is otherwise there than in the base."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _blob: list[bytes] = field(default_factory=list, repr=False, compare=False)
    _told: dict[str, Changes | None] = field(default_factory=dict, repr=False, compare=False)

    def encoded(self) -> list[bytes]:
        """The lists to send, each compressed; of a folder that is in two of them the later one counts, or
        says what has changed."""
        with self._lock:
            if not self._blob:
                lines = [
                    folder.line_of(changes) if (changes := self._changes(folder)) else folder.line()
                    for folder in self.changed()
                ]
                blob = zlib.compress(b"\n".join(lines), 6) if lines else b""
                self._blob[:] = [*(self.base.encoded() if self.base else ()), *filter(None, [blob])]
            return list(self._blob)

    def changed(self) -> list[Folder]:
        """The folders that are not in the base as they are."""
        before = self.base.folders if self.base else {}
        return [folder for path, folder in self.folders.items() if before.get(path) is not folder]

    def changed_entries(self) -> int:
        """How much there is to tell of them."""
        found = [(folder, self._changes(folder)) for folder in self.changed()]
        return sum(folder.entries if changes is None else changes.entries for folder, changes in found)

    def _changes(self, folder: Folder) -> Changes | None:
        """What is to be told of a folder that has changed; None: all of it."""
        if folder.path not in self._told:
            before = self.base.folders.get(folder.path) if self.base else None
            if before is None or before.closed or folder.closed:
                changes = None
            else:
                changes = folder.changes(before, self.touched.get(folder.path))
            shorter = changes is not None and changes.entries * _REBASE < folder.entries
            self._told[folder.path] = changes if shorter else None
        return self._told[folder.path]

    @property
    def entries(self) -> int:
        return sum(folder.entries for folder in self.folders.values())


class _Settled(NamedTuple):
    """What need not be looked at again in a folder with many files, when that has changed."""

    folder: Folder
    """What was told of it. If it is known otherwise (it was closed), all of it is read again."""
    files: set[tuple[str, int]]
    """Names and inodes of regular files, but for those that had changed so shortly before they were read that
    they may have changed again without showing it."""
    others: set[str]
    """All other names."""
    until: float
    """Until when (`time.monotonic`) such files are taken for unchanged."""


class _Found:
    """What is in a folder."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self.files: list[tuple[str, int, int]] = []
        self.links: list[tuple[str, str]] = []
        self.folders: list[str] = []
        self.settled: set[tuple[str, int]] = set()
        self.unsettled: set[str] = set()

    def names(self) -> set[str]:
        return {*(name for name, *_ in self.files), *(name for name, _ in self.links), *self.folders}

    def folder(self, path: str, mtime_ns: int) -> Folder:
        return Folder(
            path=path,
            mtime_ns=mtime_ns,
            files=tuple(sorted(self.files)),
            links=tuple(sorted(self.links)),
            folders=tuple(sorted(self.folders)),
            read_at_ns=self.now_ns,
        )


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
        self._touched: dict[str, set[str]] = {}
        """See `View`; of folders with many files."""
        self._settled: dict[str, _Settled] = {}

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
        view = View(roots=self.roots, folders=folders, base=self._base, closed=closed, touched=self._touched)
        if self._base is None or view.changed_entries() * _REBASE > self._base.entries + 100:
            view = View(roots=self.roots, folders=folders, closed=closed)
            self._base = view
            self._touched = {path: set() for path in self._settled}
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
            settled = self._settled.get(path)
            if known and settled and settled.folder == known and time.monotonic() < settled.until:
                return self._update(known, settled, changed_ns, now_ns)
            return self._read(path, changed_ns, now_ns)
        except PermissionError:
            return Folder(path=path, mtime_ns=_UNREADABLE, closed=True)
        except OSError:  # it is gone
            return None

    def _read(self, path: str, mtime_ns: int, now_ns: int) -> Folder:
        began = time.monotonic()
        found = _Found(now_ns)
        with os.scandir(path) as entries:
            for entry in entries:
                self._add(found, entry)
        took_s = time.monotonic() - began
        folder, before = found.folder(path, mtime_ns), self._view.folders.get(path) if self._view else None
        if len(found.files) > _MANY:
            until = began + min(_READ_AGAIN_S, _READ_AGAIN_COSTS * took_s)
            self._settled[path] = _Settled(folder, found.settled, found.unsettled, until)
        else:
            self._settled.pop(path, None)
        if before is None:
            self._touched.pop(path, None)
        elif path in self._touched:
            self._touched[path] |= folder.changes(before).names()
        return folder

    def _update(self, before: Folder, settled: _Settled, mtime_ns: int, now_ns: int) -> Folder:
        """A folder with many files that has changed: only what is new in it, or not settled, is looked at."""
        found, same = _Found(now_ns), set()
        with os.scandir(before.path) as entries:
            for entry in entries:
                key = entry.name, entry.inode()
                if key in settled.files and entry.is_file(follow_symlinks=False):
                    same.add(key)
                else:
                    self._add(found, entry)
        if before.path in self._touched:
            self._touched[before.path] |= found.names() | settled.others
            self._touched[before.path].update(name for name, _ in settled.files - same)
        names = {name for name, _ in same}
        found.files += [each for each in before.files if each[0] in names]
        folder = found.folder(before.path, mtime_ns)
        self._settled[before.path] = _Settled(folder, found.settled | same, found.unsettled, settled.until)
        return folder

    def _add(self, found: _Found, entry: os.DirEntry[str]) -> None:
        name = entry.name
        if name in _NEVER or name.startswith(_PART):
            return
        try:
            is_link = entry.is_symlink()
            if is_link:
                text = self._link_inside(entry.path)
                if text is not None:
                    found.links.append((name, text))
                    found.unsettled.add(name)
                    return
            status = entry.stat()
        except OSError:
            return  # it is gone
        if stat.S_ISDIR(status.st_mode):
            found.folders.append(name)
            found.unsettled.add(name)
            return
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        found.files.append((name, size, status.st_mtime_ns))
        if not is_link and status.st_ctime_ns < found.now_ns - _FRESH_NS and stat.S_ISREG(status.st_mode):
            found.settled.add((name, entry.inode()))
        else:
            found.unsettled.add(name)

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
