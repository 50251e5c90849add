"""What a workflow would take and cost: rows by rule, times, limits, jobs that cannot run. Pure.

The run is imagined beforehand (`sizing/schedule.py`), with machines that take one job after the other, and
with one machine for each job.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from snakemake_executor_ec2.formatting import usd as dollars
from snakemake_executor_ec2.model import BASE_IOPS, BASE_MBPS, Machine, Market, Offer, Requirements, WithDisk
from snakemake_executor_ec2.report.past import Past
from snakemake_executor_ec2.sizing.cost import cost_usd, disk_usd_per_hour, shares
from snakemake_executor_ec2.sizing.dimensions import in_words
from snakemake_executor_ec2.sizing.quotas import Quota, quota_of
from snakemake_executor_ec2.sizing.reuse import Reuse
from snakemake_executor_ec2.sizing.schedule import Schedule, Task, schedule

OVERHEAD_S = 90.0
"""Added to each job for boot, software and files: an assumption, and said to be one."""
OVERHEAD_WITHOUT_SOFTWARE_S = 30.0
"""The same for a job whose machine needs nothing installed before it runs."""
NEXT_S = 15.0
"""What is left of it on a machine that has done another job: files, and cleaning up after that job."""
NEXT_WITHOUT_SOFTWARE_S = 5.0
RUNTIME = "runtime"
"""Where seconds are from that are a limit."""


@dataclass(frozen=True, kw_only=True)
class Candidate(WithDisk):
    """A job, where it would run, and for how long."""

    rule: str
    requirements: Requirements
    offers: tuple[Offer, ...]
    """All that fit, best first."""
    seconds: float | None
    """None: there is neither a benchmark nor an earlier run nor a runtime."""
    seconds_from: str
    """`benchmark`, `earlier runs`, `rehearsals`, `runtime` or an empty string."""
    direct: bool = False
    """Whether it runs its own command, without Snakemake on its machine."""
    overhead_s: float = OVERHEAD_S
    """What its machine takes besides, if it is new."""
    next_s: float = NEXT_S
    """The same on a machine that has done another job."""
    overhead_from: str = "assumed"
    """Or `earlier runs`."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A job on its place in the workflow."""

    job: Candidate | None
    """None: it runs on this computer, or cannot run; other jobs wait for it all the same."""
    after: tuple[int, ...] = ()
    """The places of those that it waits for."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A job that could not run, and why."""

    label: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """The jobs of one rule that get the same machine."""

    rule: str
    jobs: int
    machine: str
    vcpus: int
    mem_gib: float
    market: str
    usd_per_hour: float | None
    reason: str
    runner_up: str
    seconds: float | None
    """Of all its jobs together, without boot and files."""
    seconds_from: str
    cost_usd: float | None
    direct_jobs: int
    """Those that run their own command, without Snakemake on their machines."""
    overhead_s: float
    """What is added to `seconds`, of all its jobs together."""
    machines: int
    """So many are launched."""
    at_least_usd: float
    """The cost as far as it is known: without the time of jobs of which none is."""
    unknown_jobs: int
    """Jobs of which no time is known."""
    overhead_from: str


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One of the account's limits beside what the workflow may need of it at a time."""

    code: str
    name: str
    vcpus: float | None
    peak_vcpus: int
    jobs_at_a_time: int


@dataclass(frozen=True, kw_only=True)
class Total:
    """What all comes to with one way of using machines. Jobs of unknown time count as if they took none."""

    reuse: Reuse
    machines: int
    wall_s: float
    """From the first launch to the end of the last job."""
    usd: float | None
    """None: no price is known."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """All that `snakemake-ec2 plan` shows."""

    region: str
    rows: tuple[Row, ...]
    limits: tuple[Limit, ...]
    refused: tuple[Refused, ...]
    prices: tuple[str, ...]
    """Where prices are from."""
    local_jobs: int
    """Jobs that run on this computer."""
    totals: tuple[Total, ...]
    """The first is that of the run's own `--ec2-reuse`."""
    longest_s: float
    """The jobs that wait for one another, on as many machines as they like."""
    at_a_time: int | None

    @property
    def cost_usd(self) -> float | None:
        """Of all jobs; None if one's is not known."""
        costs = [row.cost_usd for row in self.rows]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    @property
    def at_least_usd(self) -> float:
        """Of all jobs, as far as it is known."""
        return sum(row.at_least_usd for row in self.rows)

    @cached_property
    def unknown_jobs(self) -> int:
        """Jobs of which no time is known."""
        return sum(row.unknown_jobs for row in self.rows)

    @property
    def direct_jobs(self) -> int:
        """Jobs that run their own command, without Snakemake on their machines."""
        return sum(row.direct_jobs for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            **asdict(self),
            "jobs": sum(row.jobs for row in self.rows),
            "cost_usd": self.cost_usd,
            "at_least_usd": self.at_least_usd,
            "unknown_jobs": self.unknown_jobs,
            "direct_jobs": self.direct_jobs,
        }


def forecast(
    steps: Sequence[Step],
    *,
    region: str,
    refused: Sequence[Refused] = (),
    quotas: Mapping[str, float | None],
    jobs_at_a_time: int | None,
    local_jobs: int = 0,
    reuse: Reuse = Reuse.RULE,
    idle_s: float = 60.0,
) -> Forecast:
    """Put the jobs together. `quotas` are the account's limits by code."""
    candidates = [step.job for step in steps if step.job]
    own = _imagined(steps, reuse, jobs_at_a_time, idle_s)
    others = [each for each in (Reuse.NEVER, Reuse.RULE, Reuse.RUN) if each is not reuse]
    totals = [own, *(_imagined(steps, each, jobs_at_a_time, idle_s) for each in others)]
    sources = {each.offers[0].price.source for each in candidates if each.offers[0].price}
    return Forecast(
        region=region,
        rows=tuple(_rows(steps, own)),
        limits=tuple(_limits(candidates, quotas, jobs_at_a_time)),
        refused=tuple(refused),
        prices=tuple(sorted(sources)),
        local_jobs=local_jobs,
        totals=tuple(_total(each) for each in totals),
        longest_s=_imagined(steps, Reuse.NEVER, None, idle_s).schedule.wall_s,
        at_a_time=jobs_at_a_time,
    )


def with_past(job: Candidate, past: Mapping[str, Past]) -> Candidate:
    """A job with what earlier runs tell of its rule; a benchmark file is of the job itself, and stays."""
    known = past.get(job.rule)
    if known is None:
        return job
    if job.seconds_from != "benchmark":
        source = "rehearsals" if known.rehearsed else "earlier runs"
        job = replace(job, seconds=known.run_s, seconds_from=source)
    if known.first_s is not None:
        next_s = min(known.first_s, job.next_s) if known.next_s is None else known.next_s
        job = replace(job, overhead_s=known.first_s, next_s=next_s, overhead_from="earlier runs")
    return job


def merged(job: Candidate, seconds: Mapping[str, tuple[float, str]]) -> Candidate:
    """A job with the time of its rule's other jobs, if it has none of its own."""
    if job.seconds is not None or job.rule not in seconds:
        return job
    return replace(job, seconds=seconds[job.rule][0], seconds_from=seconds[job.rule][1])


# --- time and money -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Imagined:
    """The run with one way of using machines."""

    reuse: Reuse
    schedule: Schedule
    overhead_s: Mapping[int, float]
    """Of each job, by its place."""
    usd: Mapping[int, float | None]
    """Its share of its machine's cost."""


def _imagined(steps: Sequence[Step], reuse: Reuse, at_a_time: int | None, idle_s: float) -> _Imagined:
    tasks = [_task(each, reuse) for each in steps]
    found = schedule(tasks, at_a_time=at_a_time, idle_s=None if reuse is Reuse.NEVER else idle_s)
    overhead_s: dict[int, float] = {}
    costs: dict[int, float | None] = {}
    for stay in found.stays:
        for turn, number in enumerate(stay.tasks):
            overhead_s[number] = tasks[number].next_s if turn else tasks[number].first_s
        first = steps[stay.tasks[0]].job
        usd = _usd(first, stay.seconds) if first else None
        own_s = [tasks[number].seconds for number in stay.tasks]
        for number, share in zip(stay.tasks, shares(stay.seconds, own_s), strict=True):
            costs[number] = None if usd is None else share * usd
    return _Imagined(reuse=reuse, schedule=found, overhead_s=overhead_s, usd=costs)


def _task(step: Step, reuse: Reuse) -> Task:
    job = step.job
    if job is None:
        return Task(after=step.after)
    offer, needed = job.offers[0], job.requirements
    kind = (offer.instance_type.name, offer.market.value, str(needed.ami), str(needed.gpus > 0))
    return Task(
        after=step.after,
        kind=" ".join(kind if reuse is Reuse.RUN else (job.rule, *kind)),
        seconds=job.seconds or 0.0,
        first_s=job.overhead_s,
        next_s=job.next_s,
    )


def _usd(job: Candidate, seconds: float) -> float | None:
    """Of a machine that is launched for a job."""
    offer = job.offers[0]
    machine = Machine(
        id="",
        instance_type=offer.instance_type.name,
        zone=offer.zones[0],
        market=offer.market,
        price=offer.price,
        disk_gib=job.disk_gib,
        disk_mbps=job.disk_mbps,
        disk_iops=job.disk_iops,
        launched_at=0.0,
    )
    return cost_usd(machine, seconds)


def _total(run: _Imagined) -> Total:
    known = [usd for usd in run.usd.values() if usd is not None]
    return Total(
        reuse=run.reuse,
        machines=len(run.schedule.stays),
        wall_s=run.schedule.wall_s,
        usd=sum(known) if known or not run.usd else None,
    )


# --- rows ---------------------------------------------------------------------------------


def _rows(steps: Sequence[Step], run: _Imagined) -> Iterable[Row]:
    """The jobs of one rule with the same machine, in the order in which they come first."""
    groups: dict[tuple[str, str, Market], list[int]] = defaultdict(list)
    for number, step in enumerate(steps):
        if step.job:
            first = step.job.offers[0]
            groups[step.job.rule, first.instance_type.name, first.market].append(number)
    launched = {stay.tasks[0] for stay in run.schedule.stays}
    for numbers in groups.values():
        jobs = [job for number in numbers if (job := steps[number].job)]
        yield _row(jobs, numbers, run, machines=len(launched & set(numbers)))


def _row(jobs: Sequence[Candidate], numbers: Sequence[int], run: _Imagined, *, machines: int) -> Row:
    first = jobs[0].offers[0]
    times = [each.seconds for each in jobs if each.seconds is not None]
    pairs = list(zip(jobs, [run.usd[number] for number in numbers], strict=True))
    known = [usd for job, usd in pairs if usd is not None and job.seconds is not None]
    return Row(
        rule=jobs[0].rule,
        jobs=len(jobs),
        machine=first.instance_type.name,
        vcpus=first.instance_type.vcpus,
        mem_gib=first.instance_type.mem_mib / 1024,
        market=first.market.value,
        usd_per_hour=first.price.usd_per_hour if first.price else None,
        reason=_reason(jobs[0]) + _fast_disk(jobs),
        runner_up=_runner_up(jobs[0]),
        seconds=sum(times) if len(times) == len(jobs) else None,
        seconds_from="+".join(sorted({each.seconds_from for each in jobs} - {""})),
        cost_usd=sum(known) if len(known) == len(jobs) else None,
        direct_jobs=sum(each.direct for each in jobs),
        overhead_s=sum(run.overhead_s[number] for number in numbers),
        machines=machines,
        at_least_usd=sum(usd for _, usd in pairs if usd is not None),
        unknown_jobs=len(jobs) - len(times),
        overhead_from="+".join(sorted({each.overhead_from for each in jobs})),
    )


def _reason(job: Candidate) -> str:
    types = len({offer.instance_type.name for offer in job.offers})
    what = "the smallest" if job.offers[0].price is None else "the cheapest"
    of = f"of {types} types" if types > 1 else "and only type"
    return f"{what} {of} for {in_words(job.requirements)}"


def _fast_disk(jobs: Sequence[Candidate]) -> str:
    """What the fastest of their disks costs, if it is faster than what every disk has in its price."""
    disk = max(jobs, key=lambda each: (each.disk_mbps, each.disk_iops, each.disk_gib))
    if disk.disk_mbps <= BASE_MBPS and disk.disk_iops <= BASE_IOPS:
        return ""
    speed = f"{disk.disk_gib} GiB, {disk.disk_mbps} MiB/s and {disk.disk_iops} IOPS"
    return f", with a disk of {speed} for {dollars(disk_usd_per_hour(disk))} an hour"


def _runner_up(job: Candidate) -> str:
    """The next type or market, and how much dearer an hour of it is."""
    first = job.offers[0]
    for offer in job.offers[1:]:
        if (offer.instance_type.name, offer.market) == (first.instance_type.name, first.market):
            continue
        name = offer.instance_type.name + (" spot" if offer.market is Market.SPOT else "")
        if first.market is Market.SPOT and offer.market is Market.ON_DEMAND:
            name += " on-demand"
        if first.price is None or offer.price is None:
            return name
        more = offer.price.usd_per_hour / first.price.usd_per_hour - 1
        return f"{name} {more:+.0%}"
    return ""


def _limits(
    candidates: Iterable[Candidate], quotas: Mapping[str, float | None], most: int | None
) -> Iterable[Limit]:
    """For each limit, the largest jobs that may run at a time: an upper bound of the peak, since
    jobs that wait for one another are counted as if they ran together."""
    needs: dict[Quota, list[int]] = defaultdict(list)
    for each in candidates:
        offer = each.offers[0]
        quota = quota_of(offer.instance_type.name, offer.market)
        if quota is not None:
            needs[quota].append(offer.instance_type.vcpus)
    for quota, vcpus in sorted(needs.items(), key=lambda item: item[0].code):
        largest = sorted(vcpus, reverse=True)[:most]
        yield Limit(
            code=quota.code,
            name=quota.name,
            vcpus=quotas.get(quota.code),
            peak_vcpus=sum(largest),
            jobs_at_a_time=len(largest),
        )
