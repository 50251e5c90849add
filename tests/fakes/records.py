"""A run and a job as the journal has them, for tests that need one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.model import JobPlan, KeyPair, Machine, Requirements
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.rows import MachineRecord, RunRecord

PLAN = JobPlan(
    key="r1.1.1",
    rule="one",
    label="rule one",
    command="true",
    workdir=Path("/w"),
    env={},
    requirements=Requirements(threads=1, mem_mb=1000, disk_mb=1000),
    sources=(),
    inputs=(),
    outputs=(Path("/w/o"),),
    fingerprint="f",
)
_RECORD = RunRecord(
    id="run-1",
    began_at=0.0,
    pid=1,
    region="us-east-1",
    endpoint="",
    ssh_user="ec2-user",
    ssh_port=22,
    login=KeyPair(private="SECRET", public="ssh-ed25519 CCCC"),
    lease_s=3600.0,
)


def run_record(name: str, **more: Any) -> RunRecord:
    """A run of this name; `more` are fields that matter to the test."""
    return replace(_RECORD, id=name, **more)


def machine_record(machine: Machine | None = None, **more: Any) -> MachineRecord:
    """A machine of that run."""
    record = MachineRecord(
        id=1,
        run="run-1",
        owner="run-1",
        host_keys=(),
        machine=machine,
        usd=None,
        kept_until=None,
        ended_at=None,
    )
    return replace(record, **more)


def begin(journal: Journal, run: str, plan: JobPlan = PLAN, host_key: str = "ssh-ed25519 A") -> int:
    """Enter an attempt at a job, on a machine of its own; its id."""
    return journal.begin_machine(run, host_key, plan)[1]
