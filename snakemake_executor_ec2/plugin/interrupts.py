"""Ctrl-C that Snakemake does not hear, and the other ways in which a run is asked to end.

Its log handlers drop a KeyboardInterrupt that comes while they write a line (`snakemake.logging`, 9.27). And
Python tells its main thread of a signal at the next step of its program: one that comes just before that
thread goes to sleep, which Snakemake's does until a job has ended, is told hours later. Either way the run
goes on as if nobody had asked it to end, and so do its machines. So it is said again until it is heard.

SIGTERM (a shutdown, a batch system's limit) and SIGHUP (a closed window) end a run as Ctrl-C does.
Snakemake's own handler of SIGTERM takes a lock that the thread which it interrupts may hold: it would wait
for ever. It is replaced, see `snakemake_private`. A SIGHUP that is ignored (nohup) stays ignored.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

PATIENCE_S = 5.0
"""From Ctrl-C to `cancel_jobs` it takes a tenth of a second, on a busy computer some."""
_OTHERS = (signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Notices that the run is asked to end, and repeats it if nothing acknowledges it within a moment."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._since: float | None = None
        self._pressed: int | None = None
        """Where signals can be read of, while we listen."""
        self._asked: int | None = None
        self._again = self._ending = False
        self._before: dict[int, Any] = {}

    @property
    def name(self) -> str:
        """Of the signal that ended the run, `SIGHUP` for instance; empty for Ctrl-C, and without any."""
        return signal.Signals(self._asked).name if self._asked in _OTHERS else ""

    @property
    def is_heard(self) -> bool:
        return self._ending

    def listen(self) -> None:
        """Begin to. Only where Ctrl-C is Python's own: others may mean something else by it."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _OTHERS:
            before = signal.getsignal(number)
            if before is signal.SIG_DFL or (number == signal.SIGTERM and before is not signal.SIG_IGN):
                self._before[number] = signal.signal(number, self.end)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._first)
        elif not self._before:
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

    def heard(self) -> None:
        """The run is ending. From now on Ctrl-C is as it was; no other signal ends the ending."""
        listening, self._pressed = self._pressed is not None, None
        self._ending = True
        if threading.current_thread() is threading.main_thread():
            if listening:
                signal.set_wakeup_fd(-1)
            if signal.getsignal(signal.SIGINT) == self._first:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def over(self) -> None:
        """The run has ended, and nothing of it is left to be ended: signals are as they were."""
        if threading.current_thread() is threading.main_thread():
            for number, before in self._before.items():
                signal.signal(number, before)
            self._before.clear()

    def repeat(self) -> None:
        """Called now and then, by any other thread."""
        source, now, pressed = self._pressed, time.monotonic(), b""
        if source is None:
            return
        with suppress(BlockingIOError):  # nothing is in it
            pressed = os.read(source, 4096)
        for number in pressed:
            if number == signal.SIGINT or number in self._before:
                self._asked = self._asked or number
        if self._since is None:
            self._since = now if self._asked else None
        elif now - self._since > self._patience_s and self._asked:
            self._since, self._again = now, True
            # A real signal, to that very thread: it may be blocked, waiting for a job.
            signal.pthread_kill(threading.main_thread().ident or 0, self._asked)

    def end(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM and SIGHUP: as Ctrl-C, once. They come in pairs, and must not disturb the ending."""
        first = self._asked is None or self._again
        self._asked, self._again = self._asked or number, False
        if first and not self._ending:
            signal.default_int_handler(number, frame)

    def _first(self, number: int, frame: FrameType | None) -> None:
        # A second signal gets Python's own handling.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.default_int_handler(number, frame)
