"""One stream over several channels of a connection, a block on each in turn.

Of one channel no more than 2 MiB may be under way to OpenSSH's server: at 50 ms that is 40 MB/s. On the
machine each channel but the first has a process that passes on what comes to the one that reads (`lane`, over
a FIFO).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import select
import time
from collections.abc import Sequence

from .frames import Damaged
from .state import AgentError, home

BLOCK = 256 << 10
_NAME = re.compile(r"[0-9a-f]{32}\.[0-9]{1,2}")
_COMES_WITHIN_S = 10.0
_HELLO = b"\0"
_TICK_S = 0.01


class Joined(io.RawIOBase):
    """What comes over several lanes, in the order in which it was sent."""

    def __init__(self, fds: Sequence[int]) -> None:
        self._fds = fds
        self._turn = 0
        self._left = BLOCK

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)[: self._left]  # type: ignore[arg-type]
        count = os.readv(self._fds[self._turn], [view])
        self._left -= count
        if not self._left:
            self._turn = (self._turn + 1) % len(self._fds)
            self._left = BLOCK
        return count


def open_lanes(names: Sequence[str]) -> list[int]:
    """Wait until each of these lanes is there; their file descriptors."""
    paths = [_path(name) for name in names]
    for path in paths:
        os.mkfifo(path, 0o600)
    fds = [os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) for path in paths]
    try:
        for fd in fds:
            waiting = select.poll()
            waiting.register(fd, select.POLLIN)
            if not waiting.poll(_COMES_WITHIN_S * 1000) or os.read(fd, len(_HELLO)) != _HELLO:
                raise Damaged("a channel of the connection did not come about")
            os.set_blocking(fd, True)
    finally:
        for path in paths:
            os.unlink(path)
    return fds


def lane(name: str) -> int:
    """`lane NAME`: pass on standard input to the process that waits for this lane."""
    fd = _reached(_path(name))
    with contextlib.suppress(BrokenPipeError):  # why it has ended, it says itself
        while data := os.read(0, BLOCK):
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
    return 0


def _reached(path: str) -> int:
    began = time.monotonic()
    while True:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENXIO):
                raise
            if time.monotonic() - began > _COMES_WITHIN_S:
                raise AgentError("nobody waits for this lane") from error
            time.sleep(_TICK_S)
        else:
            os.set_blocking(fd, True)
            os.write(fd, _HELLO)
            return fd


def _path(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise AgentError(f"{name!r} cannot be a lane's name")
    folder = os.path.join(home(), "arriving")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, name)
