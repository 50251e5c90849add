"""The writer of archives (see `archive.py`)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from .frames import BEGIN, BODY, DATA, END, ITEMS, FrameWriter
from .holes import data_of

_SMALL = 64 << 10
"""Bytes up to which a file shares a frame."""
_TOGETHER = 128 << 10
_MOST_TOGETHER = 2000
_NAMES_TOGETHER = 64_000
"""Characters of names and links, each of which JSON may need twelve bytes for: a frame's head is limited."""
_NAMES_TOLD = 32_000
"""The same of names in the last note: of more, the first ones will do."""
_TOO_FRESH_NS = 50_000_000
"""A file that changed so short a time ago may change again without its times telling so."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(NamedTuple):
    """A file, a symlink or a whole directory to be archived."""

    path: str
    """Where it is here."""
    name: str
    """The absolute path that it has on the other side."""


def write_archive(
    stream: BinaryIO,
    entries: Iterable[Entry],
    *,
    begin: dict[str, Any] | None = None,
    shift_ns: int = 0,
    progress: Callable[[int], None] | None = None,
    open_up: bool = False,
    have: Mapping[str, int] | None = None,
) -> int:
    """Write entries to a stream, directories with all that is in them; returns the bytes of content, those
    included that the reader has already (`have`, as `Stash.have` says it).

    An entry within the directory of another, or given twice, is written once. `open_up`: what is our own and
    closed to us is made readable for the moment. `progress` is called now and then with the number of bytes
    of content since the last call. Raises OSError if an entry cannot be read; then the archive is cut short
    and no reader accepts it.
    """
    writer = _Writer(FrameWriter(stream), shift_ns, progress, open_up=open_up, have=have or {})
    writer.frames.write(BEGIN, begin or {})
    for entry in _without_nested(entries):
        writer.add(entry.path, entry.name.lstrip("/"))
    writer.end()
    return writer.size


def key_of(name: str, status: os.stat_result) -> str:
    """What tells a file that is sent, in its present state, from all others; "" if that cannot be told."""
    if abs(time.time_ns() - status.st_ctime_ns) < _TOO_FRESH_NS:
        return ""
    told = (name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return hashlib.sha256(repr(told).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _without_nested(entries: Iterable[Entry]) -> Iterator[Entry]:
    tree: str | None = None
    for entry in sorted(entries, key=lambda entry: entry.name.split("/")):
        if tree is not None and (entry.name == tree or entry.name.startswith(tree + "/")):
            continue
        tree = entry.name
        yield entry


class _Writer:
    def __init__(
        self,
        frames: FrameWriter,
        shift_ns: int,
        progress: Callable[[int], None] | None,
        *,
        open_up: bool,
        have: Mapping[str, int],
    ) -> None:
        self.frames = frames
        self.open_up = open_up
        self.shift_ns = shift_ns
        self.progress = progress
        self.have = have
        self.buffer = memoryview(bytearray(BODY))
        self.size = 0
        self.changed: list[str] = []
        self.skipped: list[str] = []
        self.items: list[list[Any]] = []
        self.characters = 0
        """Of names, links and keys in these."""
        self.together = 0
        """Bytes of their content, which are in the buffer."""

    def add(self, path: str, name: str) -> None:
        status = os.lstat(path)
        mode = status.st_mode
        if stat.S_ISREG(mode):
            self.file(path, name, status)
        elif stat.S_ISDIR(mode):
            self.directory(path, name, status)
        elif stat.S_ISLNK(mode):
            link = os.readlink(path)
            self.have_room(len(name) + len(link))
            self.items.append(["l", name, 0o777, status.st_mtime_ns + self.shift_ns, link])
        else:
            self.skipped.append("/" + name)

    def have_room(self, characters: int, size: int = 0) -> None:
        """Send what waits, unless one more item may be sent together with it."""
        if (
            self.characters + characters > _NAMES_TOGETHER
            or self.together + size > _TOGETHER
            or len(self.items) >= _MOST_TOGETHER
        ):
            self.send()
        self.characters += characters

    def send(self) -> None:
        """Send what waits to be sent together."""
        if self.items:
            self.frames.write(ITEMS, self.items, self.buffer[: self.together])
            self.count(self.together)
            self.items, self.characters, self.together = [], 0, 0

    def end(self) -> None:
        self.send()
        self.frames.write(END, {"changed": _first(self.changed), "skipped": _first(self.skipped)})
        self.frames.flush()

    def count(self, size: int) -> None:
        self.size += size
        if self.progress and size:
            self.progress(size)

    def directory(self, path: str, name: str, status: os.stat_result) -> None:
        self.have_room(len(name))
        self.items.append(["d", name, stat.S_IMODE(status.st_mode), status.st_mtime_ns + self.shift_ns])
        with self.opened(path, status, os.R_OK | os.X_OK):
            for child in sorted(os.listdir(path)):
                try:
                    self.add(f"{path}/{child}", f"{name}/{child}")
                except FileNotFoundError:  # removed since the directory was listed
                    self.changed.append(f"/{name}/{child}")

    @contextlib.contextmanager
    def opened(self, path: str, status: os.stat_result, need: int) -> Iterator[None]:
        """Make a file or folder of our own readable during the block, whatever its mode."""
        closed = self.open_up and status.st_uid == os.geteuid() and not os.access(path, need)
        if closed:
            os.chmod(path, stat.S_IMODE(status.st_mode) | need << 6)
        try:
            yield
        finally:
            if closed:
                os.chmod(path, stat.S_IMODE(status.st_mode))

    def file(self, path: str, name: str, status: os.stat_result) -> None:
        try:
            fd = os.open(path, _READ)
        except PermissionError:
            with self.opened(path, status, os.R_OK):
                fd = os.open(path, _READ)
        try:
            before = os.fstat(fd)
            size, key = before.st_size, key_of(name, before)
            facts = [name, stat.S_IMODE(before.st_mode), before.st_mtime_ns + self.shift_ns, size, key]
            have = self.have.get(key, 0)
            if size <= _SMALL and not have:
                self.have_room(len(name) + len(key), size)
                self.items.append(["f", *facts])
                _fill(fd, self.buffer[self.together : self.together + size])
                self.together += size
            else:
                self.large(fd, before, have, facts)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            self.changed.append("/" + name)

    def large(self, fd: int, status: os.stat_result, have: int, facts: list[Any]) -> None:
        all_pieces = data_of(fd, status)
        pieces = [(max(start, have), end) for start, end in all_pieces if end > have]
        coming = sum(end - start for start, end in pieces)
        self.have_room(len(facts[0]) + len(facts[-1]))
        self.items.append(["F", *facts, have, coming])
        self.count(sum(end - start for start, end in all_pieces) - coming)
        if coming:
            self.send()
        for start, end in pieces:
            os.lseek(fd, start, os.SEEK_SET)
            for at in range(start, end, BODY):
                data = self.buffer[: min(end - at, BODY)]
                _fill(fd, data)
                self.frames.write(DATA, at, data)
                self.count(len(data))


def _first(names: Sequence[str]) -> list[str]:
    """As many names as the last note has room for; at least one, if there is any."""
    told: list[str] = []
    room = _NAMES_TOLD
    for name in names:
        room -= len(name)
        if told and room < 0:
            break
        told.append(name)
    return told


def _fill(fd: int, data: memoryview) -> None:
    """Read so much; a file that has shrunk is filled up, since what follows must be as long as was said."""
    while data and (got := os.readv(fd, [data])):
        data = data[got:]
    if data:
        data[:] = bytes(len(data))
