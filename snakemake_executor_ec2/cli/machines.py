"""What the commands know of each machine: what EC2 says, what its folder's journal says, and whether its run
is alive. Pure but for `gather` and `end`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_ec2.aws.inventory import Found, Inventory
from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.records import whereabouts
from snakemake_executor_ec2.records.journal import FOLDER, Journal
from snakemake_executor_ec2.records.rows import Attempt, RunRecord
from snakemake_executor_ec2.records.whereabouts import Verdict
from snakemake_executor_ec2.tags import AWAY_RULE

MARGIN_S = 600.0
"""How long after the end that its tag names a machine of others counts as overdue: clocks differ."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One machine."""

    found: Found
    attempt: Attempt | None
    """None if no journal that can be read here knows it."""
    verdict: Verdict | None
    """Of its run; None: no journal that can be read here knows it."""
    lease_until: float | None
    """How long it waits at most for a run that does not come; None if we cannot know."""
    orphan: str
    """Why no run will resume it; empty: one may."""
    ours: bool
    """Its run is in the journal of the folder that we are asked about."""
    copied: bool = False
    """The journal was copied from the run's own folder: the machine does not belong to this one."""

    @property
    def run_alive(self) -> bool:
        return self.verdict is Verdict.ALIVE

    @property
    def is_away(self) -> bool:
        """It is the controller of a run that is away."""
        return self.found.rule == AWAY_RULE

    @property
    def has_lease(self) -> bool:
        """Whether an agent keeps a lease there; before, only the timer of its boot ends it."""
        return self.attempt is None or self.attempt.on.lease_s is not None or self.attempt.on.claim_s is None


class _Known:
    """What one journal knows, read once."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.runs = {run.id: run for run in journal.runs(closed=True)}
        self.attempts = {each.machine.id: each for each in journal.attempts() if each.machine}
        self._verdicts: dict[str, Verdict] = {}

    def verdict(self, run: RunRecord) -> Verdict:
        if run.id not in self._verdicts:
            self._verdicts[run.id] = self.journal.verdict(run)
        return self._verdicts[run.id]


def gather(inventory: Inventory, journal: Journal | None, now: float) -> list[Row]:
    """All machines of this tool in the account and region, oldest first."""
    known = _Known(journal) if journal else None
    rows = []
    with _others() as other:
        for found in inventory.machines():
            row = _row(found, inventory, known, now, ours=True)
            if row.verdict is None:
                # Another folder of this computer: its own journal knows.
                row = _row(found, inventory, other(found.folder), now, ours=False)
            rows.append(row)
    return rows


def _row(found: Found, inventory: Inventory, known: _Known | None, now: float, *, ours: bool) -> Row:
    run = known.runs.get(found.run) if known else None
    if known is None or run is None or (run.region, run.endpoint) != (inventory.region, inventory.endpoint):
        orphan = why_orphan(found, None, None, None, now)
        return Row(found=found, attempt=None, verdict=None, lease_until=None, orphan=orphan, ours=False)
    attempt = known.attempts.get(found.id)
    owner = known.runs.get(attempt.on.owner, run) if attempt else run
    verdicts = {known.verdict(run), known.verdict(owner)}
    verdict = next(each for each in (Verdict.ALIVE, Verdict.ELSEWHERE, Verdict.DEAD) if each in verdicts)
    until = ends_at(known.journal.last_seen(owner), owner, attempt, found)
    orphan = why_orphan(found, attempt, run, until, now) if ours and verdict is Verdict.DEAD else ""
    copied = run.where is not None and known.journal.here.is_copy_of(run.where)
    return Row(
        found=found,
        attempt=attempt,
        verdict=verdict,
        lease_until=until,
        orphan=orphan,
        ours=ours,
        copied=copied and verdict is Verdict.ELSEWHERE,
    )


def ends_at(last_seen: float, owner: RunRecord, attempt: Attempt | None, found: Found) -> float:
    """Until when a machine waits: for its run, or, where no agent has come yet, for one to come."""
    on = None if attempt is None else attempt.on
    if on is not None and on.lease_s is None and on.claim_s is not None:
        return found.launched_at + on.claim_s
    return last_seen + ((on and on.lease_s) or owner.lease_s)


@contextmanager
def _others() -> Iterator[Callable[[str], _Known | None]]:
    """Opens the journals of other folders of this computer that machines' tags name."""
    opened: dict[str, _Known | None] = {}

    def known_of(tag: str) -> _Known | None:
        if tag not in opened:
            journal = _journal_at(tag)
            opened[tag] = _Known(journal) if journal else None
        return opened[tag]

    try:
        yield known_of
    finally:
        for each in opened.values():
            if each is not None:
                each.journal.close()


def _journal_at(tag: str) -> Journal | None:
    host, _, path = tag.partition(":")
    folder = Path(path)
    if not folder.is_absolute() or not (folder / FOLDER / "journal.sqlite").is_file():
        return None
    try:
        if whereabouts.here(folder).host != host:
            return None
        return Journal(folder, now=time.time, warn=lambda _: None)
    except (Ec2ExecutorError, OSError):
        return None  # another user's


def why_orphan(
    found: Found, attempt: Attempt | None, run: RunRecord | None, lease_until: float | None, now: float
) -> str:
    """Why a machine without a living run may be ended by anybody; empty if it may not.

    Only its own folder's journal knows that a run is dead. For machines of others only their own tag
    counts, which says when they end in any case.
    """
    if run is None:
        overdue = found.expires_at is not None and now > found.expires_at + MARGIN_S
        return "its lifetime is over" if overdue else ""
    if attempt is None:
        return "its run is dead and never learned of its launch"
    if attempt.on.kept_until is not None:
        kept = "it was to run a workflow" if attempt.rule == AWAY_RULE else "its failed job was kept"
        return "" if now < attempt.on.kept_until else f"the time for which {kept} is over"
    if not attempt.may_go_on:
        return "its run is dead and no job works on it"
    return "its run is dead and its lease is over" if lease_until and now > lease_until else ""


def end(
    inventory: Inventory, rows: Collection[Row], journal: Journal | None, end_reason: str
) -> dict[str, Ec2ExecutorError]:
    """End machines, and note it where no living run will do so; those that could not be ended, and why."""
    failures = inventory.end([row.found.id for row in rows])
    for row in rows:
        if journal and row.ours and row.attempt and not row.run_alive and row.found.id not in failures:
            journal.end_machine(row.attempt.on.id, end_reason)
    return failures


def tidy(inventory: Inventory, ended: Collection[Row], journal: Journal | None) -> dict[str, str]:
    """Remove the security groups of the runs whose last machine was ended: id → run."""
    staying = {found.run for found in inventory.machines()}
    runs = {row.found.run for row in ended if not row.run_alive} - staying
    gone = inventory.delete_groups(runs) if runs else {}
    for row in ended:
        if journal and row.ours and row.verdict is Verdict.DEAD and row.found.run in {*gone.values()}:
            journal.close_run(row.found.run)
    return gone
