"""Real time (see `ports.Clock`)."""

from __future__ import annotations

import time


class SystemClock:
    """The controller's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
