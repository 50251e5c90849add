"""What a run did with its time and money: machines, and attempts on them, in memory and in the journal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from snakemake_executor_ec2.model import JobPlan, JobResult, LaunchSpec, Machine, Phase, Requirements
from snakemake_executor_ec2.ports import Clock
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.rows import Attempt
from snakemake_executor_ec2.sizing.cost import cost_usd, shares

_PAUSE_S = 2.0
"""Between attempts to write the journal, while a job waits for that."""


_ITS_OWN = (Phase.PREPARE, Phase.RUN, Phase.STAGE_OUT)
"""Phases in which a machine works for one job."""


@dataclass(kw_only=True, eq=False)
class MachineEntry:
    """A machine of the run, from before its launch. Filled while its jobs run."""

    record: int
    """Its id in the journal."""
    machine: Machine | None = None
    entries: list[Entry] = field(default_factory=list)
    """The jobs that it was for."""
    ended_at: float | None = None
    """When EC2 accepted that it ends, in seconds since the epoch."""
    inherited: bool = False
    """An earlier run launched it."""
    kept: bool = False
    """It stays although its job is over."""
    kept_reason: str = ""
    """Why it is not ended after its job; empty: it is."""
    ahead: Entry | None = None
    """What stands for its first job, if it was launched ahead, until it has one."""
    ready_at: float = 0.0
    """Since when it has waited for that, in seconds since the epoch."""
    waited_s: float | None = None
    """How long it had been ready when it got its first job, if it was launched ahead."""

    def cost_usd(self, now: float) -> float | None:
        """Estimated cost up to its end or to now; None if its price is not known."""
        return 0.0 if self.machine is None else cost_usd(self.machine, self.lived_s(now))

    def share_of(self, entry: Entry, now: float) -> float:
        """Which part of the cost is a job's; the parts of all its jobs are one together."""
        return dict(self.shares(now))[entry]

    def shares(self, now: float) -> list[tuple[Entry, float]]:
        """The share of each of its jobs."""
        entries = [*self.entries]
        parts = shares(self.lived_s(now), [each.own_s for each in entries])
        return [*zip(entries, parts, strict=True)]

    def lived_s(self, now: float) -> float:
        """From its launch up to its end or to now."""
        until = now if self.ended_at is None else self.ended_at
        return until - self.machine.launched_at if self.machine else 0.0


@dataclass(kw_only=True, eq=False)
class Entry:
    """One attempt at a job, on one machine. Filled while the job runs; seconds by phase."""

    label: str
    record: int
    """The attempt's id in the journal."""
    on: MachineEntry
    seconds: dict[Phase, float] = field(default_factory=dict)
    end_reason: str = "running"
    """`done`, `failed`, `lost`, `cancelled`, in a word."""
    error: str = ""
    """What ended it, in a sentence, unless its command's own result says so."""
    closed: bool = False
    rule: str = ""
    asked: Requirements | None = None
    result: JobResult | None = None
    """How its command ended, once it has."""
    said: str = ""
    """The last line that it printed, if it failed."""
    hint: str = ""
    """What to do about its failure, in a sentence, if that is known."""

    def __post_init__(self) -> None:
        self.on.entries.append(self)

    @property
    def machine(self) -> Machine | None:
        """None before EC2 gave it."""
        return self.on.machine

    @property
    def own_s(self) -> float:
        """How long its machine has worked for it."""
        return sum(self.seconds.get(phase, 0.0) for phase in _ITS_OWN)

    def add(self, phase: Phase, seconds: float) -> None:
        """Add to the time of a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def billed_s(self, now: float) -> float:
        """Its share of its machine's life."""
        return self.on.lived_s(now) * self.on.share_of(self, now)

    def cost_usd(self, now: float) -> float | None:
        """Its share of what its machine has cost; None if that price is not known."""
        cost = self.on.cost_usd(now)
        return cost and cost * self.on.share_of(self, now)


class Ledger:
    """All machines of a run and the attempts on them, in the order in which they were opened. Safe between
    threads.

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

    @property
    def machines(self) -> tuple[MachineEntry, ...]:
        """Each once, however many jobs it was for."""
        return tuple(dict.fromkeys(entry.on for entry in self.entries))

    def open(self, plan: JobPlan, host_key: str, *, ahead: bool = False) -> Entry:
        """A new attempt, on a machine of its own; `ahead`: it only stands for the job that the machine will
        have. Raises LaunchError if the journal is full."""
        started = self._clock.monotonic()
        machine, record = self._journal.begin_machine(self._run_id, host_key, plan)
        seconds = {Phase.JOURNAL: self._clock.monotonic() - started}
        on = MachineEntry(record=machine)
        asked = plan.requirements
        entry = self._add(
            Entry(label=plan.label, record=record, on=on, seconds=seconds, rule=plan.rule, asked=asked)
        )
        on.ahead = entry if ahead else None
        with self._lock:
            self._launching[plan.key] = entry
        return entry

    def discard(self, entry: Entry) -> None:
        """No machine was to be had ahead: as if nobody had asked for it."""
        self._journal.discard(entry.record)
        with self._lock:
            self._entries.remove(entry)

    def reopen(self, attempt: Attempt) -> Entry:
        """The entry of an attempt that an earlier run began, and that this run resumes."""
        seconds = {Phase(name): value for name, value in attempt.seconds.items()}
        on = MachineEntry(record=attempt.on.id, machine=attempt.machine, inherited=True)
        for each in self._journal.attempts_on(attempt.on):  # each has its share of the machine's cost
            if each.id != attempt.id:
                before = {Phase(name): value for name, value in each.seconds.items()}
                Entry(
                    label=each.label,
                    record=each.id,
                    on=on,
                    seconds=before,
                    end_reason=each.end_reason,
                    closed=True,
                )
        return self._add(
            Entry(
                label=attempt.label,
                record=attempt.id,
                on=on,
                seconds=seconds,
                rule=attempt.rule,
                asked=attempt.asked,
                result=attempt.result,
            )
        )

    def move(self, entry: Entry, on: MachineEntry) -> None:
        """The attempt runs on a machine that was idle, and none is launched for it. Raises LaunchError."""
        ahead = on.ahead
        with self._waiting(entry):
            self._journal.move(entry.record, on.record, instead_of=ahead.record if ahead else None)
        with self._lock:
            entry.on.entries.remove(entry)
            entry.on = on
            on.entries.append(entry)
            if ahead is not None:
                on.ahead, on.waited_s = None, self._clock.now() - on.ready_at
                on.entries.remove(ahead)
                self._entries.remove(ahead)

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
            self._journal.note(entry.record, seconds=entry.seconds)
            self._note_costs(entry.on, entry)

    def intend(self, job_key: str, spec: LaunchSpec) -> None:
        """See `ports.LaunchRecords`."""
        with self._lock:
            entry = self._launching[job_key]
            self._tokens[spec.token] = entry
        with self._waiting(entry):
            self._journal.intend(entry.on.record, spec)

    def launched(self, token: str, machine: Machine) -> None:
        """See `ports.LaunchRecords`."""
        self._journal.launched(token, machine)
        with self._lock:
            entry = self._tokens.pop(token)
        with self._waiting(entry):
            self._journal.is_written()  # what it costs counts from now on, also if we are killed

    def pinned(self, on: MachineEntry, host_keys: tuple[str, ...]) -> None:
        """The machine has one of these host keys, and no other."""
        self._journal.note_machine(on.record, host_keys=host_keys)

    def leased(self, on: MachineEntry, lease_s: float) -> None:
        """The machine keeps a lease of its own from now on."""
        self._journal.note_machine(on.record, lease_s=lease_s)

    def kept(self, on: MachineEntry, until: float) -> None:
        """Its job is over, and the machine stays so that the user can look at it."""
        on.kept = True
        self._journal.note_machine(on.record, kept_until=until)

    def ready(self, entry: Entry, saved_state: Mapping[str, Any]) -> None:
        """Everything is on the machine: from now on another run can resume the job."""
        self._journal.note(entry.record, saved_state=saved_state)

    def ran(self, entry: Entry, result: JobResult) -> None:
        """Its command has ended."""
        entry.result = result
        self._journal.note(entry.record, result=result)

    def outputs_fetched(self, entry: Entry, files: Mapping[str, tuple[int, int]]) -> None:
        """All results are fetched."""
        self._journal.note(entry.record, outputs_fetched=files)

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

    def close(self, entry: Entry) -> bool:
        """The attempt is over; whether its end is on the disk. Saying it twice is fine."""
        if entry.closed:
            self._note_end(entry)
            return True
        self._note_costs(entry.on, entry)
        if entry.on.kept_reason and not entry.on.kept:
            return False  # it goes on without us
        entry.closed = True
        if entry.end_reason == "running":  # an error that is nobody's but ours
            entry.end_reason = "failed"
        self._journal.end(entry.record, entry.end_reason, entry.error)
        self._note_end(entry)
        with self._waiting(entry):
            written = self._journal.is_written()
        self._journal.note(entry.record, seconds=entry.seconds)
        return written

    def _note_end(self, entry: Entry) -> None:
        if entry.on.ended_at is not None and entry is entry.on.entries[-1]:
            self._note_costs(entry.on)
            self._journal.end_machine(entry.on.record, entry.end_reason)

    def ended(self, on: MachineEntry) -> None:
        """EC2 accepted that a machine ends on which no job is at work."""
        on.ended_at = self._clock.now()
        self._note_costs(on)
        self._journal.end_machine(on.record, "done")

    def _note_costs(self, on: MachineEntry, only: Entry | None = None) -> None:
        """What a machine has cost, and the shares of all of its jobs, or of one: those of the others, whose
        boot and waiting it shares, are noted when the machine has ended."""
        now = self._clock.now()
        usd = on.cost_usd(now)
        self._journal.note_machine(on.record, usd=usd)
        for each, part in on.shares(now):
            if each is only or only is None:
                self._journal.note(each.record, usd=usd and usd * part)

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
