"""How long the jobs of each rule took on their machines, in the runs of a folder. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from urllib.parse import urlsplit

from snakemake_executor_ec2.model import Phase
from snakemake_executor_ec2.records.rows import Attempt, RunRecord
from snakemake_executor_ec2.report.summary import JobRow, RunRow
from snakemake_executor_ec2.sizing.ahead import Paces

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_LAUNCH_S = 5.0
"""A launch that took longer waited for capacity, or for a limit; the next one need not."""
_NOT_BESIDES = frozenset({Phase.LAUNCH, Phase.RUN})
"""Launching is not billed yet."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """Medians over the jobs of a rule that succeeded; None: there are none."""

    rule: str
    jobs: int
    run_s: float
    """The work itself."""
    rehearsed: bool
    """All of them ran on this computer."""
    first_s: float | None
    """Besides, on a machine of EC2 that was new: boot, software, files."""
    next_s: float | None
    """Besides, on one that had done another job."""


def is_rehearsal(run: RunRecord) -> bool:
    """Whether it was this computer that answered in place of AWS."""
    return _is_loopback(run.endpoint)


def _is_loopback(endpoint: str) -> bool:
    return urlsplit(endpoint).hostname in _LOOPBACK


def past(runs: Sequence[RunRow]) -> dict[str, Past]:
    """By rule. Where there are jobs on EC2, what was rehearsed does not count."""
    real, rehearsed = _done(runs, rehearsals=False), _done(runs, rehearsals=True)
    return {rule: _of(rule, real.get(rule, []), rehearsed.get(rule, [])) for rule in {**rehearsed, **real}}


def add_paces(paces: Paces, runs: Sequence[RunRecord], attempts: Iterable[Attempt], endpoint: str) -> None:
    """Add how long jobs took in runs on the EC2 at this endpoint, or in rehearsals if that is one."""
    rehearses = _is_loopback(endpoint)
    there = {run.id for run in runs if run.endpoint == endpoint or (rehearses and is_rehearsal(run))}
    for each in attempts:
        if each.end_reason == "done" and each.on.run in there:
            took = {phase: each.seconds.get(phase, 0.0) for phase in Phase}
            is_new = took[Phase.BOOT] > 0
            if is_new:
                paces.add(each.rule, "boot", min(took[Phase.LAUNCH], _LAUNCH_S) + took[Phase.BOOT])
            paces.add(each.rule, "prepare" if is_new else "next", took[Phase.PREPARE])
            paces.add(each.rule, "run", took[Phase.RUN])
            end_s = took[Phase.STAGE_OUT] + took[Phase.CLEAN] + took[Phase.TERMINATE]
            paces.add(each.rule, "fetch", end_s)


def _done(runs: Sequence[RunRow], *, rehearsals: bool) -> dict[str, list[JobRow]]:
    found: dict[str, list[JobRow]] = defaultdict(list)
    for run in runs:
        if is_rehearsal(run.record) is rehearsals:
            for job in run.total.jobs:
                if job.state == "done" and job.seconds.get(Phase.RUN):
                    found[job.rule].append(job)
    return found


def _of(rule: str, real: Sequence[JobRow], rehearsed: Sequence[JobRow]) -> Past:
    jobs = real or rehearsed
    return Past(
        rule=rule,
        jobs=len(jobs),
        run_s=median(each.seconds[Phase.RUN] for each in jobs),
        rehearsed=not real,
        first_s=_median(_besides(each) for each in real if each.seconds.get(Phase.BOOT)),
        next_s=_median(_besides(each) for each in real if not each.seconds.get(Phase.BOOT)),
    )


def _besides(job: JobRow) -> float:
    return sum(seconds for part, seconds in job.seconds.items() if part not in _NOT_BESIDES)


def _median(amounts: Iterable[float]) -> float | None:
    known = list(amounts)
    return median(known) if known else None
