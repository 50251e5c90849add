"""How a job's story hears that the user wants it to end, or to be left alone."""

from __future__ import annotations

import threading
from collections.abc import Callable

from snakemake_executor_ec2.errors import Cancelled


class CancelToken:
    """Shared by one job's thread and whoever may cancel it."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._interrupts: list[Callable[[], None]] = []
        self.detached = False
        """The story ends, and a job that runs already goes on without it (`--ec2-detach`)."""
        self.keeps_results = False
        """The story ends, and results that are not here yet stay on their machine: nobody asked for
        the end."""
        self.abandoned = False
        """The story ends, and nothing may stay for it: there is nowhere to bring results to."""

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self, *, detach: bool = False, keep_results: bool = False, abandon: bool = False) -> None:
        """End the story soon: waits end at once, and what was handed to `on_cancel` is called.

        The first call decides what is to stay.
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
        """Whether a machine may keep what is on it: results that could not be fetched, or that nobody
        asked to end."""
        return not self.abandoned and (unfetched or (self.keeps_results and results))

    def on_cancel(self, interrupt: Callable[[], None]) -> None:
        """Have something called that ends a blocking call, such as closing its connection."""
        with self._lock:
            if not self._cancelled.is_set():
                self._interrupts.append(interrupt)
                return
        interrupt()

    def check(self) -> None:
        """Raise Cancelled where the user asked for it."""
        if self._cancelled.is_set():
            raise Cancelled("cancelled")

    def wait(self, seconds: float) -> None:
        """Sleep, unless the story is cancelled: then raise Cancelled at once."""
        self._cancelled.wait(seconds)
        self.check()
