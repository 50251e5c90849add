"""A command over ssh that is spoken with: see `ports.Conversation`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from snakemake_executor_ec2.errors import ConnectionLost, InstanceLost
from snakemake_executor_ec2.ports import LINE_BYTES, Completed
from snakemake_executor_ec2.ssh.streams import send_all

_MOST = 1 << 20


class Execution(AbstractContextManager["Execution"], Protocol):
    """What is asked of a command that runs."""

    def send_without_limit(self) -> None: ...
    def send(self, data: memoryview) -> int: ...
    def receive(self, size: int, timeout_s: float | None = None) -> bytes: ...
    def end_stdin(self) -> None: ...
    def completed(self, output: bytes | None = None, deadline: float | None = None) -> Completed: ...


class SshConversation:
    """See `ports.Conversation`."""

    def __init__(self, execution: Execution, close: Callable[[], None]) -> None:
        """`close` closes the connection."""
        self._close = close
        self._execution = execution
        self._lines: deque[bytes] = deque()
        self._rest = bytearray()

    def send(self, data: bytes) -> None:
        """See the port."""
        self._execution.send_without_limit()  # the last line's deadline would be this one's
        send_all(self._execution, data)

    def line(self, deadline: float | None) -> bytes | None:
        """See the port."""
        while not self._lines:
            try:
                data = self._execution.receive(_MOST, _left(deadline))
            except TimeoutError:
                self._close()
                raise ConnectionLost("The machine did not answer in time.") from None
            if not data:
                return None
            first, *others = data.split(b"\n")
            self._rest += first
            if len(self._rest) > LINE_BYTES:
                raise too_much("a line")
            if others:
                self._lines += (bytes(self._rest), *others[:-1])
                self._rest = bytearray(others[-1])
        return self._lines.popleft()

    def end(self) -> Completed:
        """See the port."""
        with self._execution:
            self._execution.end_stdin()
            return self._execution.completed(b"")

    def close(self) -> None:
        """See the port."""
        with self._execution:
            self._execution.end_stdin()


def _left(deadline: float | None) -> float | None:
    """How long may still be waited. Raises TimeoutError: who goes on talking is not waited for, either."""
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left <= 0:
        raise TimeoutError
    return left


def too_much(what: str) -> InstanceLost:
    """A machine that sends without end: it is given up, and the job starts again on another one."""
    return InstanceLost(f"the machine sends {what} without end")
