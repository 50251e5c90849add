"""Ctrl-C that Snakemake does not hear.

Its log handlers drop a KeyboardInterrupt that comes while they write a line (`snakemake.logging`, 9.27): the
run goes on as if nobody had asked it to end, and so do its machines. So it is said again, once.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

PATIENCE_S = 5.0
"""From Ctrl-C to `cancel_jobs` it takes a tenth of a second, on a busy computer some."""


class Interrupts:
    """Notices Ctrl-C, and repeats the first one where nobody says within a moment to have heard it."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._waiting_since: float | None = None
        self._listens = False

    def listen(self) -> None:
        """Begin to. Only where Ctrl-C is Python's own: others may mean something else by it."""
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._notice)
            self._listens = True

    def heard(self) -> None:
        """The run is ending. From now on Ctrl-C is as it was."""
        self._waiting_since = None
        if self._listens and threading.current_thread() is threading.main_thread():
            self._listens = False
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def repeat(self) -> None:
        """Called now and then, by any other thread."""
        since = self._waiting_since
        if since is not None and time.monotonic() - since > self._patience_s:
            self._waiting_since = None
            # A real signal, to that very thread: it may be blocked, waiting for a job.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        # The second one is Python's own again, whoever sends it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._listens = False
        self._waiting_since = time.monotonic()
        signal.default_int_handler(number, frame)
