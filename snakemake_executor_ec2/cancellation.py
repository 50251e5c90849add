"""How a job learns that the user wants it to end, or to be left running."""

from __future__ import annotations

import threading
from collections.abc import Callable

from snakemake_executor_ec2.errors import Cancelled


class CancelToken:
    """Shared by a job's thread and the threads that may cancel it."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._interrupts: list[Callable[[], None]] = []
        self.detached = False
        """The thread ends, and a job that runs already is left running (`--ec2-detach`)."""
        self.keeps_results = False
        """The thread ends, and results that are not fetched yet stay on their machine: the user did not
        ask for the end."""
        self.abandoned = False
        """The thread ends, and no machine may stay: there is nowhere to put results."""

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self, *, detach: bool = False, keep_results: bool = False, abandon: bool = False) -> None:
        """End the job soon: waits end at once, and what was handed to `on_cancel` is called.

        The first call decides what stays.
        """
        with self._lock:
            if not self._cancelled.is_set():
                self.detached = detach
                self.keeps_results = keep_results
                self.abandoned = abandon
            self._cancelled.set()
            interrupts, self._interrupts = self._interrupts, []
        for interrupt in interrupts:
            interrupt()

    def leaves(self, *, unfetched: bool, results: bool) -> bool:
        """Whether a machine may stay with what is on it: results that could not be fetched, or of a run
        whose end the user did not ask for."""
        return not self.abandoned and (unfetched or (self.keeps_results and results))

    def on_cancel(self, interrupt: Callable[[], None]) -> None:
        """Register what ends a blocking call, such as closing its connection."""
        with self._lock:
            if not self._cancelled.is_set():
                self._interrupts.append(interrupt)
                return
        interrupt()

    def check(self) -> None:
        """Raise Cancelled if the user asked for it."""
        if self._cancelled.is_set():
            raise Cancelled("cancelled")

    def wait(self, seconds: float) -> None:
        """Sleep, unless the job is cancelled: then raise Cancelled at once."""
        self._cancelled.wait(seconds)
        self.check()
