"""A job's story on fakes: EC2, the line, the session and time; the journal is real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.controller.ahead import LookAhead
from snakemake_executor_ec2.controller.context import Inherited, RunContext
from snakemake_executor_ec2.controller.idle import IdleMachines, Promise
from snakemake_executor_ec2.controller.job import run_job
from snakemake_executor_ec2.controller.lingering import Lingering
from snakemake_executor_ec2.machines.failure_detector import Reachability
from snakemake_executor_ec2.model import (
    JobOutcome,
    JobPlan,
    Market,
    Software,
    SpotUse,
)
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.ledger import Ledger
from snakemake_executor_ec2.sizing.reuse import Reuse
from tests.fakes.disk import FakeDisk
from tests.fakes.records import run_record
from tests.fakes.session import FakeControl, FakeSession, Scene
from tests.unit.machines import launchers

PLAN = launchers.plan("run-1.1.1")
SPOT = launchers.plan("run-1.1.1", spot=SpotUse.PREFER, runtime_min=10)
ONLY_SPOT = launchers.plan("run-1.1.1", spot=SpotUse.ONLY)
RECLAIM = "Server.SpotInstanceTermination"


class World(launchers.World):
    """A context on fakes, with a real journal."""

    def __init__(self, folder: Path, reuse: Reuse = Reuse.RULE, **more: Any) -> None:
        super().__init__(**more)
        self.cloud.pending_s = 0
        self.scene = Scene(self.cloud)
        self.disk = FakeDisk()
        self.journal = Journal(folder, now=self.clock.now, warn=self._warn, connect=self.disk.connect)
        for name in ("run-0", "run-1"):
            self.journal.begin_run(run_record(name))
        self.ledger = Ledger(self.clock, self.journal, "run-1")
        self.cancel_token = FakeControl(self.clock)
        self.idle = IdleMachines(
            reuse=reuse,
            idle_s=60.0,
            clock=self.clock,
            ledger=self.ledger,
            launcher=lambda: self.launcher,
            tell=self.said.append,
            going=lambda machine_id: self.context.lingering.gone(machine_id),
            pause=lambda _, seconds: self._pause(self.cancel_token, seconds),
        )
        self.begun: list[Promise] = []
        self.ahead = LookAhead(
            run_id="run-1",
            reuse=reuse,
            idle=self.idle,
            launcher=self.launcher,
            clock=self.clock,
            begin=self.begun.append,
        )
        self.context = RunContext(
            cloud=self.cloud,
            connector=self.scene,
            clock=self.clock,
            launcher=self.launcher,
            ledger=self.ledger,
            idle=self.idle,
            ahead=self.ahead,
            lingering=Lingering(
                None, 60.0, self.clock, self.ledger, launcher=lambda: self.launcher, tell=self.said.append
            ),
            new_key_pair=lambda: launchers.HOST_KEY,
            session=lambda connection: FakeSession(connection, self.scene),
            software=Software(snakemake="9"),
            boot_timeout_s=60.0,
            lease_s=3600.0,
            lost_after_s=600.0,
            reachability=Reachability(),
            keep_failed_s=0.0,
            log_folder=folder / "logs",
            tell=self.said.append,
        )

    def story(self, plan: JobPlan = PLAN, inherited: Inherited | None = None) -> JobOutcome:
        return run_job(plan, self.context, self.cancel_token, inherited)

    def no_room(self, *, until_s: float) -> None:
        """The journal cannot be written until so many seconds of the fake time have passed."""
        self.disk.full = True
        until = self.clock.monotonic() + until_s

        def look(_: float) -> None:
            if self.clock.monotonic() >= until:
                self.disk.full = False
                self.clock.on_sleep = None

        self.clock.on_sleep = look

    def _warn(self, text: str) -> None:
        assert "database or disk is full" in text
        self.said.append(text)

    def newest(self) -> str:
        """The id of the machine that was launched last."""
        return list(self.cloud.machines)[-1]

    def at_every(self, step: str, happening: Callable[[], object]) -> None:
        """Have something happen whenever a step is taken."""

        def again() -> None:
            self.scene.happens[step] = again
            happening()

        self.scene.happens[step] = again

    def end_later(self, reason: str) -> None:
        """The newest machine is ending, and EC2 says so after the next pause."""
        machine = self.newest()

        def end(_: float) -> None:
            self.clock.on_sleep = None
            self.cloud.end(machine, reason=reason)

        self.clock.on_sleep = end

    @property
    def endings(self) -> list[str]:
        return [each.end_reason for each in self.journal.attempts("run-1")]

    @property
    def markets(self) -> list[Market]:
        return [each.machine.market for each in self.cloud.machines.values()]
