"""What a run did with its time and money: one `Entry` for each machine, in memory and in the journal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from snakemake_executor_ec2.model import JobPlan, LaunchSpec, Machine, Phase
from snakemake_executor_ec2.ports import Clock
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.rows import Attempt
from snakemake_executor_ec2.sizing.cost import cost_usd

_PAUSE_S = 2.0
"""Between attempts to write the journal, while a job waits for that."""


@dataclass(kw_only=True)
class Entry:
    """One machine's part in a job. Filled while the story is told; seconds by phase."""

    label: str
    record: int
    """The attempt's id in the journal."""
    machine: Machine | None = None
    seconds: dict[Phase, float] = field(default_factory=dict)
    ended_at: float | None = None
    """When EC2 accepted that it ends, in seconds since the epoch."""
    ending: str = "running"
    """`done`, `failed`, `lost`, `cancelled`, in a word."""
    inherited: bool = False
    """A run before ours launched its machine."""
    kept: bool = False
    """Its machine stays although its job is over."""
    left: str = ""
    """Why the machine is not ended with the story; empty: it is."""

    def add(self, phase: Phase, seconds: float) -> None:
        """So much longer did a phase take."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def cost_usd(self, now: float) -> float | None:
        """Estimated cost up to its end or to now; None if its price is not known."""
        if self.machine is None:
            return 0.0
        until = now if self.ended_at is None else self.ended_at
        return cost_usd(self.machine, until - self.machine.launched_at)


class Ledger:
    """All entries of a run, in the order in which they were opened. Safe between threads.

    The journal hears of everything, and what a job waits for that is in its seconds (`Phase.JOURNAL`).
    """

    def __init__(self, clock: Clock, journal: Journal, run_id: str) -> None:
        self._clock = clock
        self._journal = journal
        self._run_id = run_id
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._launching: dict[str, Entry] = {}
        self._tokens: dict[str, Entry] = {}

    @property
    def entries(self) -> tuple[Entry, ...]:
        with self._lock:
            return tuple(self._entries)

    def open(self, plan: JobPlan, machine_no: int, host_key: str) -> Entry:
        """A new entry, for an attempt that begins. Raises LaunchError if the journal is full."""
        started = self._clock.monotonic()
        record = self._journal.begin(self._run_id, plan, machine_no, host_key)
        seconds = {Phase.JOURNAL: self._clock.monotonic() - started}
        entry = self._add(Entry(label=plan.label, record=record, seconds=seconds))
        with self._lock:
            self._launching[plan.key] = entry
        return entry

    def reopen(self, attempt: Attempt) -> Entry:
        """The entry of an attempt that a run before began, and that goes on."""
        seconds = {Phase(name): value for name, value in attempt.seconds.items()}
        return self._add(
            Entry(
                label=attempt.label,
                record=attempt.id,
                machine=attempt.machine,
                seconds=seconds,
                inherited=True,
            )
        )

    @contextmanager
    def phase(self, entry: Entry, phase: Phase) -> Iterator[None]:
        """Time a phase, also when it fails."""
        self._journal.enter(entry.record, phase)
        started, waited = self._clock.monotonic(), entry.seconds.get(Phase.JOURNAL, 0.0)
        try:
            yield
        finally:
            waited = entry.seconds.get(Phase.JOURNAL, 0.0) - waited
            entry.add(phase, self._clock.monotonic() - started - waited)
            self._journal.note(entry.record, seconds=entry.seconds, usd=entry.cost_usd(self._clock.now()))

    def intend(self, job_key: str, spec: LaunchSpec) -> None:
        """See `ports.LaunchRecords`."""
        with self._lock:
            entry = self._launching[job_key]
            self._tokens[spec.token] = entry
        with self._waiting(entry):
            self._journal.intend(job_key, spec)

    def launched(self, token: str, machine: Machine) -> None:
        """See `ports.LaunchRecords`."""
        self._journal.launched(token, machine)
        with self._waiting(self._tokens[token]):
            self._journal.is_written()  # what it costs counts from now on, also if we are killed

    def pinned(self, entry: Entry, host_keys: tuple[str, ...]) -> None:
        """The machine has one of these host keys, and no other."""
        self._journal.note(entry.record, host_keys=host_keys)

    def leased(self, entry: Entry, lease_s: float) -> None:
        """The machine keeps a lease of its own from now on."""
        self._journal.note(entry.record, lease_s=lease_s)

    def ready(self, entry: Entry, bench: Mapping[str, Any]) -> None:
        """Everything is on the machine: from now on another run can go on from here."""
        self._journal.note(entry.record, bench=bench)

    def landed(self, entry: Entry, files: Mapping[str, tuple[int, int]]) -> None:
        """All results are here."""
        self._journal.note(entry.record, landed=files)

    def remembered(
        self, entry: Entry, wait: Callable[[float], None], *, patience_s: float, tell: Callable[[], None]
    ) -> bool:
        """Wait until the journal has all that was told; `tell` is called where that takes time. False
        where it has not after `patience_s` seconds.

        If we were killed without that, the next run would know nothing of a job that works, or of its
        results, and start the job again: work would be done twice.
        """
        until = self._clock.monotonic() + patience_s
        told = False
        with self._waiting(entry):
            while not self._journal.is_written():
                if self._clock.monotonic() > until:
                    return False
                if not told:
                    tell()
                told = True
                wait(_PAUSE_S)
        return True

    def kept(self, entry: Entry, until: float) -> None:
        """The job is over, and its machine stays for somebody to look at."""
        entry.kept = True
        self._journal.note(entry.record, kept_until=until)

    def close(self, entry: Entry) -> None:
        """The attempt is over, and its end on the disk, if there is room."""
        now = self._clock.now()
        self._journal.note(entry.record, usd=entry.cost_usd(now))
        if entry.left and not entry.kept:
            return  # it goes on without us
        if entry.ending == "running":  # an error that is nobody's but ours
            entry.ending = "failed"
        self._journal.end(entry.record, entry.ending, machine_ended=entry.ended_at is not None)
        with self._waiting(entry):
            self._journal.is_written()
        self._journal.note(entry.record, seconds=entry.seconds)

    @contextmanager
    def _waiting(self, entry: Entry) -> Iterator[None]:
        started = self._clock.monotonic()
        try:
            yield
        finally:
            entry.add(Phase.JOURNAL, self._clock.monotonic() - started)

    def _add(self, entry: Entry) -> Entry:
        with self._lock:
            self._entries.append(entry)
        return entry
