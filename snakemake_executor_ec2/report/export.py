"""A summary of runs as JSON and CSV, for programs; and as tables for a terminal. Pure.

Times are seconds, or UTC in ISO 8601; costs are estimates in US dollars, `null` or empty if a price is not
known.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from snakemake_executor_ec2.formatting import span, usd
from snakemake_executor_ec2.report.failures import failures
from snakemake_executor_ec2.report.sizes import sizes
from snakemake_executor_ec2.report.summary import PARTS, JobRow, MachineRow, RunRow, Sum, Summary
from snakemake_executor_ec2.report.table import table

_JOB_COLUMNS = (
    "run", "rule", "job", "key", "state", "reason", "machine", "machine_type", "began_at",
    *(f"{part.replace(' ', '_')}_s" for part in PARTS[:-1]), "billed_s", "usd",
    "threads", "mem_mb", "disk_mb", "exit_code", "cpu_s", "peak_mem_mib", "peak_disk_mib",
)  # fmt: skip
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_COST_COLUMNS = ("run", "began_at", "state", "rule", "jobs", "machines", "billed_s", "usd")


def jobs_csv(summary: Summary) -> str:
    """A line for each attempt at a job."""
    rows = [_job(job) for job in summary.total.jobs]
    return _csv(_JOB_COLUMNS, ([row[name] for name in _JOB_COLUMNS] for row in rows))


def jobs_rst(summary: Summary) -> str:
    """The jobs as a table in reStructuredText, for the text that Snakemake's report shows first. Cells are
    CSV, whose text is marked as literal: names may look like markup."""
    header = ("job", "machine", "ended", "ran for", "cost")
    rows = (
        (job.label, job.machine_type, job.state, span(job.seconds.get("run", 0.0)), usd(job.usd))
        for job in summary.total.jobs
    )
    text = _csv(header, ([_literal(cell) for cell in row] for row in rows))
    total = summary.total
    jobs, machines = _several(total.job_count, "job"), _several(total.machine_count, "machine")
    title = f"EC2: {jobs} on {machines}, {usd(total.usd)}"
    lines = [f".. csv-table:: {title}", "   :header-rows: 1", ""]
    lines += [f"   {line}" for line in text.splitlines()]
    return "\n".join([*lines, "", *notes(summary), ""])


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _literal(text: str) -> str:
    words = " ".join(_INVISIBLE.sub(" ", text).replace("`", "'").split())
    return f"``{words}``" if words else ""


def costs_csv(summary: Summary) -> str:
    """A line for each rule of each run."""
    return _csv(
        _COST_COLUMNS,
        (
            (
                run.record.id, _utc(run.record.began_at), run.state, each.name, each.job_count,
                each.machine_count, round(each.billed_s, 1), _amount(each.usd),
            )
            for run in summary.runs
            for each in by_rule(run.total)
        ),
    )  # fmt: skip


def costs_json(summary: Summary) -> dict[str, Any]:
    """Runs, rules and all together, without single jobs."""
    return {
        "made_at": _utc(summary.made_at),
        "price_sources": summary.price_sources,
        "total": _sum(summary.total),
        "runs": [_run(run) for run in summary.runs],
        "rules": [{"rule": each.name, **_sum(each)} for each in summary.rules],
    }


def report_json(summary: Summary) -> dict[str, Any]:
    """All that the HTML page shows."""
    return costs_json(summary) | {
        "spot": {"machines": len(summary.spot), "saved_usd": _amount(summary.saved_usd)},
        "sizes": [asdict(each) for each in sizes(summary.rules)],
        "failures": [
            {
                "rule": each.rule, "state": each.state, "reason": each.reason, "count": each.count,
                "usd": _amount(each.usd), "done_again": each.done_again, "example": each.example.label,
            }
            for each in failures(summary.total.jobs)
        ],
        "machines": [_machine(each) for each in summary.machines],
        "jobs": [_job(job) for job in summary.total.jobs],
    }  # fmt: skip


def costs_text(summary: Summary) -> str:
    """Two tables for a terminal: by run, and by rule."""
    runs = [
        (
            run.record.id, run.state, *_counts(run.total), span(run.total.billed_s),
            usd(run.total.usd),
        )
        for run in summary.runs
    ]  # fmt: skip
    total = summary.total
    all_of_it = ("total", "", *_counts(total), span(total.billed_s), usd(total.usd))
    header = ("run", "", "jobs", "machines", "machine time", "cost")
    lines = [*table(header, runs, total=all_of_it, right=range(2, 6)), ""]
    rules = [
        (each.name, *_counts(each), span(each.billed_s), usd(each.usd), share(each, total))
        for each in summary.rules
    ]
    lines += table(("rule", "jobs", "machines", "machine time", "cost", ""), rules, right=range(1, 6))
    return "\n".join([*lines, "", *notes(summary)])


def notes(summary: Summary) -> list[str]:
    """What one has to know to read the amounts."""
    said = [
        "Costs are estimates: machine, disk and address from launch to termination, without traffic.",
        "Each machine is billed for a minute at least.",
    ]
    if summary.total.unknown_prices:
        said.append(f"No price is known for {summary.total.unknown_prices} of the machines.")
    if elsewhere := [run for run in summary.runs if is_rehearsal(run)]:
        which = "These runs were" if len(elsewhere) == len(summary.runs) else f"{len(elsewhere)} runs were"
        said.append(f"{which} on the embedded cloud: on EC2 they would have cost this.")
    if summary.price_sources:
        said.append(f"Prices: {'; '.join(summary.price_sources)}.")
    return said


def is_rehearsal(run: RunRow) -> bool:
    """Whether its EC2 was on the user's own computer."""
    host = run.record.endpoint.partition("://")[2].partition("/")[0]
    return host.startswith(("127.", "localhost", "[::1]"))


def by_rule(total: Sum) -> list[Sum]:
    """The parts of a sum, the most expensive first."""
    found: dict[str, list[JobRow]] = {}
    for job in total.jobs:
        found.setdefault(job.rule, []).append(job)
    sums = [Sum(name=rule, jobs=tuple(jobs)) for rule, jobs in found.items()]
    return sorted(sums, key=lambda each: (-(each.usd or 0.0), -each.billed_s, each.name))


def share(part: Sum, total: Sum) -> str:
    """Of the costs, in per cent; empty if they are not known."""
    return f"{(part.usd or 0.0) / total.usd:.0%}" if total.usd else ""


def _counts(total: Sum) -> tuple[str, str]:
    return f"{total.job_count:,}", f"{total.machine_count:,}"


def _sum(total: Sum) -> dict[str, Any]:
    return {
        "jobs": total.job_count,
        "failed": total.failed_count,
        "machines": total.machine_count,
        "billed_s": round(total.billed_s, 1),
        "usd": _amount(total.usd),
        "usd_by_part": {part: _amount(total.usd_by_part.get(part, 0.0)) for part in PARTS},
        "states": dict(total.states),
        "machines_without_price": total.unknown_prices,
    }


def _run(run: RunRow) -> dict[str, Any]:
    return {
        "run": run.record.id,
        "began_at": _utc(run.record.began_at),
        "ended_at": None if run.state == "running" else _utc(run.ended_at),
        "state": run.state,
        "region": run.record.region,
        "endpoint": run.record.endpoint,
        **_sum(run.total),
    }


def _machine(row: MachineRow) -> dict[str, Any]:
    machine = row.machine
    return {
        "run": row.run,
        "machine": machine and machine.id,
        "type": machine and machine.instance_type,
        "zone": machine and machine.zone,
        "market": machine and machine.market,
        "launched_at": machine and _utc(machine.launched_at),
        "billed_s": round(row.billed_s, 1),
        "usd": _amount(row.usd),
        "saved_usd": _amount(row.saved_usd),
        "jobs": [job.key for job in row.jobs],
        "parts": [
            {"part": part.part, "began_at": _utc(part.began_at), "seconds": round(part.seconds, 1)}
            for part in row.spans
        ],
    }


def _job(job: JobRow) -> dict[str, Any]:
    result = job.result
    usage = result and result.usage
    return {
        "run": job.run,
        "rule": job.rule,
        "job": job.label,
        "key": job.key,
        "state": job.state,
        "reason": job.reason,
        "machine": job.machine,
        "machine_type": job.machine_type,
        "began_at": _utc(job.began_at),
        **{f"{part.replace(' ', '_')}_s": round(job.seconds.get(part, 0.0), 2) for part in PARTS[:-1]},
        "billed_s": round(job.billed_s, 1),
        "usd": _amount(job.usd),
        "threads": job.asked.threads,
        "mem_mb": job.asked.mem_mb,
        "disk_mb": job.asked.disk_mb,
        "exit_code": result and result.exit_code,
        "cpu_s": usage and usage.cpu_seconds,
        "peak_mem_mib": usage and usage.peak_mem_mib,
        "peak_disk_mib": usage and usage.peak_disk_mib,
    }


def _amount(amount: float | None) -> float | None:
    """To a millionth of a dollar."""
    return None if amount is None else round(amount, 6)


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(each) for each in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    """A spreadsheet must not take a text for a formula: names of rules and what machines say are others'."""
    if isinstance(value, str) and value[:1] in tuple("=+-@\t\r"):
        return "'" + value
    return value
