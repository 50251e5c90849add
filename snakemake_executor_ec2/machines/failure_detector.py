"""When a machine that does not answer is given up before its lease is over, and when none is to be
launched any more. Pure.

What is down may as well be our own network, and then the job works on: while EC2 does not answer
us either, nothing counts. Where EC2 answers, its own checks of the machine tell; and where it
finds nothing wrong, but lets us in to other machines and never to this one, patience is longer,
for a machine that is merely overloaded may come back (docs/decisions/0022).

Where machines are launched and not one lets us in, the next would not either: this network lets no
ssh out, or reaches AWS from elsewhere than was thought.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from snakemake_executor_ec2.errors import ConnectError
from snakemake_executor_ec2.report import messages

ALONE_FACTOR = 3
"""So much longer is a machine waited for that EC2 finds nothing wrong with."""
UNREACHED = 2
"""After so many machines of a run that never let us in, and none that did, no more are launched."""


class Reachability:
    """When the machines of a run let us in last, by `Clock.monotonic`. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._let_in_at: dict[str, float] = {}
        self._unreached: dict[str, str] = {}

    def note(self, machine_id: str, now: float) -> None:
        """A new connection to a machine was made."""
        with self._lock:
            self._let_in_at[machine_id] = now

    def note_unreached(self, machine_id: str, why: str) -> None:
        """A machine did not let us in once in all the time that it had to boot."""
        with self._lock:
            self._unreached[machine_id] = why

    def check(self) -> None:
        """Raise ConnectError where another machine would not let us in either."""
        with self._lock:
            if not self._let_in_at and len(self._unreached) >= UNREACHED:
                why = list(self._unreached.values())[-1]
                raise ConnectError(messages.none_lets_us_in(len(self._unreached), why))

    def answered_since(self, machine_id: str, since: float) -> bool:
        """Whether any other machine let us in after a moment."""
        with self._lock:
            return any(at > since for name, at in self._let_in_at.items() if name != machine_id)


@dataclass(kw_only=True)
class FailureDetector:
    """One machine that does not answer, and what was seen meanwhile. Times are of `Clock.monotonic`."""

    began: float
    lost_after_s: float
    impaired_since: float | None = None
    alone_since: float | None = None
    """Since when EC2 and other machines let us in, and this one does not."""

    def ec2_is_silent(self) -> None:
        """EC2 does not answer either: it is our own network, and what was seen so far proves nothing."""
        self.impaired_since = self.alone_since = None

    def seen(self, now: float, *, impaired: bool, others_answer: bool) -> None:
        """EC2 answers, and says of the machine that it is impaired or not; others let us in or not."""
        if not impaired:
            self.impaired_since = None
        elif self.impaired_since is None:
            self.impaired_since = now
        if others_answer and self.alone_since is None:
            self.alone_since = now

    def why_lost(self, now: float) -> str:
        """Why the machine is to be given up; empty while it is not."""
        if self.impaired_since is not None and now - self.impaired_since >= self.lost_after_s:
            return "has crashed: it does not answer, and EC2's own checks of it fail"
        if self.alone_since is not None and now - self.alone_since >= ALONE_FACTOR * self.lost_after_s:
            return "does not answer, while EC2 and other machines do"
        return ""
