"""What the user reads of machines that take one job after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snakemake_executor_ec2.formatting import size, usd
from snakemake_executor_ec2.model import Cleaned, JobPlan, Machine, Transfer

if TYPE_CHECKING:
    from snakemake_executor_ec2.records.ledger import MachineEntry


def staged(plan: JobPlan, sent: Transfer) -> str:
    kept = f", beside {sent.kept} large file{'s' * (sent.kept > 1)} that it had" if sent.kept else ""
    return f"staged {size(sent.bytes)} in {sent.seconds:.1f} s for {plan.label}{kept}"


def reused(plan: JobPlan, on: MachineEntry) -> str:
    assert on.machine is not None
    return f"{on.machine.id} is used again for {plan.label}, its job number {len(on.entries)}"


def not_reused(plan: JobPlan, machine: Machine, cleaned: Cleaned) -> str:
    why = f"{machine.id} gets no other job after {plan.label}: {cleaned.changed}"
    return f"{why} (told for one job of each rule)"


def ended(on: MachineEntry, now: float) -> str:
    assert on.machine is not None
    jobs = f"{len(on.entries)} job{'s' * (len(on.entries) > 1)}"
    return f"terminated {on.machine.id} after {jobs}, estimated cost {usd(on.cost_usd(now))}"
