"""How long the machines in a folder's journal have lived, and what that has cost, also where nobody saw
their end."""

from __future__ import annotations

from dataclasses import dataclass

from snakemake_executor_ec2.model import Machine
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.rows import MachineRecord
from snakemake_executor_ec2.sizing.cost import cost_usd, usd_per_hour


@dataclass(frozen=True, kw_only=True)
class Life:
    """Of one machine, from its launch."""

    until: float
    """When it ended, as far as that is known, in seconds since the epoch."""
    usd: float | None
    """The estimated cost until then; None if its price is not known."""


def lives(journal: Journal, now: float) -> dict[int, Life]:
    """Of each machine that EC2 has launched, by its id in the journal. Up to now for those that may still
    run."""
    leases = {run.id: journal.last_seen(run) + run.lease_s for run in journal.runs(closed=True)}
    at_work = {attempt.on.id for attempt in journal.attempts() if not attempt.end_reason}
    return {
        each.id: _life(
            each,
            each.machine,
            min(now, each.kept_until or leases.get(each.owner, now)),
            is_idle=each.id not in at_work and each.kept_until is None,
        )
        for each in journal.machines()
        if each.machine is not None
    }


def _life(record: MachineRecord, machine: Machine, until: float, *, is_idle: bool) -> Life:
    """What was noted, or more if a job was at work, or it was kept, longer than anybody noted."""
    if record.ended_at is not None:
        until = record.ended_at
    elif record.usd is not None and machine.price is not None and is_idle:
        noted_s = record.usd / usd_per_hour(machine.price, machine) * 3600
        return Life(until=machine.launched_at + noted_s, usd=record.usd)
    usd = cost_usd(machine, until - machine.launched_at)
    noted = [each for each in (record.usd, usd) if each is not None]
    return Life(until=until, usd=max(noted, default=None))
