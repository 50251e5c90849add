"""What the jobs of a run share, and what a job may inherit from an earlier run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_ec2.controller.leases import Leases
from snakemake_executor_ec2.machines.connection import Connection
from snakemake_executor_ec2.machines.failure_detector import Reachability
from snakemake_executor_ec2.model import JobPlan, KeyPair, Machine, Software
from snakemake_executor_ec2.ports import Clock, Cloud, Connector, Launches, Session
from snakemake_executor_ec2.records.ledger import Ledger
from snakemake_executor_ec2.records.rows import Attempt
from snakemake_executor_ec2.report.leavings import Leavings
from snakemake_executor_ec2.sizing.lease import lease_s

if TYPE_CHECKING:
    from snakemake_executor_ec2.controller.ahead import LookAhead
    from snakemake_executor_ec2.controller.idle import IdleMachines
    from snakemake_executor_ec2.controller.lingering import Lingering


@dataclass(frozen=True, kw_only=True)
class Inherited:
    """A job that an earlier run left on a machine, and how to reach that machine."""

    attempt: Attempt
    cloud: Cloud
    connector: Connector


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Everything that a job needs from the outside world, the same for all jobs of a run."""

    cloud: Cloud
    connector: Connector
    clock: Clock
    launcher: Launches
    ledger: Ledger
    idle: IdleMachines
    ahead: LookAhead
    lingering: Lingering
    new_key_pair: Callable[[], KeyPair]
    session: Callable[[Connection], Session]
    software: Software
    boot_timeout_s: float
    lease_s: float
    lost_after_s: float
    """How long a machine that seems to have crashed is waited for."""
    reachability: Reachability
    keep_failed_s: float
    """How long a failed job's machine is kept to be looked at; 0: not at all."""
    log_folder: Path
    tell: Callable[[str], None]
    """Prints a line for the user."""
    leavings: Leavings = field(default_factory=Leavings)
    """What jobs left beside their outputs."""
    leases: Leases = field(default_factory=Leases)
    lease_usd: float | None = None

    def lease_of(self, machine: Machine, plan: JobPlan) -> float:
        """The seconds of a machine's lease."""
        return lease_s(self.lease_s, self.lease_usd, machine.price, plan.requirements)
