"""What the cloud has been told to do wrong, and for how long. Any thread may use it."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

# Each kind with the facts that a fault of it may be limited to, as shell patterns.
KINDS: dict[str, tuple[str, ...]] = {
    "capacity": ("market", "type", "zone"),
    "throttle": ("action",),
    "lost-reply": ("action",),
    "deny": ("action", "access_key"),
    "expired": ("access_key",),
    "quota": ("code",),
    "slow-boot": ("type", "zone"),
    "impostor": ("type", "zone"),
    "small-disk": ("type", "zone"),
    "small-memory": ("type", "zone"),
    "clock": ("type", "zone"),
    "no-sudo": ("type", "zone"),
}


@dataclass(kw_only=True)
class Fault:
    """One entry of the book."""

    id: int
    kind: str
    patterns: dict[str, str]
    details: dict[str, Any]
    remaining: int | None
    """How often it still happens; None: until it is cleared."""
    until: float | None
    """When it is over, by the monotonic clock."""
    happened: int = field(default=0)


class FaultBook:
    """Faults in the order in which they were told; the first that fits is the one that happens."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def add(
        self, kind: str, *, count: int | None = None, seconds: float | None = None, **details: Any
    ) -> int:
        """Enter a fault; its id. Raises ValueError for a kind that there is not."""
        if kind not in KINDS:
            raise ValueError(f"no fault {kind!r}; there are {', '.join(KINDS)}")
        patterns = {name: str(details.pop(name)) for name in KINDS[kind] if name in details}
        until = None if seconds is None else time.monotonic() + seconds
        with self._lock:
            fault = Fault(
                id=next(self._ids),
                kind=kind,
                patterns=patterns,
                details=details,
                remaining=count,
                until=until,
            )
            self._faults.append(fault)
        return fault.id

    def take(self, kind: str, **facts: str) -> dict[str, Any] | None:
        """The details of the fault that happens now, if one does; counts as having happened."""
        with self._lock:
            for fault in self._live():
                if fault.kind == kind and _fits(fault.patterns, facts):
                    fault.happened += 1
                    if fault.remaining is not None:
                        fault.remaining -= 1
                    return fault.details
        return None

    def remove(self, fault_id: int) -> None:
        with self._lock:
            self._faults = [fault for fault in self._faults if fault.id != fault_id]

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def entries(self) -> list[dict[str, Any]]:
        """What is in force, for a test to read."""
        with self._lock:
            return [
                {
                    "id": fault.id,
                    "kind": fault.kind,
                    "remaining": fault.remaining,
                    "happened": fault.happened,
                    **fault.patterns,
                    **fault.details,
                }
                for fault in self._live()
            ]

    def _live(self) -> list[Fault]:
        now = time.monotonic()
        self._faults = [
            fault
            for fault in self._faults
            if fault.remaining != 0 and (fault.until is None or fault.until > now)
        ]
        return list(self._faults)


def _fits(patterns: dict[str, str], facts: dict[str, str]) -> bool:
    return all(fnmatchcase(facts.get(name, ""), pattern) for name, pattern in patterns.items())
