"""A forecast for people, in 100 columns. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from snakemake_executor_ec2.formatting import span, usd
from snakemake_executor_ec2.report.forecast import (
    NEXT_S,
    NEXT_WITHOUT_SOFTWARE_S,
    OVERHEAD_S,
    OVERHEAD_WITHOUT_SOFTWARE_S,
    RUNTIME,
    Forecast,
    Limit,
    Row,
)
from snakemake_executor_ec2.report.table import WIDTH, paragraph
from snakemake_executor_ec2.report.table import table as lines_of

_HEADER = ("rule", "jobs", "machine", "vCPU", "GiB", "market", "$/h", "time", "cost")
_UNLIMITED = 10**9
"""Snakemake's `-j unlimited` is some such number."""
_NAMED = 4
"""So many rules are named; of more, the number is."""


def table(plan: Forecast) -> str:
    """All that is to be said of it."""
    lines: list[str] = []
    if plan.rows:
        total = ("total", str(_jobs(plan)), *[""] * 5, _total_time(plan), _total_cost(plan))
        cells = [_cells(row) for row in plan.rows]
        lines += lines_of(_HEADER, cells, total=total, right={1, 3, 4, 6, 7, 8}, fit=WIDTH)
        lines += ["", *_reuse(plan), "", *_reasons(plan), ""]
    elif not plan.refused:
        lines += _nothing(plan)
    for note in _notes(plan):
        lines += paragraph(note, indent="  ")
    lines += [f"CANNOT RUN  {each.label}: {each.reason}" for each in plan.refused]
    return "\n".join(lines)


def beside(declared: Forecast, learned: Forecast, *, rules: int) -> str:
    """The cost of the sizes that the workflow declares, and of those that `advise` would write for so many
    of its `rules`."""
    header = ("rule", "jobs", "declared", "$/h", "cost", "advised", "$/h", "cost")
    before, after = _by_rule(declared), _by_rule(learned)
    rows = []
    for rule in before:
        if rule in after:
            rows.append((rule, str(before[rule][0]), *before[rule][1:], *after[rule][1:]))
    total = ("total", "", "", "", _total_cost(declared), "", "", _total_cost(learned))
    lines = ["", *lines_of(header, rows, total=total, right={1, 3, 4, 6, 7}, fit=WIDTH)]
    text = f"Advised: the sizes that `snakemake-ec2 advise` writes, for {rules} of these rules."
    lines += paragraph(f"{text} Nothing is changed.", indent="  ")
    lines += [f"CANNOT RUN with advised sizes  {each.label}: {each.reason}" for each in learned.refused]
    return "\n".join(lines)


def _by_rule(plan: Forecast) -> dict[str, tuple[int, str, str, str]]:
    """Jobs, machines, the price of an hour and the cost, for each rule."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in plan.rows:
        rows[row.rule].append(row)
    found = {}
    for rule, its in rows.items():
        first = max(its, key=lambda row: row.jobs)
        more = f" +{len(its) - 1}" if len(its) > 1 else ""
        unknown = any(row.cost_usd is None for row in its)
        cost = "?" if unknown else usd(sum(row.cost_usd or 0.0 for row in its))
        found[rule] = (sum(row.jobs for row in its), first.machine + more, _per_hour(first), cost)
    return found


# --- the table ----------------------------------------------------------------------------


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.rule,
        f"{row.jobs:,}",
        row.machine,
        str(row.vcpus),
        f"{row.mem_gib:g}",
        row.market,
        _per_hour(row),
        "?" if row.seconds is None else f"{_limit_sign(row)}{span(row.seconds)}",
        usd(row.cost_usd),
    )


def _per_hour(row: Row) -> str:
    return "?" if row.usd_per_hour is None else f"{row.usd_per_hour:.4g}"


def _limit_sign(row: Row) -> str:
    return "≤ " if RUNTIME in row.seconds_from else ""


def _jobs(plan: Forecast) -> int:
    return sum(row.jobs for row in plan.rows)


def _has_limits(plan: Forecast) -> bool:
    return any(RUNTIME in row.seconds_from for row in plan.rows)


def _has_prices(plan: Forecast) -> bool:
    return all(row.usd_per_hour is not None for row in plan.rows)


def _total_time(plan: Forecast) -> str:
    known = [row.seconds for row in plan.rows if row.seconds is not None]
    if len(known) < len(plan.rows):
        return ""
    return ("≤ " if _has_limits(plan) else "") + span(sum(known))


def _total_cost(plan: Forecast) -> str:
    if plan.cost_usd is not None:
        return usd(plan.cost_usd)
    if not plan.at_least_usd:
        return "?"
    sign = "" if _has_limits(plan) else "≥ "
    return f"{sign}{usd(plan.at_least_usd)}{' + ?' if _has_limits(plan) else ''}"


def _reuse(plan: Forecast) -> list[str]:
    """Machines, time and cost of the run as a whole, with each way of using machines."""
    any_number = plan.at_a_time is None or plan.at_a_time >= _UNLIMITED
    at_a_time = "any number of jobs" if any_number else f"-j {plan.at_a_time}"
    known = plan.unknown_jobs == 0
    sign = ("≤ " if _has_limits(plan) else "") if known else ("" if _has_limits(plan) else "≥ ")
    rows = []
    for number, each in enumerate(plan.totals):
        cost = usd(each.usd) if known and _has_prices(plan) else "?" if each.usd is None else usd(each.usd)
        rest = " + ?" if not (known and _has_prices(plan)) and each.usd is not None else ""
        name = str(each.reuse) + (" (this run's)" if number == 0 else "")
        rows.append((name, f"{each.machines:,}", sign + span(each.wall_s), cost + rest))
    header = ("--ec2-reuse", "machines", f"time with {at_a_time}", "cost")
    return lines_of(header, rows, right={1, 2, 3})


def _reasons(plan: Forecast) -> Iterator[str]:
    """Why each machine was chosen, and what comes next, once for all rules of which it is true."""
    rules: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in plan.rows:
        rules[row.machine, row.reason, row.runner_up].append(row.rule)
    for (machine, reason, runner_up), names in rules.items():
        following = f"; next: {runner_up}" if runner_up else ""
        yield from paragraph(f"{machine} ({_some(names)}): {reason}{following}", indent="  ")


def _some(names: list[str]) -> str:
    """A few names, or how many there are."""
    if len(names) > _NAMED:
        return f"{', '.join(names[: _NAMED - 1])} and {len(names) - _NAMED + 1} more rules"
    return ", ".join(names)


# --- what is to be known of it ------------------------------------------------------------


def _nothing(plan: Forecast) -> list[str]:
    if plan.local_jobs:
        return ["No job would get a machine."]
    return ["Nothing to be done: all that is asked for is there, and up to date."]


def _notes(plan: Forecast) -> Iterator[str]:
    if plan.local_jobs:
        yield f"Jobs that run on this computer: {plan.local_jobs}."
    if not plan.rows:
        return
    if plan.direct_jobs:
        yield (
            f"Jobs that run their command without Snakemake on the machine: {plan.direct_jobs} of "
            f"{_jobs(plan)}."
        )
    if plan.unknown_jobs:
        yield _unknown(plan)
    yield (
        f"The jobs that wait for one another take {_limits_sign(plan)}{span(plan.longest_s)}, however many "
        "machines there are."
    )
    yield (
        f"Costs are estimates, with {_besides(plan)}, and with each machine's disk and address, 60 s at "
        "least; without traffic, retries and interruptions."
    )
    yield from _sources(plan)
    yield f"Prices in {plan.region}: {'; '.join(plan.prices) or 'not known, so the smallest type is taken'}."
    yield from map(_limit, plan.limits)


def _limits_sign(plan: Forecast) -> str:
    if plan.unknown_jobs:
        return "" if _has_limits(plan) else "at least "
    return "at most " if _has_limits(plan) else "about "


def _unknown(plan: Forecast) -> str:
    """What is known beside what is not."""
    names = _some(sorted({row.rule for row in plan.rows if row.unknown_jobs}))
    known = f"{usd(plan.at_least_usd)} by the rules' limits" if _has_limits(plan) else usd(plan.at_least_usd)
    known = known if _has_limits(plan) else f"at least {known}"
    known = known if plan.at_least_usd else "nothing is known"
    many = plan.unknown_jobs
    return (
        f"Cost: {known}, and {many} job{'s' * (many != 1)} without `runtime` ({names}), of which there is no "
        "benchmark: file and no earlier run either. No time is counted for their work."
    )


def _besides(plan: Forecast) -> str:
    """The time that is added to each job."""
    learned = [row for row in plan.rows if row.overhead_from != "assumed"]
    assumed = [row for row in plan.rows if "assumed" in row.overhead_from]
    told = (
        f"the median of earlier runs here for boot, software and files ({_some([r.rule for r in learned])})"
    )
    if not assumed:
        return told
    with_software = any(row.direct_jobs < row.jobs for row in assumed)
    without = any(row.direct_jobs for row in assumed)
    usual = (
        f"{OVERHEAD_S:g} s assumed for boot, software and files of a new machine, {NEXT_S:g} s of a used one"
    )
    other = f"{OVERHEAD_WITHOUT_SOFTWARE_S:g} s and {NEXT_WITHOUT_SOFTWARE_S:g} s"
    if not with_software:
        usual = f"{other} assumed for boot and files of a new and of a used machine"
    elif without:
        usual += f" ({other} if nothing has to be installed)"
    return f"{told}; {usual} (others)" if learned else usual


def _sources(plan: Forecast) -> Iterator[str]:
    """Where the times of jobs are from."""
    sources = {source for row in plan.rows for source in row.seconds_from.split("+")}
    if RUNTIME in sources:
        others = sources - {RUNTIME, ""}
        yield (
            "≤: from the rules' runtime, which is a limit; an earlier run in this folder, or a rule's "
            "benchmark: file, gives a better estimate."
            + (" Totals with ≤ count the expected time of all other rules." if others else "")
        )
    for source, words in (
        ("earlier runs", "the median of its earlier runs in this folder"),
        ("rehearsals", "the median of rehearsals on this computer"),
    ):
        rules = [row.rule for row in plan.rows if source in row.seconds_from.split("+")]
        if rules:
            yield f"Time of a job: {words} ({_some(rules)})."


def _limit(limit: Limit) -> str:
    allowed = "not known" if limit.vcpus is None else f"{limit.vcpus:g} vCPUs"
    many = limit.jobs_at_a_time
    text = f"Limit {limit.code} ({limit.name}): {allowed}; at most {limit.peak_vcpus} vCPUs are needed, with "
    text += f"{many} job{'s' * (many != 1)} at a time"
    if limit.vcpus is not None and limit.peak_vcpus > limit.vcpus:
        text += ": fewer jobs will run at a time, and the others wait"
    return text + "."
