"""Files that arrive: beside their target under another name first, and in place only when whole."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NamedTuple

_PART = ".ec2-part-"


class ArchiveError(Exception):
    """An archive that is refused: cut short, damaged, or holding what it must not."""


class Item(NamedTuple):
    """One member of an archive, without its content."""

    name: str
    kind: str
    """`file`, `directory` or `symlink`."""
    size: int
    mode: int
    mtime_ns: int
    link: str


class _Arrival(NamedTuple):
    part: str
    target: str


class Landing:
    """A set of files, directories and symlinks that appear together, or not at all.

    A context manager: what was not committed is removed at its end.
    """

    def __init__(self, roots: list[str] | None) -> None:
        self._real_roots = [os.path.realpath(root) for root in roots or []]
        self._roots = None if roots is None else [*map(os.path.normpath, roots), *self._real_roots]
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
            _remove(arrival.part)

    def add(self, item: Item, place: Callable[[str], str | None], content: Iterable[memoryview]) -> None:
        """Write one member under a temporary name. Raises ArchiveError where it is not to be trusted."""
        self._check_name(item)
        tree = self._tree_of(item.name)
        if tree is not None:
            below = item.name[len(tree) :]
            part, target = self._trees[tree].part + below, self._trees[tree].target + below
            os.makedirs(os.path.dirname(part), mode=0o700, exist_ok=True)
        else:
            chosen = place("/" + item.name)
            if chosen is None:
                self._kinds[item.name] = "skipped"
                return
            target = chosen
            parent = os.path.dirname(target)
            os.makedirs(parent, exist_ok=True)
            part = os.path.join(parent, _PART + secrets.token_hex(8))
            self._arrivals.append(_Arrival(part, target))
        self._kinds[item.name] = item.kind
        self._write(item, part, target, content)
        if item.kind == "directory" and tree is None:
            self._trees[item.name] = self._arrivals[-1]

    def commit(self) -> list[str]:
        """Let everything appear under its own name; returns the targets of the entries."""
        for part, item in reversed(self._directories):
            os.chmod(part, item.mode)
            os.utime(part, ns=(item.mtime_ns, item.mtime_ns))
        for arrival in self._arrivals:
            _rename(arrival.part, arrival.target)
        targets = [arrival.target for arrival in self._arrivals]
        self._arrivals.clear()
        return targets

    def _check_name(self, item: Item) -> None:
        parts = item.name.split("/")
        if "\0" in item.name or any(part in ("", ".", "..") for part in parts):
            raise ArchiveError(f"the archive holds a name that it must not: {item.name!r}")
        if item.name in self._kinds:
            raise ArchiveError(f"/{item.name} is in the archive twice, or before its directory")
        for end in range(1, len(parts)):
            parent = "/".join(parts[:end])
            kind = self._kinds.setdefault(parent, "parent")
            if kind in ("file", "symlink"):
                raise ArchiveError(f"/{item.name} is below /{parent}, which is a {kind}")

    def _tree_of(self, name: str) -> str | None:
        end = name.rfind("/")
        while end > 0:
            if name[:end] in self._trees or self._kinds.get(name[:end]) == "skipped":
                return name[:end] if name[:end] in self._trees else None
            end = name.rfind("/", 0, end)
        return None

    def _write(self, item: Item, part: str, target: str, content: Iterable[memoryview]) -> None:
        if item.kind == "directory":
            os.mkdir(part, 0o700)
            self._directories.append((part, item))
        elif item.kind == "symlink":
            self._check_link(item, target)
            os.symlink(item.link, part)
            # Linux and macOS can date a symlink itself; nothing depends on it elsewhere
            with contextlib.suppress(NotImplementedError):
                os.utime(part, ns=(item.mtime_ns, item.mtime_ns), follow_symlinks=False)
        else:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                for data in content:
                    _write_all(fd, data)
                    self.size += len(data)
                os.fchmod(fd, item.mode)
                os.utime(fd, ns=(item.mtime_ns, item.mtime_ns))
            finally:
                os.close(fd)

    def _check_link(self, item: Item, target: str) -> None:
        if not item.link or "\0" in item.link:
            raise ArchiveError(f"/{item.name} is a symlink that leads nowhere")
        if self._roots is None:
            return
        # `..` after a name could climb out of the directory that another symlink leads to
        parts = [part for part in item.link.split("/") if part not in ("", ".")]
        climbing = len(parts) - len(list(itertools.dropwhile(lambda part: part == "..", parts)))
        if ".." in parts[climbing:]:
            raise ArchiveError(f"/{item.name} is a symlink with `..` inside: {item.link}")
        end = os.path.join(self._real_parent(item.name, target), item.link)
        if not (
            _within(os.path.normpath(end), self._roots) and _within(os.path.realpath(end), self._real_roots)
        ):
            raise ArchiveError(f"/{item.name} is a symlink that leads out, to {item.link}")

    def _real_parent(self, name: str, target: str) -> str:
        """The directory that will hold `target`; below a tree that arrives, nothing old counts."""
        tree = self._tree_of(name)
        if tree is None:
            return os.path.realpath(os.path.dirname(target))
        top = self._trees[tree].target
        real_top = os.path.join(os.path.realpath(os.path.dirname(top)), os.path.basename(top))
        return real_top + os.path.dirname(name[len(tree) :])


def _within(path: str, roots: list[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


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
    aside = os.path.join(os.path.dirname(target), _PART + secrets.token_hex(8))
    os.rename(target, aside)
    try:
        os.rename(part, target)
    except BaseException:
        os.rename(aside, target)
        raise
    _remove(aside)


def _remove(path: str) -> None:
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
