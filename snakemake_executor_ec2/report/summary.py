"""What runs did with their machines, time and money, from the journal's records. Pure.

A machine's cost is split among its jobs as the run's own table splits it (`sizing/cost.py`), and among
parts: the phases of its jobs, and `idle`, when none was at work. All sums over runs, rules, machines or
parts are the same amount.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from statistics import median

from snakemake_executor_ec2.model import JobResult, Machine, Market, Phase, Requirements
from snakemake_executor_ec2.records.lives import Life
from snakemake_executor_ec2.records.rows import UNUSED, Attempt, MachineRecord, RunRecord
from snakemake_executor_ec2.report.failures import cause
from snakemake_executor_ec2.sizing.cost import shares

IDLE = "idle"
PARTS: tuple[str, ...] = (*Phase, IDLE)
"""In the order in which they are drawn. The journal's waits come in between; they are drawn as one."""
_OWN = frozenset({Phase.PREPARE, Phase.RUN, Phase.STAGE_OUT})
"""Parts in which a machine works for one job; what the others cost is split evenly among its jobs."""
_GAP_S = 0.05
"""Shorter pauses are how clocks are read, and nobody was idle."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a machine's time. `began_at` in seconds since the epoch."""

    part: str
    began_at: float
    seconds: float

    @property
    def ended_at(self) -> float:
        return self.began_at + self.seconds


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """A job on a machine, or on its way there: an attempt."""

    run: str
    key: str
    label: str
    rule: str
    machine: str
    """EC2's id; empty if it never got one."""
    machine_type: str
    began_at: float
    state: str
    """`done`, `failed`, `lost`, …; `running`, or `not seen to end` if its run is gone."""
    reason: str
    """Why it failed; empty if it did not."""
    spans: tuple[Span, ...]
    asked: Requirements
    result: JobResult | None
    usd_by_part: Mapping[str, float] | None
    """Its share of its machine's cost; None if that is not known."""
    billed_s: float
    """Its share of its machine's time."""

    @property
    def usd(self) -> float | None:
        return None if self.usd_by_part is None else sum(self.usd_by_part.values())

    @cached_property
    def seconds(self) -> Mapping[str, float]:
        """By part."""
        return _sums((span.part, span.seconds) for span in self.spans)

    @property
    def job(self) -> tuple[str, str]:
        """The same for all attempts of a run at a job."""
        return self.run, self.label


@dataclass(frozen=True, kw_only=True)
class MachineRow:
    """A machine with its jobs, one after the other."""

    run: str
    machine: Machine | None
    """None if EC2 never launched it, as far as the journal knows."""
    jobs: tuple[JobRow, ...]
    ahead: tuple[Span, ...] = ()
    """What was done on it before it had a job, if it was launched ahead."""
    idle: tuple[Span, ...]
    billed_s: float
    """From its launch to its end, or to now."""
    usd: float | None

    @cached_property
    def spans(self) -> list[Span]:
        """All of its parts, in the order of time."""
        found = [*self.ahead, *self.idle, *(span for job in self.jobs for span in job.spans)]
        return sorted(found, key=lambda span: span.began_at)

    @property
    def saved_usd(self) -> float | None:
        """What it cost less than the same type on demand would have; None if it is no spot machine, or a
        price is not known. What was under way as it was lost had to be done again elsewhere: that time is
        lost money, and would not have been spent on demand."""
        machine = self.machine
        if machine is None or machine.market is not Market.SPOT:
            return None
        if machine.price is None or machine.on_demand is None:
            return None
        lost = [job for job in self.jobs if job.state == "lost"]
        useful_s = self.billed_s - sum(job.billed_s for job in lost)
        less_usd = machine.on_demand.usd_per_hour - machine.price.usd_per_hour
        return less_usd * useful_s / 3600 - sum(job.usd or 0.0 for job in lost)


@dataclass(frozen=True, kw_only=True)
class Sum:
    """What some machines' jobs come to: those of a run, of a rule, or all."""

    name: str
    jobs: tuple[JobRow, ...] = field(repr=False)

    @cached_property
    def job_count(self) -> int:
        """A job that was lost and started again is one; what stood for one is none."""
        return len({each.job for each in self.jobs if each.state != UNUSED})

    @cached_property
    def failed_count(self) -> int:
        """Jobs whose last attempt did not succeed; cancelled ones and those under way do not count."""
        last = {each.job: each.state for each in self.jobs}
        return sum(state in ("failed", "lost") for state in last.values())

    @cached_property
    def machine_count(self) -> int:
        return len({(each.run, each.machine) for each in self.jobs if each.machine})

    @cached_property
    def billed_s(self) -> float:
        return sum(each.billed_s for each in self.jobs)

    @cached_property
    def usd_by_part(self) -> Mapping[str, float]:
        """As far as prices are known."""
        return _sums(item for each in self.jobs for item in (each.usd_by_part or {}).items())

    @property
    def usd(self) -> float | None:
        """None if no price is known."""
        known = any(each.usd_by_part is not None for each in self.jobs)
        return sum(self.usd_by_part.values()) if known or not self.jobs else None

    @cached_property
    def unknown_prices(self) -> int:
        """Machines whose price is not known."""
        unknown = [each for each in self.jobs if each.machine and each.usd_by_part is None]
        return len({(each.run, each.machine) for each in unknown})

    @cached_property
    def states(self) -> Counter[str]:
        """How many attempts ended how."""
        return Counter(each.state for each in self.jobs)

    @cached_property
    def run_s(self) -> tuple[float, float] | None:
        """The median time and the longest that a job that succeeded ran; None if none did."""
        ran = [each.seconds.get(Phase.RUN, 0.0) for each in self.jobs if each.state == "done"]
        return (median(ran), max(ran)) if ran else None


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run, and what it comes to."""

    record: RunRecord
    state: str
    """`running`, `ended`, `detached`, or `killed`: it did not say that it ended."""
    machines: tuple[MachineRow, ...] = field(repr=False)
    total: Sum

    @property
    def ended_at(self) -> float:
        """When the last thing happened that is known of it."""
        ends = [span.ended_at for machine in self.machines for span in machine.spans]
        return max([*ends, self.record.ended_at or self.record.began_at])


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Some runs of a folder, the oldest first."""

    runs: tuple[RunRow, ...]
    rules: tuple[Sum, ...]
    """The most expensive first."""
    total: Sum
    made_at: float

    @cached_property
    def machines(self) -> list[MachineRow]:
        return [machine for run in self.runs for machine in run.machines]

    @cached_property
    def spot(self) -> list[MachineRow]:
        """The spot machines."""
        return [each for each in self.machines if each.machine and each.machine.market is Market.SPOT]

    @property
    def saved_usd(self) -> float:
        """What spot machines cost less than on demand, as far as both prices are known."""
        return sum(each.saved_usd or 0.0 for each in self.spot)

    @property
    def price_sources(self) -> list[str]:
        """Who says what an hour costs."""
        known = [each.machine for each in self.machines if each.machine]
        return sorted({machine.price.source for machine in known if machine.price})


def summarize(
    runs: Sequence[RunRecord],
    attempts: Sequence[Attempt],
    lives: Mapping[int, Life],
    *,
    alive: Collection[str],
    now: float,
) -> Summary:
    """What runs come to. `attempts` are those on machines that they launched, whoever finished them;
    `lives` are these machines' by their ids in the journal; `alive` are the runs whose process is there."""
    by_run: dict[str, list[MachineRow]] = defaultdict(list)
    ordered = sorted(attempts, key=lambda each: (each.on.id, each.id))
    for _, group in groupby(ordered, key=lambda each: each.on.id):
        row = _machine_row(list(group), lives, alive, now)
        by_run[row.run].append(row)
    rows = tuple(_run_row(run, by_run[run.id], alive) for run in sorted(runs, key=lambda run: run.began_at))
    jobs = tuple(job for run in rows for job in run.total.jobs)
    by_rule: dict[str, list[JobRow]] = defaultdict(list)
    for job in jobs:
        by_rule[job.rule].append(job)
    rules = [Sum(name=rule, jobs=tuple(each)) for rule, each in by_rule.items()]
    rules.sort(key=lambda each: (-(each.usd or 0.0), -each.billed_s, each.name))
    return Summary(runs=rows, rules=tuple(rules), total=Sum(name="all", jobs=jobs), made_at=now)


def _run_row(run: RunRecord, machines: list[MachineRow], alive: Collection[str]) -> RunRow:
    if run.id in alive:
        state = "running"
    elif run.detached:
        state = "detached"
    else:
        state = "ended" if run.ended else "killed"
    jobs = tuple(job for machine in machines for job in machine.jobs)
    return RunRow(record=run, state=state, machines=tuple(machines), total=Sum(name=run.id, jobs=jobs))


def _machine_row(
    attempts: Sequence[Attempt], lives: Mapping[int, Life], alive: Collection[str], now: float
) -> MachineRow:
    on = attempts[0].on
    machine, life = on.machine, lives.get(on.id)
    is_alive = on.owner in alive
    until = now if life is None else life.until
    spans = [_spans(each, until, is_alive=is_alive) for each in attempts]
    launched_at = machine.launched_at if machine else until
    billed_s = max(0.0, until - launched_at) if machine else 0.0
    usd = life.usd if life else (0.0 if machine is None else None)
    ahead = _ahead(on, launched_at)
    billed = [_billed(each, launched_at, until) for each in spans]
    shared = _billed(ahead, launched_at, until)
    jobs = [
        JobRow(
            run=on.run,
            key=attempt.key,
            label=attempt.label,
            rule=attempt.rule,
            machine=machine.id if machine else "",
            machine_type=machine.instance_type if machine else "",
            began_at=attempt.began_at,
            state=_state(attempt, is_alive=is_alive),
            reason="" if attempt.end_reason in ("", "done") else cause(attempt.error, attempt.result),
            spans=its_spans,
            asked=attempt.asked,
            result=attempt.result,
            usd_by_part=None if usd is None else {name: part * usd for name, part in parts.items()},
            billed_s=sum(parts.values()) * billed_s,
        )
        for attempt, its_spans, parts in zip(attempts, spans, _parts(billed, billed_s, shared), strict=True)
    ]
    return MachineRow(
        run=on.run,
        machine=machine,
        jobs=tuple(jobs),
        ahead=ahead,
        idle=tuple(_gaps([*spans, ahead], launched_at, until)),
        billed_s=billed_s,
        usd=usd,
    )


def _ahead(on: MachineRecord, launched_at: float) -> tuple[Span, ...]:
    """What was done on a machine before it had a job: it booted, and software was installed."""
    found, at = [], launched_at
    for part in (Phase.BOOT, Phase.PREPARE):
        if length := on.ahead_s.get(part, 0.0):
            found.append(Span(part=part, began_at=at, seconds=length))
            at += length
    return tuple(found)


def _state(attempt: Attempt, *, is_alive: bool) -> str:
    if attempt.end_reason:
        return attempt.end_reason
    return "running" if is_alive else "not seen to end"


def _spans(attempt: Attempt, until: float, *, is_alive: bool) -> tuple[Span, ...]:
    """An attempt's phases one after the other, from its beginning; what is under way goes on `until`."""
    found, at = [], attempt.began_at
    seconds = dict(attempt.seconds)
    machine = attempt.machine
    for part in PARTS:
        if part == Phase.BOOT and seconds.get(part) and machine:
            at = max(at, machine.launched_at)
        length = seconds.get(part, 0.0)
        if part == attempt.phase and not attempt.end_reason and (is_alive or machine):
            length = max(length, until - at)
        if length > 0:
            found.append(Span(part=part, began_at=at, seconds=length))
            at += length
    return tuple(found)


def _billed(spans: Iterable[Span], launched_at: float, until: float) -> dict[str, float]:
    """The seconds of each part that lie in the machine's life. A job that waits for a machine keeps none
    busy, also if it then gets one that has done another job."""
    return _sums(
        (span.part, max(0.0, min(span.ended_at, until) - max(span.began_at, launched_at)))
        for span in spans
        if span.part != Phase.LAUNCH
    )


def _parts(
    billed: Sequence[Mapping[str, float]], total_s: float, shared: Mapping[str, float]
) -> list[dict[str, float]]:
    """How a machine's cost is split, for each of its jobs by part; all together are one. `shared` is what was
    done on it before it had a job."""
    own = [{part: each[part] for part in each if part in _OWN} for each in billed]
    own_s = [sum(each.values()) for each in own]
    rest_s = max(0.0, total_s - sum(own_s))
    others = _sums((part, each[part]) for each in billed for part in each if part not in _OWN)
    others = _sums([*others.items(), *shared.items()])
    others_s = sum(others.values())
    shrink = min(1.0, rest_s / others_s) if others_s else 1.0
    rest = {part: seconds * shrink for part, seconds in others.items()}
    rest[IDLE] = max(0.0, rest_s - sum(rest.values()))
    split = []
    for share, its_own, its_s in zip(shares(total_s, own_s), own, own_s, strict=True):
        weights = _sums(
            [*its_own.items(), *((part, seconds / len(billed)) for part, seconds in rest.items())]
        )
        together = its_s + rest_s / len(billed)
        scale = share / together if together else 0.0
        parts = {part: weight * scale for part, weight in weights.items() if weight}
        split.append(parts or {IDLE: share})
    return split


def _gaps(spans: Sequence[Sequence[Span]], launched_at: float, until: float) -> Iterator[Span]:
    """When the machine lived, and no phase of a job is known."""
    at = launched_at
    busy = [each for one in spans for each in one if each.part != Phase.LAUNCH]
    for span in sorted(busy, key=lambda each: each.began_at):
        if span.began_at - at > _GAP_S:
            yield Span(part=IDLE, began_at=at, seconds=min(span.began_at, until) - at)
        at = max(at, span.ended_at)
    if until - at > _GAP_S:
        yield Span(part=IDLE, began_at=at, seconds=until - at)


def _sums(items: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, amount in items:
        found[name] = found.get(name, 0.0) + amount
    return found
