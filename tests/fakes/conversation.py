"""A Conversation with a command that is a process of this computer (see `remote_host.py`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from snakemake_executor_ec2.errors import ConnectionLost
from snakemake_executor_ec2.ports import Completed

_CHUNK = 1 << 20


class Execution(AbstractContextManager["Execution"], Protocol):
    """What is asked of a command that runs."""

    def send(self, data: bytes | memoryview) -> int: ...
    def receive(self, size: int, deadline: float | None = None) -> bytes: ...
    def end_stdin(self) -> None: ...
    def completed(self, output: bytes, deadline: float | None = None) -> Completed: ...


class FakeConversation:
    """See `ports.Conversation`."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._rest = b""

    def send(self, data: bytes) -> None:
        """See the port."""
        with self._left_if_lost():
            view = memoryview(data)
            while view:
                view = view[self._execution.send(view) :]

    def line(self, deadline: float | None) -> bytes | None:
        """See the port."""
        while b"\n" not in self._rest:
            with self._left_if_lost():
                self._rest += (data := self._execution.receive(_CHUNK, deadline))
            if not data:
                return None
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def end(self) -> Completed:
        """See the port."""
        with self._execution:
            self._execution.end_stdin()
            return self._execution.completed(b"")

    def close(self) -> None:
        """See the port."""
        with self._execution:
            self._execution.end_stdin()

    @contextlib.contextmanager
    def _left_if_lost(self) -> Iterator[None]:
        try:
            yield
        except ConnectionLost:
            self.close()
            raise
