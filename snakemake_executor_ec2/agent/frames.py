"""Frames: what an archive is made of. Each has a checksum, and is compressed if that pays on its line.

A frame is a header (kind, what is compressed, the lengths of head and body, the CRC-32 of all of it), a head
of JSON and a body of raw bytes. The reader may face a machine that is not to be trusted: no length is
believed beyond what a frame of ours can have, and nothing is used before its checksum is right.
"""

from __future__ import annotations

import json
import struct
import zlib
from time import monotonic
from typing import Any, BinaryIO, NamedTuple

MAGIC = b"\0snakemake-ec2 archive 2\0"
BEGIN, ITEMS, DATA, END = 1, 2, 3, 4
"""Kinds of frames: a note about the archive; files, with the content of small ones; content; a last note."""
BODY = 1 << 20
"""The most bytes that a body has."""

_HEADER = struct.Struct(">BBIII")
_HEAD_IS_PACKED, _BODY_IS_PACKED = 1, 2
NOTE = 1 << 20
"""The most bytes that a note has, unless its reader has asked for a longer one."""
ITEMS_HEAD = 1 << 20
"""The most bytes that the head of a frame with files has. JSON takes up to 25 times as much in memory."""
_DATA_HEAD = 64
_MOST_NOISE = 1 << 20
_WORTH_PACKING = 200
_SAMPLES, _SAMPLE = 4, 2048
_FAST = 24 << 20
"""Bytes a second. Such a line would wait for zlib."""
_KNOWN_AFTER = 4 << 20
"""Bytes after which the line's rate is known: those before may have gone into buffers."""


class ArchiveError(Exception):
    """An archive that is refused: cut short, damaged, or holding what it must not."""


class Damaged(ArchiveError):
    """An archive whose bytes are not those that were sent, or not all came: sent again, they may."""


class Frame(NamedTuple):
    """One frame that has arrived; its body is good until the next one."""

    kind: int
    head: Any
    body: memoryview


class FrameWriter:
    """Writes frames to a stream, and compresses them if it helps, unless the line is fast."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._bytes = 0
        self._seconds = 0.0
        stream.write(MAGIC)

    def write(self, kind: int, head: Any, body: bytes | memoryview = b"") -> None:
        """Write one frame. `head` is what JSON can say."""
        packed = 0
        text = json.dumps(head, separators=(",", ":")).encode()
        if len(text) > _WORTH_PACKING:
            text, packed = zlib.compress(text, 1), _HEAD_IS_PACKED
        if len(body) > _WORTH_PACKING and not self._is_fast() and _shrinks(body):
            body, packed = zlib.compress(body, 1), packed | _BODY_IS_PACKED
        check = zlib.crc32(body, zlib.crc32(text, _crc(kind, packed, len(text), len(body))))
        began = monotonic()
        self._stream.write(_HEADER.pack(kind, packed, len(text), len(body), check) + text)
        self._stream.write(body)
        self._seconds += monotonic() - began
        self._bytes += len(text) + len(body)
        if self._bytes > 8 * _KNOWN_AFTER:  # what was long ago counts for less
            self._bytes, self._seconds = self._bytes // 2, self._seconds / 2

    def flush(self) -> None:
        """Let go of all that is buffered."""
        self._stream.flush()

    def _is_fast(self) -> bool:
        """Whether it is known to be."""
        return self._bytes > max(_KNOWN_AFTER, _FAST * self._seconds)


def _shrinks(body: bytes | memoryview) -> bool:
    """Whether samples of it can be compressed, from places that are as far apart as may be."""
    step = max(len(body) // _SAMPLES, _SAMPLE)
    sample = b"".join(body[at : at + _SAMPLE] for at in range(0, len(body), step))
    return len(zlib.compress(sample, 1)) < 0.9 * len(sample)


def _crc(kind: int, packed: int, head: int, body: int) -> int:
    return zlib.crc32(_HEADER.pack(kind, packed, head, body, 0))


class FrameReader:
    """Reads frames from a stream."""

    def __init__(self, stream: BinaryIO, begin_bytes: int = NOTE) -> None:
        """`begin_bytes`: the most that the note at the beginning may have."""
        self._most_head = {BEGIN: begin_bytes, ITEMS: ITEMS_HEAD, DATA: _DATA_HEAD, END: NOTE}
        self._stream = stream
        self._buffer = memoryview(bytearray(BODY))

    def find(self) -> None:
        """Find the first frame. What comes before it is skipped: a `.bashrc` may greet even those who only
        run a command, and what a job has made must not be lost for that."""
        seen, noise = b"", 0
        while seen != MAGIC:
            more = self._stream.read(1)
            noise += 1
            if not more or noise > _MOST_NOISE:
                raise ArchiveError("this is no archive of ours")
            seen = (seen + more)[-len(MAGIC) :]

    def next(self) -> Frame:
        """The next frame. Raises ArchiveError."""
        kind, packed, head, body, check = _HEADER.unpack(self._exactly(_HEADER.size))
        if head > self._most_head.get(kind, -1) or body > BODY:
            raise Damaged("the archive is damaged: a frame is larger than it can be")
        text = self._exactly(head)
        content = self._buffer[:body]
        self._fill(content)
        if zlib.crc32(content, zlib.crc32(text, _crc(kind, packed, head, body))) != check:
            raise Damaged("the archive is damaged: a checksum is wrong")
        if packed & _HEAD_IS_PACKED:
            text = _unpacked(text, self._most_head[kind])
        if packed & _BODY_IS_PACKED:
            content = memoryview(_unpacked(content, BODY))
        try:
            return Frame(kind, json.loads(text), content)
        except (ValueError, RecursionError) as error:
            raise ArchiveError("the archive is damaged: a head is not JSON") from error

    def _exactly(self, count: int) -> bytes:
        pieces = []
        while count:
            data = self._stream.read(min(count, BODY))
            if not data:
                raise ArchiveError("the archive is cut short")
            pieces.append(data)
            count -= len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _fill(self, view: memoryview) -> None:
        while view:
            count = self._stream.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise ArchiveError("the archive is cut short")
            view = view[count:]


def _unpacked(data: bytes | memoryview, most: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise ArchiveError("the archive is damaged: it cannot be unpacked") from error
    if len(found) > most or not unpacker.eof:
        raise ArchiveError("the archive is damaged: a frame is larger than it can be")
    return found
