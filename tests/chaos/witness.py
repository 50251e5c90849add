"""Sees jobs run, by a channel of its own: nothing that the executor does can hide one or make one up.

Each job of the chaos workflow holds a connection to the witness open for as long as it runs,
says who it is and where, and says `done` when it has done all of its work. Processes that are
killed let go of it, machines that crash do too.
"""

from __future__ import annotations

import socketserver
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType

BEGIN = "exec 9<>/dev/tcp/127.0.0.1/WITNESS; echo {job} $HOSTNAME >&9"
"""Shell: what a job begins with, before `WITNESS` is a port."""
WAIT = "read -r _ <&9"
"""Shell: wait for the witness to open its gate."""
END = "echo done >&9"
"""Shell: what it ends with."""


@dataclass(kw_only=True)
class Stay:
    """One start of a job; times are those of the monotonic clock."""

    job: str
    host: str
    began: float
    ended: float | None = None
    done: bool = False


class Witness:
    """`with Witness() as witness:` -- listens on `port` of this computer."""

    def __init__(self) -> None:
        self.stays: list[Stay] = []
        self.gate = threading.Event()
        self.port = 0

    def begin(self, job: str) -> str:
        """Shell: what a job of this name (as Snakemake formats it) begins with."""
        return BEGIN.replace("WITNESS", str(self.port)).replace("{job}", job)

    def done(self) -> list[str]:
        """Every completion, in the order of the starts."""
        return [stay.job for stay in self.stays if stay.done]

    def __enter__(self) -> Witness:
        witness = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                witness._hear(self)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def _hear(self, handler: socketserver.StreamRequestHandler) -> None:
        words = handler.rfile.readline().decode().split()
        if len(words) != 2:
            return
        stay = Stay(job=words[0], host=words[1], began=time.monotonic())
        self.stays.append(stay)
        threading.Thread(target=self._open_for, args=(handler,), daemon=True).start()
        try:
            for line in handler.rfile:
                stay.done = stay.done or line == b"done\n"
        except OSError:
            pass  # killed in the middle
        finally:
            stay.ended = time.monotonic()

    def _open_for(self, handler: socketserver.StreamRequestHandler) -> None:
        self.gate.wait()
        with suppress(OSError, ValueError):  # it has ended in the meantime
            handler.wfile.write(b"open\n")

    def by_job(self) -> dict[str, list[Stay]]:
        """Every start, in the order of time."""
        found: dict[str, list[Stay]] = defaultdict(list)
        for stay in sorted(self.stays, key=lambda stay: stay.began):
            found[stay.job].append(stay)
        return found

    def overlaps(self) -> list[str]:
        """Jobs that ran twice at the same time, a sentence for each."""
        return [
            f"{job} began on {later.host} while it ran on {earlier.host}"
            for job, stays in self.by_job().items()
            for earlier, later in pairwise(stays)
            if earlier.ended is None or earlier.ended > later.began
        ]

    def completed_again(self, excused: set[str]) -> list[str]:
        """Jobs that were completed again although the host of the completion before was not among
        those `excused`, which lost it."""
        return [
            f"{job} was completed on {later.host} after it had been on {earlier.host}"
            for job, stays in self.by_job().items()
            for earlier, later in pairwise([stay for stay in stays if stay.done])
            if earlier.host not in excused
        ]
