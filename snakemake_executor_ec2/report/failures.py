"""What went wrong in some runs, the same thing once. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snakemake_executor_ec2.model import JobResult

if TYPE_CHECKING:
    from snakemake_executor_ec2.report.summary import JobRow

_FINE = frozenset({"done", "running", "left"})
_ONE_OF_MANY = re.compile(r"""\bi-[0-9a-f]{8,}\b|'[^']*'|"[^"]*"|[^\s:,]*/[^\s:,]*|\d+(?:[.,:]\d+)*""")
"""Machines' ids, names, paths and amounts differ between jobs that fail for the same reason."""


@dataclass(frozen=True, kw_only=True)
class FailureRow:
    """Attempts at one rule's jobs that ended in the same way."""

    rule: str
    state: str
    reason: str
    """The first one's."""
    example: JobRow
    count: int
    usd: float | None
    """What they cost; None if no price is known."""
    done_again: int
    """How many of their jobs succeeded, on another machine or another time."""


def alike(reason: str) -> str:
    """The same for failures that differ in machines' ids, in names or in amounts only."""
    return _ONE_OF_MANY.sub("…", reason)


def cause(error: str, result: JobResult | None) -> str:
    """Why an attempt did not succeed: what ended it otherwise, or how its command ended. Empty: it is not
    known."""
    if error or result is None or result.exit_code == 0:
        return error
    code = f"exit code {result.exit_code}" if result.exit_code > 0 else f"signal {-result.exit_code}"
    kind = str(result.failure or "exit")
    named = code if kind in ("exit", "signal") else f"{kind} ({code})"
    return f"{named}: {result.evidence}" if result.evidence not in ("", named) else named


def failures(jobs: Iterable[JobRow]) -> list[FailureRow]:
    """The most frequent first."""
    jobs = list(jobs)
    done = {job.job for job in jobs if job.state == "done"}
    groups: dict[tuple[str, str, str], list[JobRow]] = defaultdict(list)
    for job in jobs:
        if job.state not in _FINE:
            groups[job.rule, job.state, alike(job.reason)].append(job)
    rows = [
        FailureRow(
            rule=rule,
            state=state,
            reason=same[0].reason,
            example=same[0],
            count=len(same),
            usd=_together(same),
            done_again=len({each.job for each in same} & done),
        )
        for (rule, state, _), same in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row.count, row.rule, row.state))


def _together(jobs: list[JobRow]) -> float | None:
    known = [job.usd for job in jobs if job.usd is not None]
    return sum(known) if known else None
