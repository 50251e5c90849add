"""What earlier runs in a folder have cost, for a budget that counts over them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from snakemake_executor_ec2.model import Machine
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.rows import MachineRecord
from snakemake_executor_ec2.sizing.cost import cost_usd

RUN, FOLDER, MONTH = "run", "folder", "month"


def before_usd(journal: Journal, period: str, now: float) -> dict[str, float]:
    """The estimated cost of each machine that earlier calls in this folder have launched, in this
    calendar month (UTC) or ever. Up to now for those that may still run."""
    since = {RUN: now, FOLDER: 0.0, MONTH: _month_began(now)}[period]
    return dict(_costs(journal, since, now))


def _costs(journal: Journal, since: float, now: float) -> Iterator[tuple[str, float]]:
    leases = {run.id: journal.last_seen(run) + run.lease_s for run in journal.runs(closed=True)}
    at_work = {attempt.on.id for attempt in journal.attempts() if not attempt.end_reason}
    for each in journal.machines():
        if each.machine is not None and each.machine.launched_at >= since:
            until = min(now, leases.get(each.owner, now))
            yield each.machine.id, _cost(each, each.machine, until, at_work=each.id in at_work)


def _cost(record: MachineRecord, machine: Machine, until: float, *, at_work: bool) -> float:
    """What was noted, or more if a job was at work longer than anybody noted."""
    if record.ended_at is not None:
        until = record.ended_at
    elif record.usd is not None and not at_work:
        return record.usd
    return max(record.usd or 0.0, cost_usd(machine, until - machine.launched_at) or 0.0)


def _month_began(now: float) -> float:
    at = datetime.fromtimestamp(now, UTC)
    return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
