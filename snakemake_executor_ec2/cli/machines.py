"""What `ps` and `gc` know of each machine: EC2's word, this folder's journal, and a verdict. Pure
but for `gather`."""

from __future__ import annotations

from dataclasses import dataclass

from snakemake_executor_ec2.attempts import Attempt, RunRecord
from snakemake_executor_ec2.aws.inventory import Found, Inventory
from snakemake_executor_ec2.journal import Journal

MARGIN_S = 600.0
"""How long after its tag says so a machine of somebody else counts as overdue: clocks differ."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One machine."""

    found: Found
    attempt: Attempt | None
    """None where this folder's journal does not know it."""
    run_alive: bool
    lease_until: float | None
    """How long it waits at most for a run that does not come; None where we cannot know."""
    orphan: str
    """Why nobody will come back for it; empty: somebody may."""


def gather(inventory: Inventory, journal: Journal | None, now: float) -> list[Row]:
    """All machines of this tool in the account and region, oldest first."""
    here = (inventory.region, inventory.endpoint)
    everyone = journal.runs(closed=True) if journal else []
    runs = {run.id: run for run in everyone if (run.region, run.endpoint) == here}
    attempts = {each.machine.id: each for each in journal.attempts() if each.machine} if journal else {}
    rows = []
    for found in inventory.machines():
        run = runs.get(found.run)
        attempt = attempts.get(found.id) if run else None
        owner = runs.get(attempt.owner, run) if attempt else run
        alive = journal is not None and any(journal.is_alive(each.id) for each in (run, owner) if each)
        lease_until = journal.last_seen(owner) + owner.lease_s if journal and owner else None
        orphan = "" if alive else why_orphan(found, attempt, run, lease_until, now)
        rows.append(
            Row(found=found, attempt=attempt, run_alive=alive, lease_until=lease_until, orphan=orphan)
        )
    return rows


def why_orphan(
    found: Found, attempt: Attempt | None, run: RunRecord | None, lease_until: float | None, now: float
) -> str:
    """Why a machine without a living run may be ended by anybody; empty where it may not.

    Only its own folder's journal knows that a run is dead. For the machines of others nothing
    counts but their own tag, which says when they end whatever happens.
    """
    if run is None:
        overdue = found.expires_at is not None and now > found.expires_at + MARGIN_S
        return "its lifetime is over" if overdue else ""
    if attempt is None:
        return "its run is dead and never heard of its launch"
    if attempt.kept_until is not None:
        return "" if now < attempt.kept_until else "the time to look at its failed job is over"
    if not attempt.may_go_on:
        return "its run is dead and no job works on it"
    return "its run is dead and its lease is over" if lease_until and now > lease_until else ""
