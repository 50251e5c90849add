"""A run at one moment, as `snakemake-ec2 watch` shows it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from snakemake_executor_ec2.formatting import size, span, usd
from snakemake_executor_ec2.model import Phase
from snakemake_executor_ec2.records.live import Moving, Use
from snakemake_executor_ec2.records.rows import Attempt, MachineRecord, RunRecord
from snakemake_executor_ec2.report.past import is_rehearsal
from snakemake_executor_ec2.report.table import cut, table
from snakemake_executor_ec2.report.transfers import moved
from snakemake_executor_ec2.sizing.cost import cost_usd, usd_per_hour

_DOES: dict[str, str] = {
    Phase.LAUNCH: "waits for a machine",
    Phase.BOOT: "machine starts",
    Phase.PREPARE: "software, inputs",
    Phase.RUN: "runs",
    Phase.STAGE_OUT: "results",
    Phase.TERMINATE: "machine ends",
}
_FIRST = (Phase.RUN, Phase.STAGE_OUT, Phase.PREPARE, Phase.BOOT, Phase.LAUNCH)
_LEAST_ROWS = 12


@dataclass(frozen=True, kw_only=True)
class Now:
    """What is known of a run."""

    run: RunRecord
    attempts: Sequence[Attempt]
    """On machines that it launched or took over, in order."""
    machines: Sequence[MachineRecord]
    uses: Mapping[str, Use]
    moving: Mapping[str, Moving]
    now: float
    alive: bool


def view(at: Now, *, columns: int, rows: int) -> list[str]:
    """Lines that fit a terminal: money and counts, then jobs under way, those that run first."""
    under_way = [each for each in at.attempts if not each.end_reason] if at.alive else []
    under_way.sort(key=lambda each: (_rank(each.phase), each.id))
    lines = [*_head(at), *_counts(at, under_way)]
    shown = under_way[: max(_LEAST_ROWS, rows - len(lines) - 4)]
    if shown:
        header = ("job", "does", "for", "machine", "CPU", "memory", "")
        cells = [_row(each, at) for each in shown]
        lines += ["", *table(header, cells, right=(2,), fit=columns)]
    if others := len(under_way) - len(shown):
        lines.append(f"and {others} more")
    return [cut(line, columns) for line in lines]


def _rank(phase: Phase) -> int:
    return _FIRST.index(phase) if phase in _FIRST else len(_FIRST)


def _head(at: Now) -> Iterable[str]:
    spent = [_cost(each, at.now) for each in at.machines if each.machine]
    known = [each for each in spent if each is not None]
    hourly = sum(
        usd_per_hour(each.machine.price, each.machine)
        for each in at.machines
        if each.machine and each.machine.price and each.ended_at is None and at.alive
    )
    until = at.now if at.alive else (at.run.ended_at or at.now)
    would = "would have cost" if is_rehearsal(at.run) else "estimated cost"
    state = "" if at.alive else ", over"
    amount = usd(sum(known) if known or not spent else None)
    more = f", {usd(hourly)} an hour now" if hourly else ""
    yield f"run {at.run.id}{state}: {span(until - at.run.began_at)}, {would} {amount}{more}"


def _cost(record: MachineRecord, now: float) -> float | None:
    assert record.machine is not None
    if record.ended_at is None and record.usd is not None and record.machine.price is None:
        return record.usd
    return cost_usd(record.machine, (record.ended_at or now) - record.machine.launched_at)


def _counts(at: Now, under_way: Sequence[Attempt]) -> Iterable[str]:
    last = {each.label: each.end_reason for each in at.attempts}
    ends = Counter("failed" if end in ("failed", "lost") else end for end in last.values() if end)
    waiting = sum(each.phase is Phase.LAUNCH for each in under_way)
    jobs = {"under way": len(under_way) - waiting, "waiting for a machine": waiting, **ends}
    told = [f"{count} {what}" for what, count in jobs.items() if count]
    there = [each for each in at.machines if each.machine and each.ended_at is None] if at.alive else []
    busy = {each.on.id for each in under_way}
    idle = sum(each.id not in busy for each in there)
    more = f", {idle} idle" if idle else ""
    yield f"jobs: {', '.join(told) or 'none yet'}; machines: {len(there)}{more}"


def _row(attempt: Attempt, at: Now) -> tuple[str, ...]:
    machine, asked = attempt.machine, attempt.asked
    use, moving = at.uses.get(attempt.key), at.moving.get(attempt.key)
    runs = attempt.phase is Phase.RUN and use is not None and use.mem_mib > 0
    since = attempt.began_at + sum(attempt.seconds.values())
    return (
        attempt.label,
        _DOES.get(attempt.phase, str(attempt.phase)),
        span(max(0.0, at.now - since)),
        f"{machine.instance_type} {machine.id}" if machine else "",
        f"{use.cores:.1f} of {asked.threads}" if runs and use else "",
        f"{size(round(use.mem_mib * 2**20))} of {size(asked.mem_mb * 10**6)}" if runs and use else "",
        f"{moving.way} it {moved(moving.done, moving.total, moving.per_s)}" if moving else "",
    )
