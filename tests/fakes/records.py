"""A run as the journal has it, for tests that need one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from snakemake_executor_ec2.model import KeyPair
from snakemake_executor_ec2.records.rows import RunRecord

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
