"""The streams of a command over ssh."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Protocol

from snakemake_executor_ec2 import threads
from snakemake_executor_ec2.errors import ConnectionLost

ALL = 1 << 30
"""Bytes: whatever is there."""
_KEPT = 1 << 20


class _Sends(Protocol):
    def send(self, data: memoryview) -> int: ...


class _Receives(Protocol):
    def receive(self, size: int) -> bytes: ...


class Stdin(io.RawIOBase):
    """The standard input of a command."""

    def __init__(self, execution: _Sends) -> None:
        self._execution = execution
        self.is_over = False
        """Whether what is still written is dropped without a word."""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        return len(view) if self.is_over else self._execution.send(view)


class Stdout(io.RawIOBase):
    """The standard output of a command."""

    def __init__(self, execution: _Receives) -> None:
        self._execution = execution
        self._waiting = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        if not self._waiting:
            # all that is there: paramiko moves what is left over to the front, each time
            self._waiting = memoryview(self._execution.receive(ALL))
        count = min(len(view), len(self._waiting))
        view[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count


def send_all(execution: _Sends, data: bytes) -> None:
    """Send all of it. Raises what `send` raises."""
    view = memoryview(data)
    while view:
        view = view[execution.send(view) :]


def begin_thread(run: Callable[[], None], name: str) -> threading.Thread:
    """Run something beside the rest of a command. Raises ConnectionLost if there can be no more threads."""
    thread = threads.start(run, name)
    if thread is None:
        raise ConnectionLost(threads.NONE_LEFT, came_further=True)  # it is not the machine's fault
    return thread


def keep_end(kept: bytearray, data: bytes) -> None:
    """Add to what is kept of a stream of which only the end is of interest."""
    kept += data
    if len(kept) > 2 * _KEPT:
        del kept[:-_KEPT]
