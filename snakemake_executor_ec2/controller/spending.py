"""What earlier runs in a folder have cost, for a budget that counts over them."""

from __future__ import annotations

from datetime import UTC, datetime

from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.lives import lives

RUN, FOLDER, MONTH = "run", "folder", "month"


def before_usd(journal: Journal, period: str, now: float) -> dict[str, float]:
    """The estimated cost of each machine that earlier calls in this folder have launched, in this
    calendar month (UTC) or ever. Up to now for those that may still run."""
    since = {RUN: now, FOLDER: 0.0, MONTH: _month_began(now)}[period]
    known = lives(journal, now)
    return {
        each.machine.id: known[each.id].usd or 0.0
        for each in journal.machines()
        if each.machine is not None and each.machine.launched_at >= since and each.id in known
    }


def _month_began(now: float) -> float:
    at = datetime.fromtimestamp(now, UTC)
    return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
