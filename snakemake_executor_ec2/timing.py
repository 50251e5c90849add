"""Time: the real clock, a shared rate for calls, growing pauses after failures."""

from __future__ import annotations

import random
import threading
import time

from snakemake_executor_ec2.ports import Clock

LAUNCHES_PER_S = 2.0
"""Launch calls of all of a run's jobs together; EC2's bucket refills at this rate (unverified)."""
LAUNCHES_AT_ONCE = 5
"""As many as EC2's bucket holds when it is full."""
_SAME_TIME_S = 1.0
"""Clocks that differ by less count as one: a job takes longer to begin."""


class SystemClock:
    """The controller's clocks (see `ports.Clock`)."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def growing_s(number: int, first_s: float, most_s: float) -> float:
    """The pause after failure `number`, from 0: twice as long as the one before, up to a limit."""
    return min(most_s, first_s * 2.0 ** min(number, 60))


class RateLimiter:
    """At most so many calls a second, over all threads, evenly spread; `at_once` may come together if
    none has come for a while."""

    def __init__(self, per_second: float, clock: Clock, *, at_once: int = 1) -> None:
        self._gap_s = 1.0 / per_second
        self._early_s = (at_once - 1) * self._gap_s
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when it is the caller's turn."""
        wait_s = self.turn()
        if wait_s > 0:
            self._clock.sleep(wait_s)

    def turn(self) -> float:
        """Take the next turn; the seconds until it comes."""
        with self._lock:
            now = self._clock.monotonic()
            evenly = max(now, self._next)
            self._next = evenly + self._gap_s
            return max(0.0, evenly - self._early_s - now)


class Backoff:
    """Pauses that double up to a limit, with jitter, until a time is over. One per operation."""

    def __init__(self, clock: Clock, *, total_s: float, first_s: float = 0.5, most_s: float = 8.0) -> None:
        self._clock = clock
        self._deadline = clock.monotonic() + total_s
        self._first_s = first_s
        self._failures = 0
        self._most_s = most_s

    @property
    def over(self) -> bool:
        """True if the time is over."""
        return self._clock.monotonic() >= self._deadline

    def pause(self) -> bool:
        """Sleep, unless the time is over: then return False at once."""
        if self.over:
            return False
        # Jitter, so that threads that failed together do not ask together again.
        pause_s = growing_s(self._failures, self._first_s, self._most_s)
        self._clock.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  (no secret)
        self._failures += 1
        return True


def ahead_s(before: float, there: float | None, after: float) -> float:
    """By how much a machine's clock is ahead, when it said `there` between `before` and `after`;
    0 if that may well be nothing, or if it did not say."""
    if there is None:
        return 0.0
    ahead = there - (before + after) / 2
    return ahead if abs(ahead) > (after - before) / 2 + _SAME_TIME_S else 0.0
