"""What the jobs of each rule asked for and what they used, and what that suggests. Pure.

Memory and disk are in Snakemake's megabytes (10^6 bytes). Disk is what a job wrote while it ran; its
inputs were there before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from snakemake_executor_ec2.model import Failure, JobResult, Requirements
from snakemake_executor_ec2.report.summary import JobRow, Sum

MB_PER_MIB = 2**20 / 10**6
WORTH = 0.75
"""Less is suggested only if it is at most this part of what is asked for now."""
LEAST_MB = 500
LEAST_DISK_MB = 10_000
"""The machine's own 8 GiB cost the same; below this, less disk is not worth a change."""
MORE = 1.5
"""By how much a job asks for more that ran out of it."""


def margin(jobs: int) -> float:
    """What is suggested is more than the most that was used, by this factor: the next input may be larger,
    the more so the fewer were seen."""
    if jobs < 2:
        return 2.0
    return 1.5 if jobs < 5 else 1.25


@dataclass(frozen=True, kw_only=True)
class Use:
    """One resource of a rule's jobs, as far as they were measured."""

    asked: tuple[float, float]
    """The least and the most that a job asked for."""
    typical: float
    """The median of what they used."""
    most: float
    share: float
    """The largest part that a job used of what it asked for."""

    @property
    def varies(self) -> bool:
        """Whether jobs asked for different amounts: the rule computes it."""
        return self.asked[0] != self.asked[1]


@dataclass(frozen=True, kw_only=True)
class RuleSizes:
    """What a rule's jobs asked for and used; None: not measured."""

    rule: str
    measured: int
    """So many jobs that succeeded are behind it. An agent that could not look says that they needed no
    memory; these do not count."""
    mem_mb: Use | None
    cores: Use | None
    """Threads that were asked for, and how many were busy on average."""
    disk_mb: Use | None
    suggestions: tuple[str, ...]


def sizes(rules: Sequence[Sum]) -> list[RuleSizes]:
    """Of each rule of which a job has ended on a machine, in the same order."""
    return [_of_rule(each) for each in rules if any(job.result for job in each.jobs)]


def _of_rule(rule: Sum) -> RuleSizes:
    jobs = [job for job in rule.jobs if job.result and is_measured(job.result)]
    mem = _use(jobs, lambda asked: asked.mem_mb, lambda it: it.usage.peak_mem_mib * MB_PER_MIB)
    disk = _use(jobs, lambda asked: asked.disk_mb, lambda it: it.usage.peak_disk_mib * MB_PER_MIB)
    cores = _use(
        jobs,
        lambda asked: asked.threads,
        lambda it: it.usage.cpu_seconds / it.seconds if it.seconds > 0 else 0.0,
    )
    more = margin(len(jobs))
    suggested = (*_memory(rule, mem, more), *_threads(cores), *_disk(rule, disk, more))
    return RuleSizes(
        rule=rule.name,
        measured=len(jobs),
        mem_mb=mem,
        cores=cores,
        disk_mb=disk,
        suggestions=suggested,
    )


def is_measured(result: JobResult) -> bool:
    """Whether a job succeeded, and its agent could look at its memory."""
    return result.exit_code == 0 and result.usage.peak_mem_mib > 0


def _use(
    jobs: Sequence[JobRow], asked: Callable[[Requirements], float], used: Callable[[JobResult], float]
) -> Use | None:
    """None if nothing was measured."""
    pairs = [(asked(job.asked), used(job.result)) for job in jobs if job.result]
    if not pairs:
        return None
    wanted, had = zip(*pairs, strict=True)
    return Use(
        asked=(min(wanted), max(wanted)),
        typical=median(had),
        most=max(had),
        share=max((one / another if another else 0.0) for another, one in pairs),
    )


def _memory(rule: Sum, use: Use | None, margin: float) -> Iterator[str]:
    if short := ran_out(rule, Failure.OUT_OF_MEMORY):
        most = max(max(job.asked.mem_mb, round(mem_mb(job))) for job in short)
        enough = [job for job in rule.jobs if job.state == "done" and job.asked.mem_mb > most]
        if not enough:
            yield f"mem_mb={up(most * MORE, 100)}: {len(short)} ran out of memory with {most:,} MB"
        return
    if use is not None:
        yield from _less("mem_mb", use, max(LEAST_MB, up(use.most * margin, 100)), "used at most", margin)


def _disk(rule: Sum, use: Use | None, margin: float) -> Iterator[str]:
    if short := ran_out(rule, Failure.DISK_FULL):
        most = max(job.asked.disk_mb for job in short)
        yield f"disk_mb={up(most * MORE, 1000)}: {len(short)} found a disk of {most:,} MB full"
    elif use is not None and use.asked[1] - use.most * margin >= LEAST_DISK_MB:
        text = _less("disk_mb", use, up(use.most * margin, 1000), "wrote at most", margin)
        yield from (f"{each}; add the size of the inputs" for each in text)


def _threads(use: Use | None) -> Iterator[str]:
    if use is None or use.asked[1] <= 1:
        return
    enough = max(1, math.ceil(use.most * 1.1))
    if use.varies:
        if use.share * 1.1 <= WORTH:
            yield f"fewer threads: at most {use.share:.0%} of those asked for were busy on average"
    elif enough <= use.asked[0] * WORTH:
        yield f"threads={enough}: at most {use.most:.1f} of {use.asked[0]:.0f} were busy on average"


def _less(name: str, use: Use, enough: int, verb: str, margin: float) -> Iterator[str]:
    """Nothing if what is asked for now is about right."""
    if use.varies:
        if use.share * margin <= WORTH and use.asked[0] > LEAST_MB:
            yield f"{name}: {use.share * margin:.0%} of it would do; jobs {verb} {use.share:.0%}"
    elif enough <= use.asked[0] * WORTH:
        yield f"{name}={enough}: jobs {verb} {use.most:,.0f} of {use.asked[0]:,.0f} MB"


def mem_mb(job: JobRow) -> float:
    """What it used at most, whether it succeeded or not."""
    return job.result.usage.peak_mem_mib * MB_PER_MIB if job.result else 0.0


def ran_out(rule: Sum, of: Failure) -> list[JobRow]:
    """The attempts that failed so."""
    return [job for job in rule.jobs if job.result and job.result.failure is of]


def up(amount: float, step: int) -> int:
    """The next multiple of a step."""
    return math.ceil(amount / step) * step
