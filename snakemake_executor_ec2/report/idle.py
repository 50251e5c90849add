"""What the user reads of machines between two jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snakemake_executor_ec2.formatting import usd
from snakemake_executor_ec2.model import Cleaned, JobPlan, Machine

if TYPE_CHECKING:
    from snakemake_executor_ec2.records.ledger import MachineEntry


def reused(plan: JobPlan, on: MachineEntry) -> str:
    assert on.machine is not None
    return f"{on.machine.id} is used again for {plan.label}, its job number {len(on.entries)}"


def not_reused(plan: JobPlan, machine: Machine, cleaned: Cleaned) -> str:
    return f"{machine.id} gets no other job after {plan.label}: {cleaned.changed}"


def ended(on: MachineEntry, now: float) -> str:
    assert on.machine is not None
    jobs = f"{len(on.entries)} job{'s' * (len(on.entries) > 1)}"
    return f"terminated {on.machine.id} after {jobs}, estimated cost {usd(on.cost_usd(now))}"
