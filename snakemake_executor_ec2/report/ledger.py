"""What a run did with its time and money: one `Entry` for each machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from snakemake_executor_ec2.model import Machine, Phase
from snakemake_executor_ec2.ports import Clock
from snakemake_executor_ec2.report.cost import cost_usd


@dataclass(kw_only=True)
class Entry:
    """One machine's part in a job. Filled while the story is told; seconds by phase."""

    label: str
    machine: Machine | None = None
    seconds: dict[Phase, float] = field(default_factory=dict)
    ended_at: float | None = None
    """When EC2 accepted that it ends, in seconds since the epoch."""
    ending: str = "running"
    """`done`, `failed`, `lost`, `cancelled`, in a word."""

    def cost_usd(self, now: float) -> float | None:
        """Estimated cost up to its end or to now; None where its price is not known."""
        if self.machine is None:
            return 0.0
        until = now if self.ended_at is None else self.ended_at
        return cost_usd(self.machine, until - self.machine.launched_at)


class Ledger:
    """All entries of a run, in the order in which they were opened. Safe between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: list[Entry] = []

    @property
    def entries(self) -> tuple[Entry, ...]:
        with self._lock:
            return tuple(self._entries)

    def open(self, label: str) -> Entry:
        """A new entry, for an attempt that begins."""
        entry = Entry(label=label)
        with self._lock:
            self._entries.append(entry)
        return entry

    @contextmanager
    def phase(self, entry: Entry, phase: Phase) -> Iterator[None]:
        """Time a phase, also when it fails."""
        started = self._clock.monotonic()
        try:
            yield
        finally:
            entry.seconds[phase] = entry.seconds.get(phase, 0.0) + self._clock.monotonic() - started
