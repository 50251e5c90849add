"""When a machine that does not answer is given up before its lease is over, and when no more machines are
launched. Pure.

The fault may be our own network, and then the job is still running: while EC2 does not answer
either, nothing counts. If EC2 answers, its own checks of the machine decide. If these find nothing
wrong, but other machines can be connected to and this one cannot, it is waited for longer: an
overloaded machine may come back (docs/decisions/0022). The same holds for a machine that lets us
log in and then breaks off whatever is done there.

If machines are launched and none of them can be logged in to, the next one could not either: our
network blocks ssh, or reaches AWS from another address than expected.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from snakemake_executor_ec2.errors import LaunchError
from snakemake_executor_ec2.report import messages

ALONE_FACTOR = 3
"""How many times longer a machine is waited for if EC2 finds nothing wrong with it."""
MOST_BETWEEN_S = 60.0
UNREACHED = 2
"""After this many machines of a run that could not be logged in to, and none that could, no more are
launched."""


class Reachability:
    """When each machine of a run was last connected to, by `Clock.monotonic`. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connected_at: dict[str, float] = {}
        self._worked_at: dict[str, float] = {}
        self._unreached: dict[str, str] = {}

    def note(self, machine_id: str, now: float) -> None:
        """A new connection to a machine was made."""
        with self._lock:
            self._connected_at[machine_id] = now

    def note_work(self, machine_id: str, now: float) -> None:
        """What was done on a machine came to its end, or further."""
        with self._lock:
            self._worked_at[machine_id] = now

    def note_unreached(self, machine_id: str, why: str) -> None:
        """A machine could not be logged in to within the time that it had to boot."""
        with self._lock:
            self._unreached[machine_id] = why

    def check(self) -> None:
        """Raise LaunchError if another machine could not be logged in to either."""
        with self._lock:
            if not self._connected_at and len(self._unreached) >= UNREACHED:
                why = list(self._unreached.values())[-1]
                raise LaunchError(messages.none_reachable(len(self._unreached), why))

    def answered_since(self, machine_id: str, since: float) -> bool:
        """Whether any other machine was connected to after a moment."""
        with self._lock:
            return _any_other(self._connected_at, machine_id, since)

    def is_alone_in_failing(self, machine_id: str, since: float) -> bool:
        """Whether nothing was ever done on a machine, or something was on another one after a moment."""
        with self._lock:
            return machine_id not in self._worked_at or _any_other(self._worked_at, machine_id, since)


def _any_other(at: Mapping[str, float], machine_id: str, since: float) -> bool:
    return any(when > since for name, when in at.items() if name != machine_id)


@dataclass(kw_only=True)
class InVain:
    """Calls in a row that a machine has broken off without any result, although it lets us log in: its sshd
    can start nothing, or it is hostile. Times are of `Clock.monotonic`."""

    lost_after_s: float
    patience_s: float
    began: float
    last: float
    """When the last one broke off, or the first one began."""
    seconds: float = 0.0
    """How long that has gone on, as far as it counts."""

    def broke_off(self, now: float) -> None:
        """One more has. That nothing could be reached for hours in between (a laptop that slept) proves
        little."""
        self.seconds += min(now - self.last, MOST_BETWEEN_S)
        self.last = now

    def ec2_is_silent(self, now: float) -> None:
        """EC2 does not answer either: this time does not count."""
        self.last = now

    def is_over(self, *, alone: bool) -> bool:
        """Whether the machine is to be given up; `alone`: it is not our network."""
        return self.seconds >= (ALONE_FACTOR * self.lost_after_s if alone else self.patience_s)


@dataclass(kw_only=True)
class FailureDetector:
    """One machine that does not answer, and what was seen meanwhile. Times are of `Clock.monotonic`."""

    began: float
    lost_after_s: float
    impaired_since: float | None = None
    alone_since: float | None = None
    """Since when EC2 and other machines answer, and this one does not."""

    def ec2_is_silent(self) -> None:
        """EC2 does not answer either: our own network is down, and what was seen so far proves nothing."""
        self.impaired_since = self.alone_since = None

    def seen(self, now: float, *, impaired: bool, others_answer: bool) -> None:
        """EC2 answers, and says whether the machine is impaired; other machines answer or not."""
        if not impaired:
            self.impaired_since = None
        elif self.impaired_since is None:
            self.impaired_since = now
        if others_answer and self.alone_since is None:
            self.alone_since = now

    def why_lost(self, now: float) -> str:
        """Why the machine is to be given up; empty if it is not."""
        if self.impaired_since is not None and now - self.impaired_since >= self.lost_after_s:
            return "has crashed: it does not answer, and EC2's own checks of it fail"
        if self.alone_since is not None and now - self.alone_since >= ALONE_FACTOR * self.lost_after_s:
            return "does not answer, while EC2 and other machines do"
        return ""
