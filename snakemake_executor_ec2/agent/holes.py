"""Where a file has data: holes are neither sent nor written."""

from __future__ import annotations

import errno
import os

_MOST_PIECES = 20_000  # with more of them the file is sent whole


def data_of(fd: int, status: os.stat_result) -> list[tuple[int, int]]:
    """Where a file has data, each piece by its start and its end: everywhere, unless it takes less of the
    disk than it is long."""
    size = status.st_size
    whole = [(0, size)] if size else []
    if status.st_blocks * 512 >= size or not hasattr(os, "SEEK_DATA"):
        return whole
    pieces: list[tuple[int, int]] = []
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
            pieces.append((start, at))
    except OSError:  # a file system that cannot say
        return whole
    return whole if len(pieces) > _MOST_PIECES else pieces
