"""Archives: files as a stream of frames (see `frames.py`), written and read by machine and controller alike.

An archive begins and ends with a note: what it is about, and what went wrong while it was written (a file
that changed as it was read is in the archive, but not to be trusted). Only regular files, directories and
symlinks are written, and nothing else is accepted: a reader may face a machine that is not to be trusted.
Small files share a frame, large ones have frames of their own, and holes are left out. Modification times
have nanoseconds; names are absolute paths without their leading slash, and may be any bytes. `shift_ns` is
added to the times, for computers whose clocks differ.

A transfer that broke off is repeated as a whole archive, but for content that has arrived (see `stash.py`).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from .extract import Item, Judge, Landing, Refused
from .frames import (
    BEGIN,
    BODY,
    DATA,
    END,
    ITEMS,
    NOTE,
    ArchiveError,
    Damaged,
    Frame,
    FrameReader,
    FrameWriter,
)
from .holes import data_of
from .stash import Stash, key_of

__all__ = ["ArchiveError", "Contents", "Damaged", "Entry", "Refused", "read_archive", "write_archive"]

_SMALL = 64 << 10
"""Bytes up to which a file shares a frame."""
_TOGETHER = 128 << 10
_MOST_TOGETHER = 2000
_NAMES_TOGETHER = 64_000
"""Characters of names and links, each of which JSON may need twelve bytes for: a frame's head is limited."""
_NAMES_TOLD = 32_000
"""The same of names in the last note: of more, the first ones will do."""
_KEY = re.compile(r"(?:[0-9a-f]{16})?")

Progress = Callable[[int], None]
"""Called now and then with the number of bytes of file content since the last call."""


class Entry(NamedTuple):
    """A file, a symlink or a whole directory to be archived."""

    path: str
    """Where it is here."""
    name: str
    """The absolute path that it has on the other side."""


class Contents(NamedTuple):
    """What an archive brought."""

    begin: dict[str, Any]
    """What its writer said at the start (`write_archive`'s `begin`)."""
    placed: list[str]
    """The targets of the entries, in the archive's order."""
    size: int
    """Bytes of file content."""
    skipped: list[str]
    """Names of what was neither file, directory nor symlink (sockets, pipes), and not archived."""


# --- writing ------------------------------------------------------------------------------


def write_archive(
    stream: BinaryIO,
    entries: Iterable[Entry],
    *,
    begin: dict[str, Any] | None = None,
    shift_ns: int = 0,
    progress: Progress | None = None,
    open_up: bool = False,
    have: Mapping[str, int] | None = None,
) -> int:
    """Write entries to a stream, directories with all that is in them; returns the bytes of content, those
    included that the reader has already (`have`, as `Stash.have` says it).

    An entry within the directory of another, or given twice, is written once. `open_up`: what is our own and
    closed to us is made readable for the moment. Raises OSError if an entry cannot be read; then the archive
    is cut short and no reader accepts it.
    """
    writer = _Writer(FrameWriter(stream), shift_ns, progress, open_up=open_up, have=have or {})
    writer.frames.write(BEGIN, begin or {})
    for entry in _without_nested(entries):
        writer.add(entry.path, entry.name.lstrip("/"))
    writer.end()
    return writer.size


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
        progress: Progress | None,
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
        self.names = 0
        self.contents: list[bytes] = []
        self.together = 0

    def add(self, path: str, name: str) -> None:
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            self.directory(path, name, status)
        elif stat.S_ISLNK(status.st_mode):
            self.item("l", name, 0o777, status.st_mtime_ns + self.shift_ns, os.readlink(path))
        elif stat.S_ISREG(status.st_mode):
            self.file(path, name, status)
        else:
            self.skipped.append("/" + name)

    def item(self, *facts: Any) -> None:
        size = sum(len(each) for each in facts if isinstance(each, str))
        if len(self.items) >= _MOST_TOGETHER or self.names + size > _NAMES_TOGETHER:
            self.send()
        self.items.append([*facts])
        self.names += size

    def send(self) -> None:
        """Send what waits to be sent together."""
        if self.items:
            self.frames.write(ITEMS, self.items, b"".join(self.contents))
            self.items, self.contents, self.together, self.names = [], [], 0, 0

    def end(self) -> None:
        self.send()
        self.frames.write(END, {"changed": _first(self.changed), "skipped": _first(self.skipped)})
        self.frames.flush()

    def count(self, size: int) -> None:
        self.size += size
        if self.progress:
            self.progress(size)

    def directory(self, path: str, name: str, status: os.stat_result) -> None:
        self.item("d", name, stat.S_IMODE(status.st_mode), status.st_mtime_ns + self.shift_ns)
        with self.opened(path, status, os.R_OK | os.X_OK):
            for child in sorted(os.listdir(path)):
                try:
                    self.add(os.path.join(path, child), f"{name}/{child}")
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
        if self.open_up:
            with self.opened(path, status, os.R_OK):
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        else:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            before = os.fstat(fd)
            mode, mtime_ns = stat.S_IMODE(before.st_mode), before.st_mtime_ns + self.shift_ns
            facts = (name, mode, mtime_ns, before.st_size, key_of(name, before))
            have = self.have.get(facts[-1], 0)
            if before.st_size <= _SMALL and not have:
                self.small(fd, before.st_size, facts)
            else:
                self.large(fd, before, have, facts)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            self.changed.append("/" + name)

    def small(self, fd: int, size: int, facts: tuple[Any, ...]) -> None:
        if self.together + size > _TOGETHER:
            self.send()
        content = os.read(fd, size)
        while len(content) < size and (more := os.read(fd, size - len(content))):
            content += more
        self.item("f", *facts)  # which may send those before it
        self.contents.append(content.ljust(size, b"\0"))  # it shrank: it is said at the end
        self.together += size
        self.count(size)

    def large(self, fd: int, status: os.stat_result, have: int, facts: tuple[Any, ...]) -> None:
        all_pieces = data_of(fd, status)
        pieces = [(max(start, have), end) for start, end in all_pieces if end > have]
        coming = sum(end - start for start, end in pieces)
        self.item("F", *facts, have, coming)
        self.count(sum(end - start for start, end in all_pieces) - coming)
        if coming:
            self.send()
        with open(fd, "rb", buffering=0, closefd=False) as file:
            for start, end in pieces:
                file.seek(start)
                for at in range(start, end, BODY):
                    data = self.buffer[: min(end - at, BODY)]
                    _fill(file, data)
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


def _fill(file: Any, data: memoryview) -> None:
    """Read so much; a file that has shrunk is filled up, since what follows must be as long as was said."""
    while data and (got := file.readinto(data)):
        data = data[got:]
    data[:] = bytes(len(data))


# --- reading ------------------------------------------------------------------------------


def read_archive(
    stream: BinaryIO,
    place: Callable[[str], str | None],
    *,
    judge: Judge | None = None,
    shift_ns: int = 0,
    progress: Progress | None = None,
    stash: Stash | None = None,
    begun: Callable[[dict[str, Any]], None] | None = None,
    begin_bytes: int = NOTE,
) -> Contents:
    """Place what an archive holds; nothing appears anywhere until all of it has arrived.

    `place` is asked for every entry, by its absolute name, where it shall be; it returns None to
    skip it, and raises to refuse the archive. What is in a directory follows the directory.
    Everything is written beside its target under a temporary name; an existing target is
    replaced, a directory as a whole. `judge` decides on symlinks (see `extract.Judge`). `stash`: what arrives
    of an archive that breaks off is kept there, for the next attempt. `begun` gets the note at the beginning,
    which has at most `begin_bytes`.

    Raises ArchiveError for an archive that is cut short or changed while it was written, Damaged if its bytes
    are not those that were sent, Refused if it holds what it must not: `..`, devices, pipes, hard links,
    something below a file or symlink, a name twice, a symlink that `judge` refuses.
    """
    reader = FrameReader(stream, begin_bytes)
    reader.find()
    begin = _note(reader.next(), BEGIN)
    if begun:
        begun(begin)
    with Landing(judge, progress, stash) as landing:
        while (frame := reader.next()).kind != END:
            if frame.kind == DATA:
                landing.data(_number(frame.head), frame.body)
            else:
                _add(frame, landing, place, shift_ns)
        end = _note(frame, END)
        changed, skipped = ([*map(str, _list(end.get(name, [])))] for name in ("changed", "skipped"))
        if changed:
            raise ArchiveError(f"{changed[0]} changed while it was read")
        placed = landing.commit()
    return Contents(begin, placed, landing.size, skipped)


def _note(frame: Frame, kind: int) -> dict[str, Any]:
    if frame.kind != kind or not isinstance(frame.head, dict):
        raise ArchiveError("this is no archive of ours")
    return frame.head


def _add(frame: Frame, landing: Landing, place: Callable[[str], str | None], shift_ns: int) -> None:
    """Let the files of a frame land."""
    if frame.kind != ITEMS:
        raise ArchiveError("the archive is damaged: it begins twice")
    body = frame.body
    for told in _list(frame.head):
        item = _item(told, shift_ns)
        if item.kind == "file" and item.coming is None:
            if item.size > len(body):
                raise ArchiveError(f"the archive is damaged: bad size of /{item.name}")
            landing.add(item, place, body[: item.size])
            body = body[item.size :]
        else:
            landing.add(item, place)
    if body:
        raise ArchiveError("the archive is damaged: it holds what belongs to no file")


_FORMS: dict[str, tuple[str, tuple[type, ...]]] = {
    "d": ("directory", (str, int, int)),
    "l": ("symlink", (str, int, int, str)),
    "f": ("file", (str, int, int, int, str)),
    "F": ("file", (str, int, int, int, str, int, int)),
}
"""By what a frame calls it: the kind of an item, and the types of what is told of it."""


def _item(told: Any, shift_ns: int) -> Item:
    letter, *facts = _list(told) or [""]
    if letter not in ("d", "l", "f", "F"):
        raise Refused("the archive holds what is neither a file, a directory nor a symlink")
    kind, form = _FORMS[letter]
    if tuple(map(type, facts)) != form:
        raise ArchiveError("the archive is damaged: what it tells of a file is not understood")
    if max(map(abs, filter(_is_number, facts))) >= 2**63 or min(filter(_is_number, facts[3:]), default=0) < 0:
        raise ArchiveError("the archive is damaged: bad number")
    if kind == "file" and not _KEY.fullmatch(facts[4]):
        raise ArchiveError("the archive is damaged: bad key")
    name, mode, mtime_ns = facts[:3]
    item = Item(name=name, kind=kind, mode=mode & 0o777, mtime_ns=mtime_ns + shift_ns)
    if kind == "symlink":
        return item._replace(link=facts[3])
    if kind == "file":
        item = item._replace(size=facts[3], key=facts[4])
    return item._replace(have=facts[5], coming=facts[6]) if letter == "F" else item


def _is_number(value: object) -> bool:
    return isinstance(value, int)


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ArchiveError("the archive is damaged: bad number")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ArchiveError("the archive is damaged: a list was expected")
    return value
