"""What earlier runs in a folder have cost, for a budget that counts over them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.rows import Attempt
from snakemake_executor_ec2.sizing.cost import cost_usd

RUN, FOLDER, MONTH = "run", "folder", "month"


def before_usd(journal: Journal, period: str, now: float) -> dict[str, float]:
    """The estimated cost of each machine that earlier calls in this folder have launched, in this
    calendar month (UTC) or ever. Up to now for those that may still run."""
    since = {RUN: now, FOLDER: 0.0, MONTH: _month_began(now)}[period]
    return dict(_costs(journal, since, now))


def _costs(journal: Journal, since: float, now: float) -> Iterator[tuple[str, float]]:
    leases = {run.id: journal.last_seen(run) + run.lease_s for run in journal.runs(closed=True)}
    for attempt in journal.attempts():
        if attempt.machine is not None and attempt.machine.launched_at >= since:
            yield attempt.machine.id, _cost(attempt, min(now, leases.get(attempt.owner, now)))


def _cost(attempt: Attempt, until: float) -> float:
    """What was noted, or more if its machine has run longer than anybody noted."""
    assert attempt.machine is not None
    if attempt.ended_at is not None:
        until = attempt.ended_at
    elif attempt.ending and attempt.usd is not None:
        return attempt.usd
    return max(attempt.usd or 0.0, cost_usd(attempt.machine, until - attempt.machine.launched_at) or 0.0)


def _month_began(now: float) -> float:
    at = datetime.fromtimestamp(now, UTC)
    return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
