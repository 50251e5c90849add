"""Time that passes only when somebody sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable


class FakeClock:
    """A `Clock` whose sleeps return at once and move time on. Threads may share it."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now = start
        self.slept: list[float] = []
        """Every sleep, in seconds, in order."""
        self.on_sleep: Callable[[float], None] | None = None
        """Called after each sleep with its seconds: a test changes the world here."""

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self._now += seconds
        if self.on_sleep is not None:
            self.on_sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass without anybody sleeping."""
        with self._lock:
            self._now += seconds
