"""Ctrl-C that Snakemake does not hear.

Its log handlers drop a KeyboardInterrupt that comes while they write a line (`snakemake.logging`, 9.27). And
Python tells its main thread of a signal at the next step of its program: one that comes just before that
thread goes to sleep, which Snakemake's does until a job has ended, is told hours later. Either way the run
goes on as if nobody had asked it to end, and so do its machines. So it is said again until it is heard.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType

PATIENCE_S = 5.0
"""From Ctrl-C to `cancel_jobs` it takes a tenth of a second, on a busy computer some."""


class Interrupts:
    """Notices Ctrl-C, and repeats it where nobody says within a moment to have heard it."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._since: float | None = None
        self._pressed: int | None = None
        """Where signals can be read of, while we listen."""

    def listen(self) -> None:
        """Begin to. Only where Ctrl-C is Python's own: others may mean something else by it."""
        in_main = threading.current_thread() is threading.main_thread()
        if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return
        others = signal.set_wakeup_fd(-1)
        if others != -1:
            signal.set_wakeup_fd(others)
            return
        # Never closed: `repeat` may be reading, and the number would be another file's.
        self._pressed, writing = os.pipe()
        for end in (self._pressed, writing):
            os.set_blocking(end, False)
        # A byte is written whichever thread the signal reaches, and whatever the main thread does.
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, self._first)

    def heard(self) -> None:
        """The run is ending. From now on Ctrl-C is as it was."""
        listening, self._pressed = self._pressed is not None, None
        if listening and threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
            if signal.getsignal(signal.SIGINT) == self._first:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def repeat(self) -> None:
        """Called now and then, by any other thread."""
        source, now, pressed = self._pressed, time.monotonic(), b""
        if source is None:
            return
        with suppress(BlockingIOError):  # nothing is in it
            pressed = os.read(source, 4096)
        if self._since is None:
            self._since = now if signal.SIGINT in pressed else None
        elif now - self._since > self._patience_s:
            self._since = now
            # A real signal, to that very thread: it may be blocked, waiting for a job.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _first(self, number: int, frame: FrameType | None) -> None:
        # The second one is Python's own again, whoever sends it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.default_int_handler(number, frame)
