"""What the user reads of machines that take one job after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.formatting import ordinal, size, usd
from snakemake_executor_ec2.model import Cleaned, JobPlan, Machine, Transfer
from snakemake_executor_ec2.report.levels import Detail
from snakemake_executor_ec2.sizing.cost import usd_per_hour

if TYPE_CHECKING:
    from snakemake_executor_ec2.records.ledger import MachineEntry


def staged(plan: JobPlan, sent: Transfer) -> str:
    kept = f", beside {sent.kept} large file{'s' * (sent.kept > 1)} that it had" if sent.kept else ""
    return Detail(f"staged {size(sent.bytes)} in {sent.seconds:.1f} s for {plan.label}{kept}")


def reused(plan: JobPlan, on: MachineEntry) -> str:
    assert on.machine is not None
    if on.waited_s is not None and len(on.entries) == 1:
        return Detail(f"{on.machine.id}, which was launched ahead, is used for {plan.label}")
    return Detail(f"{on.machine.id} is used again for {plan.label}, its {ordinal(len(on.entries))} job")


def not_reused(plan: JobPlan, machine: Machine, cleaned: Cleaned) -> str:
    why = f"{machine.id} gets no other job after {plan.label}: {cleaned.changed}"
    return f"{why} (shown for one job of each rule)"


def ended(on: MachineEntry, now: float) -> str:
    assert on.machine is not None
    if on.ahead is not None:
        cost = usd(on.cost_usd(now))
        return f"terminated {on.machine.id}, launched ahead and not used, estimated cost {cost}"
    jobs = f"{len(on.entries)} job{'s' * (len(on.entries) > 1)}"
    return Detail(f"terminated {on.machine.id} after {jobs}, estimated cost {usd(on.cost_usd(now))}")


def label_ahead(rule: str) -> str:
    """What stands for the job of a machine that was launched ahead."""
    return f"rule {rule}, ahead"


def not_ready_ahead(plan: JobPlan, error: Ec2ExecutorError) -> str:
    return f"the machine that was launched ahead for rule {plan.rule} cannot be used: {error.message}"


def launched_ahead(machines: Sequence[MachineEntry], now: float) -> str | None:
    """What came of the machines of a run that were launched ahead; None: none was."""
    used = [each for each in machines if each.waited_s is not None]
    unused = [each for each in machines if each.ahead is not None and each.machine is not None]
    if not used and not unused:
        return None
    wasted_usd = sum(each.cost_usd(now) or 0.0 for each in unused) + sum(map(_waiting_usd, used))
    count, cost = len(used) + len(unused), usd(wasted_usd)
    return f"Machines launched ahead of their jobs: {count}, used: {len(used)}, cost of waiting: {cost}"


def _waiting_usd(on: MachineEntry) -> float:
    """What a machine cost while it was ready for its first job."""
    assert on.machine is not None
    price = on.machine.price
    return usd_per_hour(price, on.machine) * (on.waited_s or 0.0) / 3600 if price else 0.0
