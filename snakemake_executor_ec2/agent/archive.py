"""Tar archives (pax, not compressed) as streams: written and read by machine and controller alike.

Names in an archive are absolute paths without their leading slash. An archive begins and ends
with a small member of JSON: what it is about, and what went wrong while it was written (a file
that changed as it was read is in the archive, but not to be trusted). Only regular files,
directories and symlinks are written, and nothing else is accepted: a reader may face a machine
that is not to be trusted. Modification times have nanoseconds; names may be any bytes. `shift_ns`
is added to the times, for computers whose clocks differ.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from .extract import ArchiveError, Item, Judge, Landing, Refused
from .headers import BadHeader, header, nanoseconds, pax_records
from .holes import BadHoles, Sparse, data_of, read_pieces, sparse_head, sparse_headers

__all__ = ["ArchiveError", "Contents", "Entry", "Refused", "read_archive", "write_archive"]

_BLOCK = 512
_COPY = 1 << 20
_MAX_PAX = 1 << 20  # far more than any path needs; a hostile header is not read into memory
_BEGIN = ".snakemake-ec2-archive/begin.json"
_END = ".snakemake-ec2-archive/end.json"
_MAX_NOTE = 64 << 20
_MAX_NOISE = 1 << 20

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
) -> int:
    """Write entries to a stream, directories with all that is in them; returns the bytes of content.

    An entry within the directory of another, or given twice, is written once. Holes of files are not
    written. `open_up`: what is our own and closed to us is made readable for the moment. Raises OSError
    if an entry cannot be read; then the archive is cut short and no reader accepts it.
    """
    writer = _Writer(stream, shift_ns, progress, open_up=open_up)
    writer.note(_BEGIN, begin or {})
    for entry in _without_nested(entries):
        writer.add(entry.path, entry.name.lstrip("/"))
    writer.note(_END, {"changed": writer.changed, "skipped": writer.skipped})
    stream.write(bytes(2 * _BLOCK))
    stream.flush()
    return writer.size


def _without_nested(entries: Iterable[Entry]) -> Iterator[Entry]:
    tree: str | None = None
    for entry in sorted(entries, key=lambda entry: entry.name.split("/")):
        if tree is not None and (entry.name == tree or entry.name.startswith(tree + "/")):
            continue
        tree = entry.name
        yield entry


class _Writer:
    def __init__(self, stream: BinaryIO, shift_ns: int, progress: Progress | None, *, open_up: bool) -> None:
        self.stream = stream
        self.open_up = open_up
        self.shift_ns = shift_ns
        self.progress = progress
        self.buffer = memoryview(bytearray(_COPY))
        self.size = 0
        self.changed: list[str] = []
        self.skipped: list[str] = []

    def note(self, name: str, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self.stream.write(header(info, 0))
        self.stream.write(data + bytes(-len(data) % _BLOCK))

    def add(self, path: str, name: str) -> None:
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            self.directory(path, name, status)
        elif stat.S_ISLNK(status.st_mode):
            info = tarfile.TarInfo(name)
            info.type = tarfile.SYMTYPE
            info.linkname = os.readlink(path)
            info.mode = 0o777
            self.stream.write(header(info, status.st_mtime_ns + self.shift_ns))
        elif stat.S_ISREG(status.st_mode):
            self.file(path, name, status)
        else:
            self.skipped.append("/" + name)

    def directory(self, path: str, name: str, status: os.stat_result) -> None:
        info = tarfile.TarInfo(name)
        info.type = tarfile.DIRTYPE
        info.mode = stat.S_IMODE(status.st_mode)
        self.stream.write(header(info, status.st_mtime_ns + self.shift_ns))
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
        with self.opened(path, status, os.R_OK):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            before = os.fstat(fd)
            info = tarfile.TarInfo(name)
            info.mode = stat.S_IMODE(status.st_mode)
            pieces = data_of(fd, before)
            head = sparse_head(pieces, before.st_size)
            info.size = len(head) + sum(length for _, length in pieces) if head else before.st_size
            extra = sparse_headers(name, before.st_size) if head else {}
            self.stream.write(header(info, before.st_mtime_ns + self.shift_ns, extra))
            self.stream.write(head)
            for start, length in pieces:
                self.piece(file, start, length)
            after = os.fstat(fd)
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            self.changed.append("/" + name)
        self.stream.write(bytes(-info.size % _BLOCK))

    def piece(self, file: Any, start: int, left: int) -> None:
        file.seek(start)
        while left and (count := file.readinto(self.buffer[: min(left, _COPY)])):
            self.stream.write(self.buffer[:count])
            left -= count
            self.size += count
            if self.progress:
                self.progress(count)
        while left:  # it shrank: what follows must still be where the header says
            count = min(left, _COPY)
            self.stream.write(bytes(count))
            left -= count


# --- reading ------------------------------------------------------------------------------


def read_archive(
    stream: BinaryIO,
    place: Callable[[str], str | None],
    *,
    judge: Judge | None = None,
    shift_ns: int = 0,
    progress: Progress | None = None,
) -> Contents:
    """Place what an archive holds; nothing appears anywhere until all of it has arrived.

    `place` is asked for every entry, by its absolute name, where it shall be; it returns None to
    skip it, and raises to refuse the archive. What is in a directory follows the directory.
    Everything is written beside its target under a temporary name; an existing target is
    replaced, a directory as a whole. `judge` decides on symlinks (see `extract.Judge`).

    Raises ArchiveError for an archive that is cut short or changed while it was written, Refused if
    it holds what it must not: `..`, devices, pipes, hard links, something below a file or symlink,
    a name twice, a symlink that `judge` refuses.
    """
    source = _Source(stream, progress)
    begin: dict[str, Any] | None = None
    end: dict[str, Any] | None = None
    with Landing(judge) as landing:
        for item in source.items():
            if begin is None:
                begin = source.note(item, _BEGIN)
            elif item.name == _END:
                end = source.note(item, _END)
            elif end is not None:
                raise ArchiveError("the archive goes on after its end")
            else:
                shifted = item._replace(mtime_ns=item.mtime_ns + shift_ns)
                sparse = source.sparse(item)
                landing.add(shifted, place, source.content(item), sparse)
                source.rest()
        if begin is None or end is None:
            raise ArchiveError("the archive is cut short")
        changed = [str(name) for name in end.get("changed", [])]
        if changed:
            raise ArchiveError(f"{changed[0]} changed while it was read")
        placed = landing.commit()
    skipped = [str(name) for name in end.get("skipped", [])]
    return Contents(begin, placed, landing.size, skipped)


class _Source:
    """The members of an archive, one after the other."""

    def __init__(self, stream: BinaryIO, progress: Progress | None) -> None:
        self.stream = stream
        self.progress = progress
        self.buffer = memoryview(bytearray(_COPY))
        self.left = 0
        self.padding = 0

    def items(self) -> Iterator[Item]:
        extended: dict[str, str] = {}
        block = self.first()
        while True:
            if not block.strip(b"\0"):
                if self.exactly(_BLOCK).strip(b"\0"):
                    raise ArchiveError("the archive is damaged: it ends with half an end")
                return
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise ArchiveError(f"the archive is damaged: {error}") from error
            if info.type == tarfile.XHDTYPE:
                if not 0 <= info.size <= _MAX_PAX:
                    raise ArchiveError("the archive is damaged: an extended header is too large")
                padded = self.exactly(info.size + -info.size % _BLOCK)
                try:
                    extended = pax_records(padded[: info.size])
                except BadHeader as error:
                    raise ArchiveError("the archive is damaged: bad extended header") from error
            else:
                item = _item(info, extended)
                extended = {}
                self.left = item.size
                self.padding = -item.size % _BLOCK
                yield item
                self.rest()
            block = self.exactly(_BLOCK)

    def first(self) -> bytes:
        """The first header. What comes before it is skipped: a `.bashrc` may greet even those who
        only run a command, and what a job has made must not be lost for that."""
        begin = _BEGIN.encode()
        block, noise = self.exactly(_BLOCK), 0
        while (at := block.find(begin)) < 0:
            kept = block[1 - len(begin) :]
            more = self.stream.read(_BLOCK - len(kept))
            noise += len(more)
            if not more or noise > _MAX_NOISE:
                raise ArchiveError("this is no archive of ours")
            block = kept + more
        return block[at:] + self.exactly(_BLOCK - len(block[at:]))

    def content(self, item: Item) -> Iterator[memoryview]:
        """The present member's content, in pieces, each good until the next; what is not taken is skipped."""
        while self.left:
            count = self.stream.readinto(self.buffer[: min(self.left, _COPY)])  # type: ignore[attr-defined]
            if not count:
                raise ArchiveError(f"the archive is cut short in /{item.name}")
            self.left -= count
            if self.progress:
                self.progress(count)
            yield self.buffer[:count]

    def sparse(self, item: Item) -> Sparse | None:
        """The holes of the present member; None if it has none."""
        if item.real_size is None:
            return None
        blocks = iter(lambda: self.exactly(min(_BLOCK, self.left)), b"")
        try:
            pieces, taken = read_pieces(blocks, item.real_size, self.left)
        except (BadHoles, StopIteration) as error:
            raise ArchiveError(f"the archive is damaged: /{item.name}: {error}") from error
        self.left -= taken
        return Sparse(item.real_size, pieces)

    def rest(self) -> None:
        while self.left + self.padding:
            data = self.stream.read(min(self.left + self.padding, _COPY))
            if not data:
                raise ArchiveError("the archive is cut short")
            from_content = min(self.left, len(data))
            self.left -= from_content
            self.padding -= len(data) - from_content

    def note(self, item: Item, name: str) -> dict[str, Any]:
        if item.name != name or item.kind != "file" or item.size > _MAX_NOTE:
            raise ArchiveError("this is no archive of ours")
        left, self.left = self.left, 0
        try:
            note = json.loads(self.exactly(left))
        except (ValueError, RecursionError) as error:
            raise ArchiveError("this is no archive of ours: its note is not JSON") from error
        if not isinstance(note, dict):
            raise ArchiveError("this is no archive of ours: its note is no object")
        return note

    def exactly(self, count: int) -> bytes:
        pieces = []
        while count:
            data = self.stream.read(count)
            if not data:
                raise ArchiveError("the archive is cut short")
            pieces.append(data)
            count -= len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
}


def _item(info: tarfile.TarInfo, extended: dict[str, str]) -> Item:
    name = extended.get("path", info.name)
    kind = _KINDS.get(info.type)
    if kind is None:
        raise Refused(f"/{name} is neither a file, a directory nor a symlink")
    try:
        size = int(extended.get("size", info.size))
        mtime_ns = nanoseconds(extended.get("mtime", str(int(info.mtime))))
        sparse = extended.get("GNU.sparse.major") == "1"
        real_size = int(extended.get("GNU.sparse.realsize", "")) if sparse else None
    except (ValueError, ArithmeticError) as error:
        raise ArchiveError(f"the archive is damaged: bad number for /{name}") from error
    if not 0 <= size < 2**63 or (kind != "file" and (size or sparse)) or not 0 <= (real_size or 0) < 2**63:
        raise ArchiveError(f"the archive is damaged: bad size of /{name}")
    return Item(
        name=name[:-1] if kind == "directory" and name.endswith("/") else name,
        kind=kind,
        size=size,
        mode=info.mode & 0o777,
        mtime_ns=mtime_ns,
        link=extended.get("linkpath", info.linkname),
        real_size=real_size,
    )
