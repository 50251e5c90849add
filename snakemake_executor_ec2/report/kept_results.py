"""Sentences about machines that earlier runs, or runs elsewhere, have on EC2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from snakemake_executor_ec2.formatting import duration
from snakemake_executor_ec2.model import JobPlan, Machine
from snakemake_executor_ec2.records.rows import Attempt, RunRecord


def not_ours(run: RunRecord, machines: Sequence[str]) -> str:
    whose = run.where.tag if run.where else "another computer"
    many = f"{len(machines)} machine{'s' * (len(machines) != 1)}"
    return (
        f"{many} of run {run.id} ({', '.join(machines)}) are left alone: the run belongs to {whose}, and "
        "whether it is alive cannot be seen from this folder. Resume it there, or end its machines "
        "(snakemake-ec2 kill)"
    )


def keeps_results(machine: Machine, lease_s: float) -> str:
    price = f", at ${machine.price.usd_per_hour:.4g} an hour" if machine.price else ""
    return (
        f"keeps the results until its lease ends, in {duration(lease_s)}{price}; run the same command "
        f"again to fetch them, log in (snakemake-ec2 ssh {machine.id}), or end it "
        f"(snakemake-ec2 kill {machine.id})"
    )


def not_sendable(plan: JobPlan, names: Sequence[str]) -> str:
    some = ", ".join([*names[:3], *(["…"] if len(names) > 3 else [])])
    return f"pipes and sockets among the results of {plan.label} cannot be sent, and are lost: {some}"


def folder_gone(folder: Path) -> str:
    return (
        f"the working folder {folder} was deleted during the run: no results can be stored there any more, "
        "and the run's machines are ended"
    )


def ended_without_us(attempt: Attempt, lapsed_after_s: float | None) -> str:
    assert attempt.machine is not None
    why = "does not exist any more"
    if lapsed_after_s is not None:
        why = f"ended with its lease: no run had contacted it for {duration(lapsed_after_s)} (--ec2-lease)"
    which = f"{attempt.machine.id} of {attempt.label}, which an earlier run left running"
    return f"{which}, {why}; the job starts again"
