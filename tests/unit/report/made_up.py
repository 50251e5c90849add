"""A made-up run of any number of jobs, as the journal would have it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from snakemake_executor_ec2.model import (
    Failure,
    JobResult,
    Machine,
    Market,
    Phase,
    Price,
    Requirements,
    Usage,
)
from snakemake_executor_ec2.records.lives import Life
from snakemake_executor_ec2.records.rows import Attempt, RunRecord
from snakemake_executor_ec2.report.summary import Summary, summarize
from snakemake_executor_ec2.sizing.cost import cost_usd
from tests.fakes.records import machine_record, run_record

BEGAN_AT = 1_795_000_000.0
ON_DEMAND = Price(usd_per_hour=0.1008, source="Pricing API, 2026-11-22")
SPOT = Price(usd_per_hour=0.0393, source="spot price history, 2026-11-22 14:05")
_RULES = (
    # name, threads, mem_mb, memory used (MiB), cores busy, seconds
    ("trim", 1, 4000, 350, 0.9, 90),
    ("align", 8, 16_000, 11_000, 7.1, 600),
    ("call_variants", 4, 32_000, 2500, 1.1, 400),
    ("merge", 2, 8000, 6000, 1.6, 200),
)


def machine(
    number: int, launched_at: float, *, spot: bool = False, price: Price | None = ON_DEMAND
) -> Machine:
    return Machine(
        id=f"i-{number:017x}",
        instance_type="m7i.large",
        zone="us-east-1b",
        market=Market.SPOT if spot else Market.ON_DEMAND,
        price=SPOT if spot and price else price,
        on_demand=ON_DEMAND if spot else None,
        disk_gib=20,
        launched_at=launched_at,
    )


def attempt(number: int = 1, of: Machine | None = None, **more: Any) -> Attempt:
    """One; `more` are its fields, and `ended_at`, `ahead_s` and `run` of its machine."""
    facts_of_machine = {"ended_at": more.pop("ended_at", None), "ahead_s": more.pop("ahead_s", {})}
    on = machine_record(of, id=more.pop("on", number), **facts_of_machine)
    run = more.pop("run", "run-1")
    facts = Attempt(
        id=number,
        on=replace(on, run=run, owner=more.pop("owner", run)),
        key=f"run-1.{number}.1",
        label=f"rule a ({number})",
        rule="a",
        fingerprint="",
        outputs=(),
        phase=Phase.TERMINATE,
        end_reason="done",
        saved_state=None,
        outputs_fetched=None,
        seconds={},
        usd=None,
        began_at=BEGAN_AT,
        asked=Requirements(threads=1, mem_mb=1000, disk_mb=1000),
    )
    return replace(facts, **more)


def lives_of(attempts: list[Attempt], until: float) -> dict[int, Life]:
    """Each machine lived until its end, or until then."""
    found = {}
    for each in attempts:
        if each.machine is not None:
            ended_at = each.on.ended_at or until
            usd = cost_usd(each.machine, ended_at - each.machine.launched_at)
            found[each.on.id] = Life(until=ended_at, usd=usd)
    return found


def many(jobs: int, at_a_time: int = 100, *, seed: int = 1) -> tuple[RunRecord, list[Attempt]]:
    """A run with spot machines, reuse, losses and failures."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    attempts: list[Attempt] = []
    free = [BEGAN_AT + dice.random() * 5 for _ in range(at_a_time)]
    while len(attempts) < jobs:
        slot = min(range(at_a_time), key=free.__getitem__)
        free[slot] = _machine_of_jobs(dice, attempts, free[slot], jobs)
    return run_record("run-1", began_at=BEGAN_AT, ended_at=max(free)), attempts


def _machine_of_jobs(dice: random.Random, attempts: list[Attempt], at: float, jobs: int) -> float:
    """One machine and its jobs, until nothing more fits; its end."""
    number, spot = len(attempts) + 1, dice.random() < 0.5
    launch_s, boot_s = dice.uniform(1, 4), dice.uniform(15, 40)
    on = machine(number, at + launch_s, spot=spot)
    its: list[Attempt] = []
    for turn in range(min(dice.choice((1, 1, 1, 3)), jobs - len(attempts))):
        name, threads, mem_mb, used_mib, cores, seconds = dice.choice(_RULES)
        phases = {} if turn else {str(Phase.LAUNCH): launch_s, str(Phase.BOOT): boot_s}
        run_s = seconds * dice.uniform(0.5, 2)
        end = dice.choices(("done", "failed", "lost"), (94, 3, 3))[0]
        phases |= {str(Phase.PREPARE): dice.uniform(5, 30), str(Phase.RUN): run_s, str(Phase.JOURNAL): 0.2}
        if end != "lost":
            phases |= {str(Phase.STAGE_OUT): dice.uniform(0.5, 10), str(Phase.TERMINATE): 0.4}
        usage = Usage(
            peak_mem_mib=round(used_mib * dice.uniform(0.6, 1)), cpu_seconds=run_s * cores, peak_disk_mib=900
        )
        failure = Failure.OUT_OF_MEMORY if end == "failed" else None
        code = 137 if failure else 0
        result = JobResult(
            exit_code=code, failure=failure, evidence="the kernel ended it", seconds=run_s, usage=usage
        )
        its.append(
            attempt(
                number + turn,
                on,
                on=number,
                rule=name,
                label=f"rule {name} (sample=sample_{number + turn:05d}, chromosome=chr{dice.randint(1, 22)})",
                began_at=at,
                seconds=phases,
                end_reason=end,
                result=None if end == "lost" else result,
                error="EC2 took the spot machine back" if end == "lost" else "",
                asked=Requirements(threads=threads, mem_mb=mem_mb, disk_mb=50_000),
            )
        )
        at += sum(phases.values()) + dice.uniform(0, 3)
        if end == "lost":
            break
    attempts += [replace(each, on=replace(each.on, ended_at=at)) for each in its]
    return at


def summary(
    run: RunRecord, attempts: list[Attempt], *, until: float | None = None, alive: bool = False
) -> Summary:
    """What the report is made of."""
    until = until or max([run.ended_at or 0.0, *(each.on.ended_at or 0.0 for each in attempts)])
    return summarize(
        [run], attempts, lives_of(attempts, until), alive={run.id} if alive else set(), now=until
    )
