"""A summary of runs as one HTML page that needs nothing but itself.

Everything that Snakefiles, machines or EC2 have named is escaped by the template engine, and the page's
own policy allows no other script, style or request than those that it came with
(docs/decisions/0040-report-page.md).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from snakemake_executor_ec2.formatting import usd
from snakemake_executor_ec2.model import Phase
from snakemake_executor_ec2.report import charts
from snakemake_executor_ec2.report.export import is_rehearsal, notes
from snakemake_executor_ec2.report.failures import failures
from snakemake_executor_ec2.report.sizes import sizes
from snakemake_executor_ec2.report.summary import IDLE, PARTS, JobRow, MachineRow, RunRow, Summary

_FOLDER = Path(__file__).parent / "html"
_ROWS = 120
"""More machines than these are drawn in lanes."""
_MOST_JOBS = 2500
"""More rows make a page that takes long to open."""
_MOST_MACHINES = 4000
"""More than these are counted over time, and not drawn one by one."""
_MOST_RUNS = 12
_LONGEST = 120
"""Characters of a label in a table."""
_MB_PER_MIB = 2**20 / 10**6
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]+"
)
"""Control characters, those that change the direction of text, and what is none: no page may have them."""
_MEANINGS: dict[str, str] = {
    Phase.LAUNCH: "asking EC2, and waiting for capacity; not billed",
    Phase.BOOT: "until it can be logged in to",
    Phase.PREPARE: "software and inputs",
    Phase.RUN: "the job itself",
    Phase.STAGE_OUT: "fetching results",
    "clean": "removing a job's traces, for the next one",
    Phase.JOURNAL: "waiting for this computer's disk",
    Phase.TERMINATE: "asking EC2 to end it",
    IDLE: "billed, and no job at work",
}


@dataclass(frozen=True, kw_only=True)
class _Figure:
    """What is told first."""

    name: str
    value: str
    more: str = ""
    bad: bool = False


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """A run's charts: a row for each machine, or lanes."""

    run: RunRow
    axis: charts.Axis
    activity: charts.Activity | None
    rows: list[tuple[MachineRow, list[charts.Shape]]]
    lanes: charts.Lanes | None
    point_at: bool


def page(summary: Summary) -> str:
    """The page's text."""
    css, js = (Path(_FOLDER, name).read_text() for name in ("page.css", "page.js"))
    drawn = [each for run in summary.runs[-_MOST_RUNS:] if (each := _draw(run))]
    jobs = sorted(summary.total.jobs, key=lambda job: job.usd or 0.0, reverse=True)[:_MOST_JOBS]
    by_part = summary.total.usd_by_part
    return _engine().get_template("page.html").render(
        css=Markup(css),  # noqa: S704 - files of this package
        js=Markup(js),  # noqa: S704
        policy=_policy(css, js),
        title=_title(summary),
        subtitle=_subtitle(summary),
        summary=summary,
        figures=list(_figures(summary)),
        parts=[(part, _MEANINGS.get(part, "")) for part in PARTS],
        billed_parts=[part for part in PARTS if by_part.get(part, 0.0) > 0],
        job_parts=[part for part in PARTS if part != IDLE],
        drawn=drawn,
        undrawn=max(0, len(summary.runs) - _MOST_RUNS),
        most_usd=max((rule.usd or 0.0 for rule in summary.rules), default=0.0),
        cost_sentence=_cost_sentence(summary),
        sizes=sizes(summary.rules),
        failures=failures(summary.total.jobs),
        jobs=sorted(jobs, key=lambda job: job.began_at),
        notes=notes(summary),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _engine() -> Environment:
    engine = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    filters = {
        "css": lambda part: part.replace(" ", "-"),
        "stack": charts.stack,
        "time": _time,
        "clock": lambda at: f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M}",
        "usd": usd,
        "cents": _cents,
        "count": lambda number: f"{number:,}",
        "seconds": lambda seconds: "" if seconds is None else f"{seconds:.1f}",
        "range": _range,
        "figure": _figure_of,
        "percent": lambda share: f"{share:.0%}",
        "part_of_bar": lambda share: round(min(1.0, share) * charts.WIDTH),
        "shortened": _shortened,
        "jobs_text": _jobs_text,
        "type_text": _type_text,
        "parts_text": _parts_text,
        "machine_text": lambda row: f"{_jobs_text(row)} · {_type_text(row)} · {_parts_text(row)}",
        "memory": lambda job: _used(job, lambda usage, _: f"{usage.peak_mem_mib * _MB_PER_MIB:.0f}"),
        "busy": lambda job: _used(job, lambda usage, seconds: f"{usage.cpu_seconds / seconds:.2f}"),
    }  # fmt: skip
    engine.filters.update(filters)
    return engine


def _policy(css: str, js: str) -> str:
    """Nothing but the page's own style and script, by their digests; no request at all."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    rest = "img-src data:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; style-src {digest(css)}; script-src {digest(js)}; {rest}"


def _visible(value: Any) -> Any:
    """What the engine puts into the page, then escaped."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _INVISIBLE.sub("\ufffd", value)
    return value


def _draw(run: RunRow) -> _Drawn | None:
    axis = charts.axis(run)
    if axis is None:
        return None
    machines = [each for each in run.machines if each.spans]
    machines.sort(key=lambda each: each.spans[0].began_at)
    many = len(machines) > _ROWS
    return _Drawn(
        run=run,
        axis=axis,
        activity=charts.activity(run, axis) if len(machines) > 1 else None,
        rows=[] if many else [(each, charts.row(each, axis)) for each in machines],
        lanes=charts.lanes(run, axis) if many and len(machines) <= _MOST_MACHINES else None,
        point_at=len(machines) <= _MOST_JOBS,
    )


# --- words --------------------------------------------------------------------------------


def _title(summary: Summary) -> str:
    if len(summary.runs) == 1:
        return f"EC2 run {summary.runs[0].record.id}"
    return f"{len(summary.runs)} EC2 runs"


def _subtitle(summary: Summary) -> str:
    first, last = summary.runs[0], summary.runs[-1]
    where = first.record.where
    regions = ", ".join(sorted({run.record.region for run in summary.runs}))
    folder = f"{where.host}:{where.folder}, " if where else ""
    state = f", {first.state}" if len(summary.runs) == 1 else ""
    return (
        f"{folder}{regions}; {_moment(first.record.began_at)} to {_moment(last.ended_at)}{state}; "
        f"made {_moment(summary.made_at)}"
    )


def _figures(summary: Summary) -> Iterator[_Figure]:
    total = summary.total
    rehearsed = all(is_rehearsal(run) for run in summary.runs)
    yield _Figure(name="Would have cost" if rehearsed else "Cost, estimated", value=usd(total.usd))
    failed = total.failed_count
    yield _Figure(
        name="Jobs",
        value=f"{total.job_count:,}",
        more=f"{failed:,} failed" if failed else "none failed",
        bad=failed > 0,
    )
    each = total.job_count / total.machine_count if total.machine_count else 0.0
    more = f"{each:.1f} jobs each" if each >= 1.05 else ""
    yield _Figure(name="Machines", value=f"{total.machine_count:,}", more=more)
    yield _Figure(name="Machine time", value=_time(total.billed_s))
    if len(summary.runs) == 1:
        run = summary.runs[0]
        yield _Figure(name="Took", value=_time(run.ended_at - run.record.began_at))
    if total.usd:
        share = total.usd_by_part.get(Phase.RUN, 0.0) / total.usd
        yield _Figure(name="Spent while jobs ran", value=f"{share:.0%}")
    if summary.spot:
        saved = summary.saved_usd
        lost = sum(job.state == "lost" for machine in summary.spot for job in machine.jobs)
        yield _Figure(
            name="Saved by spot" if saved >= 0 else "Spot cost more by",
            value=usd(abs(saved)),
            more=f"spot machines: {len(summary.spot):,}; jobs lost on them: {lost:,}",
        )


def _cost_sentence(summary: Summary) -> str:
    """What beside the jobs themselves cost most."""
    by_part = {part: cost for part, cost in summary.total.usd_by_part.items() if part != Phase.RUN}
    total = summary.total.usd
    if not total:
        return "No price is known." if total is None else "Nothing was spent."
    if not by_part:
        return f"All of {usd(total)} was spent while jobs ran."
    part = max(by_part, key=lambda each: by_part[each])
    ran = summary.total.usd_by_part.get(Phase.RUN, 0.0) / total
    return (
        f"{ran:.0%} of {usd(total)} was spent while jobs ran; most of the rest, {by_part[part] / total:.0%}, "
        f"in the phase {part} ({_MEANINGS[part]})."
    )


def _jobs_text(row: MachineRow) -> str:
    first, *others = row.jobs
    label = _shortened(first.label, 60)
    return f"{label} and {len(others)} more" if others else label


def _type_text(row: MachineRow) -> str:
    machine = row.machine
    return f"{machine.instance_type}, {machine.market}, {machine.zone}" if machine else "never launched"


def _parts_text(row: MachineRow) -> str:
    seconds: dict[str, float] = {}
    for span in row.spans:
        seconds[span.part] = seconds.get(span.part, 0.0) + span.seconds
    return ", ".join(f"{part} {_time(seconds[part])}" for part in PARTS if part in seconds)


def _used(job: JobRow, text: Any) -> str:
    result = job.result
    return text(result.usage, result.seconds) if result and result.seconds > 0 else ""


def _shortened(text: str, most: int = _LONGEST) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _cents(amount: float) -> str:
    """Empty for nothing, which is not the same as little."""
    if not amount:
        return ""
    return usd(amount) if amount >= 0.00005 else "< $0.0001"


def _range(asked: tuple[float, float]) -> str:
    return "–".join(_figure_of(each) for each in dict.fromkeys(asked))


def _figure_of(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 or amount == int(amount) else f"{amount:.2g}"


def _time(seconds: float | None) -> str:
    """As short as can be."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (seconds >= length and seconds % length == 0):
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds else "0"


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M %Z}"
