"""The controller's side of `lanes.py`: what is written goes over several channels of one connection."""

from __future__ import annotations

import functools
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO

from snakemake_executor_ec2 import threads
from snakemake_executor_ec2.agent.bundle import command
from snakemake_executor_ec2.agent.lanes import BLOCK
from snakemake_executor_ec2.errors import ConnectionLost
from snakemake_executor_ec2.ports import RemoteHost

MOST_LANES = 6
"""Beside the first: OpenSSH's server lets ten commands run on a connection (MaxSessions)."""
_FAR_S = 0.01
"""A round trip from which on the window of one channel may be too small."""
_A_LANE = 4 << 20
"""Bytes for which one more lane pays: it is a process on the machine."""
_AHEAD = 2
_TICK_S = 0.2
_END_S = 10.0
"""How long the channels of a transfer that has failed may take to end."""
_budget = threading.BoundedSemaphore(60)
"""Lanes of this process, each of which is a thread."""


class Lanes:
    """More channels for one upload, as many as help it: a context manager."""

    def __init__(self, host: RemoteHost, size: int, most: int = MOST_LANES) -> None:
        """`size`: bytes to send."""
        self._host = host
        wanted = min(most, size // _A_LANE) if host.round_trip_s >= _FAR_S else 0
        self.names: list[str] = []
        while len(self.names) < wanted and _budget.acquire(blocking=False):
            self.names.append(f"{secrets.token_hex(16)}.{len(self.names)}")

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        for _name in self.names:
            _budget.release()

    def write(self, first: BinaryIO, write: Callable[[BinaryIO], None]) -> None:
        """Let `write` write to the first channel and to these. Raises ConnectionLost if one of them fails."""
        if not self.names:
            write(first)
            return
        with _Striped(self._host, first, self.names) as striped:
            write(striped)  # type: ignore[arg-type]
            striped.end()


class _Striped:
    """A stream that is written to several channels."""

    def __init__(self, host: RemoteHost, first: BinaryIO, names: Sequence[str]) -> None:
        self._host = host
        self._queues = [queue.Queue[bytes](_AHEAD) for _ in range(1 + len(names))]
        self._block = bytearray()
        self._turn = 0
        self._over = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [self._thread(lambda: self._fill(first, self._queues[0]))]
        try:
            for name, waiting in zip(names, self._queues[1:], strict=True):
                self._threads.append(self._thread(functools.partial(self._lane, name, waiting)))
        except ConnectionLost:
            self._over.set()
            raise

    def __enter__(self) -> _Striped:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        until = time.monotonic() + (_END_S if kind is not ConnectionLost else 0.0)
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self._host.close()  # else its other commands would be waited for
        for thread in self._threads:
            thread.join()

    def write(self, data: bytes | memoryview) -> int:
        """Write all of it."""
        view = memoryview(data)
        while view:
            count = min(len(view), BLOCK - len(self._block))
            self._block += view[:count]
            view = view[count:]
            if len(self._block) == BLOCK:
                self._send()
        return len(data)

    def flush(self) -> None:
        """Nothing is held back but the block that is not full."""

    def end(self) -> None:
        """Send what is left, and wait until all of it is on its way."""
        if self._block:
            self._send()
        for waiting in self._queues:
            self._put(waiting, b"")
        for thread in self._threads:
            thread.join()
        self._check()

    def _send(self) -> None:
        self._put(self._queues[self._turn], bytes(self._block))
        self._block.clear()
        self._turn = (self._turn + 1) % len(self._queues)

    def _put(self, waiting: queue.Queue[bytes], block: bytes) -> None:
        while True:
            self._check()
            try:
                waiting.put(block, timeout=_TICK_S)
            except queue.Full:
                continue
            return

    def _check(self) -> None:
        for error in self._errors:
            raise error

    def _lane(self, name: str, waiting: queue.Queue[bytes]) -> None:
        whole = False

        def fill(stream: BinaryIO) -> None:
            nonlocal whole
            self._fill(stream, waiting)
            whole = True

        done = self._host.upload(command("lane", name), fill)
        if done.exit_code:
            raise ConnectionLost("A channel of the connection broke off.")
        if not whole:  # nobody reads any more: how the first channel's command ends says why
            raise BrokenPipeError

    def _fill(self, stream: BinaryIO, waiting: queue.Queue[bytes]) -> None:
        while not self._over.is_set():
            try:
                block = waiting.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            if not block:
                break
            stream.write(block)
        stream.flush()

    def _thread(self, run: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                run()
            except BaseException as error:  # else the writer would wait for ever
                self._errors.append(error)

        thread = threads.start(guarded, "ssh lane")
        if thread is None:
            raise ConnectionLost(threads.NONE_LEFT, came_further=True)  # the next attempt uses fewer
        return thread
