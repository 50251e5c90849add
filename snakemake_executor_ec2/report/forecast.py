"""What a workflow would take and cost: rows by rule, limits, jobs that cannot run. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from snakemake_executor_ec2.formatting import usd
from snakemake_executor_ec2.model import Machine, Market, Offer, Requirements
from snakemake_executor_ec2.report.table import table as lines_of
from snakemake_executor_ec2.sizing.cost import cost_usd
from snakemake_executor_ec2.sizing.dimensions import in_words
from snakemake_executor_ec2.sizing.quotas import Quota, quota_of

OVERHEAD_S = 90.0
"""Added to each job for boot, software and files: an assumption, and said to be one."""
OVERHEAD_WITHOUT_SOFTWARE_S = 30.0
"""The same for a job whose machine needs nothing installed before it runs."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A job, where it would run, and for how long."""

    rule: str
    requirements: Requirements
    offers: tuple[Offer, ...]
    """All that fit, best first."""
    disk_gib: int
    seconds: float | None
    """None: there is neither a benchmark nor a runtime."""
    seconds_from: str
    """`benchmark`, `runtime` or an empty string."""
    direct: bool = False
    """Whether it runs its own command, without Snakemake on its machine."""
    overhead_s: float = OVERHEAD_S
    """What its machine takes besides."""


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


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One of the account's limits beside what the workflow may need of it at a time."""

    code: str
    name: str
    vcpus: float | None
    peak_vcpus: int
    jobs_at_a_time: int


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

    @property
    def cost_usd(self) -> float | None:
        """Of all jobs; None if one's is not known."""
        costs = [row.cost_usd for row in self.rows]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

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
            "direct_jobs": self.direct_jobs,
        }


def forecast(
    candidates: Sequence[Candidate],
    *,
    region: str,
    refused: Sequence[Refused] = (),
    quotas: Mapping[str, float | None],
    jobs_at_a_time: int | None,
    local_jobs: int = 0,
) -> Forecast:
    """Put the jobs together. `quotas` are the account's limits by code."""
    groups: dict[tuple[str, str, Market], list[Candidate]] = defaultdict(list)
    for each in candidates:
        groups[each.rule, each.offers[0].instance_type.name, each.offers[0].market].append(each)
    sources = {each.offers[0].price.source for each in candidates if each.offers[0].price}
    return Forecast(
        region=region,
        rows=tuple(_row(jobs) for jobs in groups.values()),
        limits=tuple(_limits(candidates, quotas, jobs_at_a_time)),
        refused=tuple(refused),
        prices=tuple(sorted(sources)),
        local_jobs=local_jobs,
    )


def table(plan: Forecast) -> str:
    """The forecast for people."""
    lines: list[str] = []
    if plan.rows:
        header = (
            "rule",
            "jobs",
            "machine",
            "vCPU",
            "GiB",
            "market",
            "$/h",
            "time",
            "cost",
            "chosen as",
            "next",
        )
        rows = [_cells(row) for row in plan.rows]
        total = ("total", str(sum(row.jobs for row in plan.rows)), *[""] * 6, usd(plan.cost_usd), "", "")
        lines += lines_of(header, rows, total=total, right={1, 3, 4, 6, 7, 8})
    lines += _notes(plan)
    for each in plan.refused:
        lines.append(f"CANNOT RUN  {each.label}: {each.reason}")
    return "\n".join(lines)


def _row(jobs: Sequence[Candidate]) -> Row:
    first = jobs[0].offers[0]
    seconds = [each.seconds for each in jobs]
    known = [each for each in seconds if each is not None]
    costs = [_cost(each) for each in jobs]
    return Row(
        rule=jobs[0].rule,
        jobs=len(jobs),
        machine=first.instance_type.name,
        vcpus=first.instance_type.vcpus,
        mem_gib=first.instance_type.mem_mib / 1024,
        market=first.market.value,
        usd_per_hour=first.price.usd_per_hour if first.price else None,
        reason=_reason(jobs[0]),
        runner_up=_runner_up(jobs[0]),
        seconds=sum(known) if len(known) == len(seconds) else None,
        seconds_from="+".join(sorted({each.seconds_from for each in jobs} - {""})),
        cost_usd=None if None in costs else sum(cost for cost in costs if cost is not None),
        direct_jobs=sum(each.direct for each in jobs),
        overhead_s=sum(each.overhead_s for each in jobs),
    )


def _cost(job: Candidate) -> float | None:
    offer = job.offers[0]
    if job.seconds is None:
        return None
    machine = Machine(
        id="",
        instance_type=offer.instance_type.name,
        zone=offer.zones[0],
        market=offer.market,
        price=offer.price,
        disk_gib=job.disk_gib,
        launched_at=0.0,
    )
    return cost_usd(machine, job.seconds + job.overhead_s)


def _reason(job: Candidate) -> str:
    types = len({offer.instance_type.name for offer in job.offers})
    what = "the smallest" if job.offers[0].price is None else "the cheapest"
    of = f"of {types} types" if types > 1 else "and only type"
    return f"{what} {of} for {in_words(job.requirements)}"


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


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.rule,
        str(row.jobs),
        row.machine,
        str(row.vcpus),
        f"{row.mem_gib:g}",
        row.market,
        "?" if row.usd_per_hour is None else f"{row.usd_per_hour:.4g}",
        _time(row),
        usd(row.cost_usd),
        row.reason,
        row.runner_up,
    )


def _time(row: Row) -> str:
    if row.seconds is None:
        return "?"
    minutes = row.seconds / 60
    return f"{'≤ ' if 'runtime' in row.seconds_from else ''}{minutes:.3g} min"


def _notes(plan: Forecast) -> list[str]:
    notes = []
    if plan.local_jobs:
        notes.append(f"Jobs that run on this computer: {plan.local_jobs}.")
    if plan.rows:
        sources = Counter(row.seconds_from for row in plan.rows)
        if plan.direct_jobs:
            notes.append(
                f"Jobs that run their command without Snakemake on the machine: {plan.direct_jobs} of "
                f"{sum(row.jobs for row in plan.rows)}."
            )
        notes.append(
            f"Costs are estimates, with {_assumed(plan)}, and with each machine's disk and address; without "
            "traffic, retries and interruptions."
        )
        if any("runtime" in source for source in sources):
            notes.append(
                "≤: from the rules' runtime, which is a limit; a rule's benchmark: file of an earlier run "
                "gives a better estimate."
            )
        if "" in sources:
            notes.append("?: the rule has no runtime, and there is no benchmark: file of an earlier run.")
    notes.append(
        f"Prices in {plan.region}: {'; '.join(plan.prices) or 'not known, so the smallest type is taken'}."
    )
    for limit in plan.limits:
        allowed = "not known" if limit.vcpus is None else f"{limit.vcpus:g} vCPUs"
        text = f"Limit {limit.code} ({limit.name}): {allowed}; at most {limit.peak_vcpus} vCPUs "
        many = limit.jobs_at_a_time
        text += f"are needed, with {many} job{'s' * (many != 1)} at a time"
        if limit.vcpus is not None and limit.peak_vcpus > limit.vcpus:
            text += ": fewer jobs will run at a time, and the others wait"
        notes.append(text + ".")
    return notes


def _assumed(plan: Forecast) -> str:
    """The time that is added to each job."""
    jobs = sum(row.jobs for row in plan.rows)
    added = sum(row.overhead_s for row in plan.rows)
    with_software = f"{OVERHEAD_S:g} s a job assumed for boot, software and files"
    if added == jobs * OVERHEAD_S:
        return with_software
    without = f"{OVERHEAD_WITHOUT_SOFTWARE_S:g} s"
    if added == jobs * OVERHEAD_WITHOUT_SOFTWARE_S:
        return f"{without} a job assumed for boot and files"
    return f"{with_software} ({without} if nothing has to be installed before it)"


def merged(rows: Iterable[Candidate], seconds: Mapping[str, tuple[float, str]]) -> tuple[Candidate, ...]:
    """Candidates, with the times of their rules if they have none of their own."""
    return tuple(
        replace(each, seconds=seconds[each.rule][0], seconds_from=seconds[each.rule][1])
        if each.seconds is None and each.rule in seconds
        else each
        for each in rows
    )
