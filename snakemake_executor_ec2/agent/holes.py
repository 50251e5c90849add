"""Files with holes, in archives as GNU tar has them (pax 1.0): data alone, after a list of where it is."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_BLOCK = 512
_MOST_PIECES = 20_000  # with more of them the file is written whole
_MOST_HEAD = 1 << 20

Pieces = list[tuple[int, int]]
"""Where data is: its start and its length."""


class Sparse(NamedTuple):
    """A file with holes that arrives."""

    size: int
    pieces: Pieces


class BadHoles(ValueError):
    """A list of pieces that cannot be true."""


def data_of(fd: int, status: os.stat_result) -> Pieces:
    """Where a file has data: all of it, unless it takes less of the disk than it is long."""
    size = status.st_size
    whole = [(0, size)] if size else []
    if status.st_blocks * 512 >= size or not hasattr(os, "SEEK_DATA"):
        return whole
    pieces: Pieces = []
    at = 0
    try:
        while at < size and len(pieces) <= _MOST_PIECES:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break  # a hole up to the end
            at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
            if at <= start:
                break
            pieces.append((start, at - start))
    except OSError:  # a file system that cannot say
        return whole
    return whole if len(pieces) > _MOST_PIECES else pieces


def sparse_head(pieces: Pieces, size: int) -> bytes:
    """What comes before the data of a file with holes; nothing for one without."""
    if pieces == ([(0, size)] if size else []):
        return b""
    numbers = [len(pieces), *(number for piece in pieces for number in piece)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + bytes(-len(text) % _BLOCK)


def sparse_headers(name: str, size: int) -> dict[str, str]:
    """The pax records of a file with holes."""
    return {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(size),
    }


def read_pieces(blocks: Iterator[bytes], size: int, stored: int) -> tuple[Pieces, int]:
    """The list before the data, read from its blocks, and its bytes. `stored` are those of list and data.

    Raises BadHoles unless the pieces are in order, within the file, and all that is stored.
    """
    numbers: list[int] = []
    rest, taken, wanted = b"", 0, 1
    while len(numbers) < wanted:
        if taken > min(_MOST_HEAD, stored):
            raise BadHoles("its list of holes is too long")
        *whole, rest = (rest + next(blocks)).split(b"\n")
        taken += _BLOCK
        for each in whole:
            if not each.isdigit() or len(each) > 19:
                raise BadHoles("its list of holes is no list of numbers")
            numbers.append(int(each))
        if numbers:
            wanted = 1 + 2 * numbers[0]
        if len(rest) > 19 and len(numbers) < wanted:
            raise BadHoles("its list of holes is no list of numbers")
    found = numbers[1:wanted]
    pieces = [(found[i], found[i + 1]) for i in range(0, len(found), 2)]
    end = 0
    for start, length in pieces:
        if start < end or start + length > size:
            raise BadHoles("its data is not where it could be")
        end = start + length
    if taken + sum(length for _, length in pieces) != stored:
        raise BadHoles("its data is not as long as it says")
    return pieces, taken


def placed(content: Iterable[memoryview], pieces: Pieces) -> Iterator[tuple[int, memoryview]]:
    """The content in parts that belong together, and where each belongs."""
    left = iter(pieces)
    start, length = 0, 0
    for data in content:
        while data:
            while not length:
                start, length = next(left)
            part = data[:length]
            yield start, part
            start, length, data = start + len(part), length - len(part), data[len(part) :]
