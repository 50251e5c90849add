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

_MB_PER_MIB = 2**20 / 10**6
_MARGIN = 1.25
"""What is suggested is more than the most that was used: the next input may be larger."""
_WORTH = 0.75
"""Less is suggested only if it is at most this part of what is asked for now."""
_LEAST_MB = 500
_LEAST_DISK_MB = 10_000
"""The machine's own 8 GiB cost the same; below this, less disk is not worth a change."""
_MORE = 1.5
"""By how much a job asks for more that ran out of it."""


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
    jobs = [job for job in rule.jobs if job.result and _is_measured(job.result)]
    mem = _use(jobs, lambda asked: asked.mem_mb, lambda it: it.usage.peak_mem_mib * _MB_PER_MIB)
    disk = _use(jobs, lambda asked: asked.disk_mb, lambda it: it.usage.peak_disk_mib * _MB_PER_MIB)
    cores = _use(
        jobs,
        lambda asked: asked.threads,
        lambda it: it.usage.cpu_seconds / it.seconds if it.seconds > 0 else 0.0,
    )
    suggested = (*_memory(rule, mem), *_threads(cores), *_disk(rule, disk))
    return RuleSizes(
        rule=rule.name,
        measured=len(jobs),
        mem_mb=mem,
        cores=cores,
        disk_mb=disk,
        suggestions=suggested,
    )


def _is_measured(result: JobResult) -> bool:
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


def _memory(rule: Sum, use: Use | None) -> Iterator[str]:
    if short := _ran_out(rule, Failure.OUT_OF_MEMORY):
        most = max(job.asked.mem_mb for job in short)
        enough = [job for job in rule.jobs if job.state == "done" and job.asked.mem_mb > most]
        if not enough:
            yield f"mem_mb={_up(most * _MORE, 100)}: {len(short)} ran out of memory with {most:,} MB"
        return
    if use is not None:
        yield from _less("mem_mb", use, max(_LEAST_MB, _up(use.most * _MARGIN, 100)), "used at most")


def _disk(rule: Sum, use: Use | None) -> Iterator[str]:
    if short := _ran_out(rule, Failure.DISK_FULL):
        most = max(job.asked.disk_mb for job in short)
        yield f"disk_mb={_up(most * _MORE, 1000)}: {len(short)} found a disk of {most:,} MB full"
    elif use is not None and use.asked[1] - use.most * _MARGIN >= _LEAST_DISK_MB:
        text = _less("disk_mb", use, _up(use.most * _MARGIN, 1000), "wrote at most")
        yield from (f"{each}; add the size of the inputs" for each in text)


def _threads(use: Use | None) -> Iterator[str]:
    if use is None or use.asked[1] <= 1:
        return
    enough = max(1, math.ceil(use.most * 1.1))
    if use.varies:
        if use.share * 1.1 <= _WORTH:
            yield f"fewer threads: at most {use.share:.0%} of those asked for were busy on average"
    elif enough <= use.asked[0] * _WORTH:
        yield f"threads={enough}: at most {use.most:.1f} of {use.asked[0]:.0f} were busy on average"


def _less(name: str, use: Use, enough: int, verb: str) -> Iterator[str]:
    """Nothing if what is asked for now is about right."""
    if use.varies:
        if use.share * _MARGIN <= _WORTH and use.asked[0] > _LEAST_MB:
            yield f"{name}: {use.share * _MARGIN:.0%} of it would do; jobs {verb} {use.share:.0%}"
    elif enough <= use.asked[0] * _WORTH:
        yield f"{name}={enough}: jobs {verb} {use.most:,.0f} of {use.asked[0]:,.0f} MB"


def _ran_out(rule: Sum, of: Failure) -> list[JobRow]:
    return [job for job in rule.jobs if job.result and job.result.failure is of]


def _up(amount: float, step: int) -> int:
    return math.ceil(amount / step) * step
