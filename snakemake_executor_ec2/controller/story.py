"""A job, or a machine without one, that is under way in a thread of its own."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.model import JobOutcome


class Story:
    """One of a run's."""

    def __init__(self, future: Future[JobOutcome], cancel: CancelToken) -> None:
        self._future = future
        self.cancel_token = cancel
        self.thread: threading.Thread | None = None
        """None if none could be started: then the story is over."""

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until its thread has ended."""
        if self.thread is not None:
            self.thread.join(timeout_s)

    def done(self) -> bool:
        return self._future.done()

    def result(self) -> JobOutcome:
        """The outcome of a story that is done."""
        return self._future.result(timeout=0)
