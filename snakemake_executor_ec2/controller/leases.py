"""Renews machines' leases during what may take longer than they last: a transfer, an installation. A job that
is followed renews its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from snakemake_executor_ec2 import threads
from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.ports import Session

_PART = 4
"""A lease is renewed when this part of it is over."""
_AGAIN_S = 10.0
"""If there can be no more threads now."""


@dataclass(eq=False)
class _Held:
    """A lease to be renewed until what takes so long is over."""

    session: Session
    every_s: float
    due: float


class Leases:
    """Those of a run's machines. One thread waits for all; a renewal that is due gets one of its own, because
    it may have to wait for a connection that is lost."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[_Held] = set()
        self._watching = False

    @contextmanager
    def renewing(self, lease_s: float, session: Session) -> Iterator[None]:
        """Renew a lease during the block."""
        held = _Held(session, lease_s / _PART, time.monotonic() + lease_s / _PART)
        self._hold(held)
        try:
            yield
        finally:
            with self._changed:
                self._held.discard(held)

    def _hold(self, held: _Held) -> None:
        with self._changed:
            self._held.add(held)
            if not self._watching:
                # If there can be no thread now, there may be one for the next lease.
                self._watching = threads.start(self._watch, "leases") is not None
            self._changed.notify_all()

    def _watch(self) -> None:
        """Until no lease is held when one would be due."""
        with self._changed:
            while self._held:
                now = time.monotonic()
                for held in [each for each in self._held if each.due <= now]:
                    held.due = float("inf")  # until it is done
                    if threads.start(partial(self._renew, held), "lease") is None:
                        held.due = now + min(held.every_s, _AGAIN_S)
                next_s = min(each.due for each in self._held) - now
                self._changed.wait(min(next_s, threading.TIMEOUT_MAX))
            self._watching = False

    def _renew(self, held: _Held) -> None:
        try:
            with suppress(Ec2ExecutorError):  # the call that works on the machine fails, too
                held.session.renew()
        finally:  # whatever else goes wrong, too: else the machine ends while it works
            with self._changed:
                held.due = time.monotonic() + held.every_s
                self._changed.notify_all()
