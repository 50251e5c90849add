"""Files that arrive: first under another name beside their target, and in place only when complete."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NamedTuple, Optional

from .holes import Sparse, placed
from .parts import new_part, remove_dead
from .resolving import link_here, resolve

_MOST_ENTRIES = 10_000_000
_MOST_NAME = 4096  # characters: no system takes a longer path

Judge = Callable[[str, str, Optional[str]], str]
"""Is asked for each link that arrives: its target, its text, where it leads in the end (None: in a
circle). Returns the text that it gets here; raises Refused."""


class ArchiveError(Exception):
    """An archive that is refused: cut short, damaged, or holding what it must not."""


class Refused(ArchiveError):
    """An archive that holds what it must not: the same will come again."""


class Item(NamedTuple):
    """One member of an archive, without its content."""

    name: str
    kind: str
    """`file`, `directory` or `symlink`."""
    size: int
    mode: int
    mtime_ns: int
    link: str
    real_size: Optional[int] = None
    """Of a file with holes; `size` is then what is sent of it."""


class _Arrival(NamedTuple):
    part: str
    target: str
    real: str
    """The target, without links among its folders."""


class _Link(NamedTuple):
    part: str
    target: str
    item: Item


class Landing:
    """A set of files, directories and symlinks that appear together, or not at all.

    A context manager: what was not committed is removed at its end.
    """

    def __init__(self, judge: Judge | None) -> None:
        self._judge = judge
        self._links: dict[str, _Link] = {}
        self._cleaned: set[str] = set()
        self._arrivals: list[_Arrival] = []
        self._trees: dict[str, _Arrival] = {}
        self._kinds: dict[str, str] = {}
        self._directories: list[tuple[str, Item]] = []
        self.size = 0

    def __enter__(self) -> Landing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for arrival in self._arrivals:
            remove(arrival.part)

    def add(
        self,
        item: Item,
        place: Callable[[str], str | None],
        content: Iterable[memoryview],
        sparse: Sparse | None = None,
    ) -> None:
        """Write one member under a temporary name. Raises ArchiveError if it is not to be trusted."""
        self._check_name(item)
        tree = self._tree_of(item.name)
        if tree is not None:
            below = item.name[len(tree) :]
            part, target, real = (whole + below for whole in self._trees[tree])
            os.makedirs(os.path.dirname(part), mode=0o700, exist_ok=True)
        else:
            chosen = place("/" + item.name)
            if chosen is None:
                self._kinds[item.name] = "skipped"
                return
            target = chosen
            parent = os.path.dirname(target)
            os.makedirs(parent, exist_ok=True)
            if parent not in self._cleaned:
                self._cleaned.add(parent)
                remove_dead(parent, remove)
            part, real = new_part(parent), os.path.join(os.path.realpath(parent), os.path.basename(target))
            self._arrivals.append(_Arrival(part, target, real))
        self._kinds[item.name] = item.kind
        if item.kind == "symlink":
            if not item.link or "\0" in item.link:
                raise Refused(f"/{item.name} is a symlink that leads nowhere")
            self._links[real] = _Link(part, target, item)
        else:
            self._write(item, part, content, sparse)
        if item.kind == "directory" and tree is None:
            self._trees[item.name] = self._arrivals[-1]

    def commit(self) -> list[str]:
        """Let everything appear under its own name; returns the targets of the entries."""
        self._make_links()
        for part, item in reversed(self._directories):
            os.chmod(part, item.mode)
            os.utime(part, ns=(item.mtime_ns, item.mtime_ns))
        for arrival in self._arrivals:
            _rename(arrival.part, arrival.target)
        targets = [arrival.target for arrival in self._arrivals]
        self._arrivals.clear()
        return targets

    def _check_name(self, item: Item) -> None:
        if len(item.name) > _MOST_NAME or len(item.link) > _MOST_NAME:
            raise Refused(f"the archive holds a name that is too long: /{item.name[:100]}…")
        parts = item.name.split("/")
        if "\0" in item.name or any(part in ("", ".", "..") for part in parts):
            raise Refused(f"the archive holds a name that it must not: {item.name!r}")
        if len(self._kinds) >= _MOST_ENTRIES:
            raise Refused(f"the archive holds more than {_MOST_ENTRIES} files")
        if item.name in self._kinds:
            raise Refused(f"/{item.name} is in the archive twice, or before its directory")
        for end in range(1, len(parts)):
            parent = "/".join(parts[:end])
            kind = self._kinds.setdefault(parent, "parent")
            if kind in ("file", "symlink"):
                raise Refused(f"/{item.name} is below /{parent}, which is a {kind}")

    def _tree_of(self, name: str) -> str | None:
        end = name.rfind("/")
        while end > 0:
            if name[:end] in self._trees or self._kinds.get(name[:end]) == "skipped":
                return name[:end] if name[:end] in self._trees else None
            end = name.rfind("/", 0, end)
        return None

    def _write(self, item: Item, part: str, content: Iterable[memoryview], sparse: Sparse | None) -> None:
        if item.kind == "directory":
            os.mkdir(part, 0o700)
            self._directories.append((part, item))
        else:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                pieces = [(0, item.size)] if sparse is None else sparse.pieces
                for at, data in placed(content, pieces):
                    os.lseek(fd, at, os.SEEK_SET)
                    _write_all(fd, data)
                    self.size += len(data)
                if sparse is not None:
                    os.ftruncate(fd, sparse.size)
                os.fchmod(fd, item.mode)
                os.utime(fd, ns=(item.mtime_ns, item.mtime_ns))
            finally:
                os.close(fd)

    def _make_links(self) -> None:
        """Links are made last: the target of one may depend on the others."""
        for real, (part, target, item) in self._links.items():
            text = item.link
            if self._judge is not None:
                text = self._judge(target, text, resolve(real, self._link_at))
            os.symlink(text, part)
            # Linux and macOS can date a symlink itself; nothing depends on it elsewhere
            with contextlib.suppress(NotImplementedError):
                os.utime(part, ns=(item.mtime_ns, item.mtime_ns), follow_symlinks=False)

    def _link_at(self, path: str) -> str | None:
        """A link that will be there: among what arrives; nothing old counts in what is replaced."""
        if path in self._links:
            return self._links[path].item.link
        if any(path == each.real or path.startswith(each.real + "/") for each in self._arrivals):
            return None
        return link_here(path)


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _rename(part: str, target: str) -> None:
    """Put `part` in the place of whatever is at `target`."""
    try:
        existing = os.lstat(target)
    except FileNotFoundError:
        os.rename(part, target)
        return
    arriving = os.lstat(part)
    if not stat.S_ISDIR(existing.st_mode) and not stat.S_ISDIR(arriving.st_mode):
        os.replace(part, target)
        return
    aside = new_part(os.path.dirname(target))
    os.rename(target, aside)
    try:
        os.rename(part, target)
    except BaseException:
        os.rename(aside, target)
        raise
    remove(aside)


def remove(path: str) -> None:
    """Remove a file or a tree; directories that may not be written to are made writable first."""
    try:
        is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_directory:
        os.unlink(path)
        return
    for folder, names, _files in os.walk(path):
        os.chmod(folder, 0o700)
        for name in names:
            child = os.path.join(folder, name)
            if not os.path.islink(child):
                os.chmod(child, 0o700)
    shutil.rmtree(path)
