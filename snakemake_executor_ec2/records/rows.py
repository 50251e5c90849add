"""What the journal remembers: runs, their machines, and jobs' attempts on these."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.model import (
    Arch,
    Failure,
    JobResult,
    KeyPair,
    Machine,
    Market,
    Phase,
    Price,
    Requirements,
    SpotUse,
    Usage,
)
from snakemake_executor_ec2.records import whereabouts
from snakemake_executor_ec2.records.whereabouts import Whereabouts

UNUSED = "not used"
"""How an attempt ended that only stood for the job of a machine that was launched ahead, and got none."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run, and how its machines are reached."""

    id: str
    began_at: float
    pid: int
    region: str
    endpoint: str
    """The URL of the EC2 that it used: its machines are not looked for on another one."""
    ssh_user: str
    ssh_port: int
    login: KeyPair | None = field(repr=False)
    """None once it was erased."""
    lease_s: float
    account: str | None = None
    """The AWS account's number, for the same reason; None: not known."""
    detached: bool = False
    """It ended with `--ec2-detach`: its machines were left running on purpose."""
    closed: bool = False
    """Nothing of it is left on EC2."""
    ended_at: float | None = None
    """When its process ended, as it said itself; None: it did not (yet)."""
    ssh_proxy: str | None = None
    """The command through which its machines are reached."""
    ssh_to: str = "auto"
    """`private`: they are reached at their private addresses."""
    cloud_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of a rehearsal: the variables by which other processes find its cloud; empty once it has ended."""
    where: Whereabouts | None = None
    """Its computer and folder; None: entered by a version that did not note them."""

    @property
    def ended(self) -> bool:
        """Its process said so itself."""
        return self.ended_at is not None


@dataclass(frozen=True, kw_only=True)
class MachineRecord:
    """A machine that a run has launched, or was about to: it is entered before EC2 is asked."""

    id: int
    run: str
    """The run that launched it, which its tags name."""
    owner: str
    """The run that owns it now."""
    host_keys: tuple[str, ...]
    machine: Machine | None
    """None before EC2 has launched it, or if the run was killed before it knew."""
    usd: float | None
    kept_until: float | None
    ended_at: float | None
    """When EC2 accepted that it ends."""
    claim_s: float | None = None
    """How long after its launch it ends if no agent was installed on it; None: not known."""
    lease_s: float | None = None
    """How long it waits for a controller, once an agent keeps a lease there; None: none does yet."""
    ahead_s: Mapping[str, float] = field(default_factory=dict)
    """How long each phase took before it had a job, if it was launched ahead of that."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A job on a machine, or on its way there."""

    id: int
    on: MachineRecord
    key: str
    label: str
    rule: str
    fingerprint: str
    outputs: tuple[Path, ...]
    phase: Phase
    """What was under way last."""
    end_reason: str
    """`done`, `failed`, …; empty while it is running, and if no run has seen its end."""
    saved_state: Mapping[str, Any] | None
    """What the session needs to go on; None before everything is on the machine. It belongs to the job, not
    to the machine: it says that this job may have been started."""
    outputs_fetched: Mapping[str, tuple[int, int]] | None
    """Its outputs here with size and modification time (ns), once all of them had arrived."""
    seconds: Mapping[str, float]
    usd: float | None
    """Its share of what the machine cost."""
    began_at: float
    asked: Requirements
    result: JobResult | None = None
    """How the command ended, and what it used; None if no run has seen its end."""
    error: str = ""
    """What ended it otherwise: a lost machine, a failed installation; empty: nothing did."""

    @property
    def machine(self) -> Machine | None:
        """See `MachineRecord.machine`."""
        return self.on.machine

    @property
    def may_go_on(self) -> bool:
        """Whether its job was (about to be) started on a machine that has not been ended."""
        at_work = self.phase in (Phase.PREPARE, Phase.RUN, Phase.STAGE_OUT) and not self.end_reason
        return (
            at_work and self.machine is not None and self.saved_state is not None and self.on.ended_at is None
        )


def run_of(row: sqlite3.Row) -> RunRecord:
    """The run in a row of `runs`."""
    private = row["login_private"]
    return RunRecord(
        id=row["id"],
        began_at=row["began_at"],
        pid=row["pid"],
        region=row["region"],
        endpoint=row["endpoint"],
        ssh_user=row["ssh_user"],
        ssh_port=row["ssh_port"],
        login=None if private is None else KeyPair(private=private, public=row["login_public"]),
        lease_s=row["lease_s"],
        account=row["account"],
        detached=bool(row["detached"]),
        closed=bool(row["closed"]),
        ended_at=row["ended_at"],
        ssh_proxy=row["ssh_proxy"],
        ssh_to=row["ssh_to"],
        cloud_env=json.loads(row["cloud_env"]),
        where=None if row["whereabouts"] is None else whereabouts.of_json(json.loads(row["whereabouts"])),
    )


def machine_of(row: sqlite3.Row) -> MachineRecord:
    """The machine in a row of `machines`."""
    return MachineRecord(
        id=row["id"],
        run=row["run"],
        owner=row["owner"],
        host_keys=tuple(json.loads(row["host_keys"])),
        machine=row["machine"] and _machine(json.loads(row["machine"])),
        usd=row["usd"],
        kept_until=row["kept_until"],
        ended_at=row["ended_at"],
        claim_s=row["claim_s"],
        lease_s=row["lease_s"],
        ahead_s=json.loads(row["ahead_s"]),
    )


def attempt_of(row: sqlite3.Row, on: MachineRecord) -> Attempt:
    """The attempt in a row of `attempts`, on its machine."""
    outputs_fetched = row["outputs_fetched"] and json.loads(row["outputs_fetched"])
    return Attempt(
        id=row["id"],
        on=on,
        key=row["key"],
        label=row["label"],
        rule=row["rule"],
        fingerprint=row["fingerprint"],
        outputs=tuple(map(Path, json.loads(row["outputs"]))),
        phase=Phase(row["phase"]),
        end_reason=row["end_reason"],
        saved_state=row["saved_state"] and json.loads(row["saved_state"]),
        outputs_fetched=outputs_fetched
        and {path: (stat[0], stat[1]) for path, stat in outputs_fetched.items()},
        seconds=json.loads(row["seconds"]),
        usd=row["usd"],
        began_at=row["began_at"],
        asked=_requirements(json.loads(row["asked"])),
        result=row["result"] and _result(json.loads(row["result"])),
        error=row["error"],
    )


def _machine(facts: dict[str, Any]) -> Machine:
    price, on_demand = facts.pop("price"), facts.pop("on_demand")
    market = Market(facts.pop("market"))
    return Machine(
        **facts,
        market=market,
        price=price and Price(**price),
        on_demand=on_demand and Price(**on_demand),
    )


def _requirements(facts: dict[str, Any]) -> Requirements:
    arch, spot = Arch(facts.pop("arch")), SpotUse(facts.pop("spot"))
    patterns = tuple(facts.pop("instance_types"))
    return Requirements(**facts, instance_types=patterns, arch=arch, spot=spot)


def _result(facts: dict[str, Any]) -> JobResult:
    failure, usage = facts.pop("failure"), Usage(**facts.pop("usage"))
    return JobResult(**facts, failure=failure and Failure(failure), usage=usage)
