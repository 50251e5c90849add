"""One job's story, from the plan to the outcome. Start reading here.

    launch → connect → prepare software ∥ stage in → run, detached → stage out → terminate

A machine is owned by a `with` from the moment EC2 gave it to us: it is terminated on every
way out. Whatever is asked of the machine goes through a `Link`, which is mended when it breaks,
so that a lost connection costs no more than its own length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from snakemake_executor_ec2.control import Control
from snakemake_executor_ec2.errors import (
    Cancelled,
    Ec2ExecutorError,
    InstanceLost,
)
from snakemake_executor_ec2.link import Link
from snakemake_executor_ec2.model import (
    JobOutcome,
    JobPlan,
    JobResult,
    KeyPair,
    Machine,
    Phase,
    Software,
)
from snakemake_executor_ec2.ports import Clock, Cloud, Connector, Workbench
from snakemake_executor_ec2.report import say
from snakemake_executor_ec2.report.ledger import Entry, Ledger

MACHINES_PER_JOB = 2
"""How many machines a job may lose (crashes, reclaims) before it counts as failed."""


class Launches(Protocol):
    """Gets machines for plans (see `launching.Launcher`)."""

    def launch(self, plan: JobPlan, host_key: KeyPair, machine_no: int, control: Control) -> Machine:
        """The best machine that is to be had now, the `machine_no`th for this plan.

        Raises NoFittingInstance or another LaunchError; Cancelled while it waits or tries.
        """


@dataclass(frozen=True, kw_only=True)
class Kit:
    """Everything that a story needs from the world, the same for all jobs of a run."""

    cloud: Cloud
    connector: Connector
    clock: Clock
    launcher: Launches
    ledger: Ledger
    new_key_pair: Callable[[], KeyPair]
    workbench: Callable[[Link], Workbench]
    software: Software
    boot_timeout_s: float
    lease_s: float
    log_folder: Path
    tell: Callable[[str], None]
    """Prints a line for the user."""


def run_job(plan: JobPlan, kit: Kit, control: Control) -> JobOutcome:
    """Run one job on a machine of its own. Whatever goes wrong is in the outcome."""
    for machine_no in range(1, MACHINES_PER_JOB + 1):
        entry = kit.ledger.open(plan.label)
        entry.ending = "failed"
        try:
            outcome = _on_a_machine(plan, kit, control, entry, machine_no)
        except Cancelled:
            entry.ending = "cancelled"
            return JobOutcome(ok=False, cancelled=True, message=f"{plan.label} was cancelled")
        except InstanceLost as error:
            entry.ending = "lost"
            if machine_no < MACHINES_PER_JOB and not control.cancelled:
                kit.tell(say.trying_again(plan, error))
                continue
            return JobOutcome(ok=False, message=say.failed_by(plan, entry, error, kit.clock.now()))
        except Ec2ExecutorError as error:
            if control.cancelled:
                entry.ending = "cancelled"
                return JobOutcome(ok=False, cancelled=True, message=f"{plan.label} was cancelled")
            return JobOutcome(ok=False, message=say.failed_by(plan, entry, error, kit.clock.now()))
        else:
            entry.ending = "done" if outcome.ok else "failed"
            return outcome
    raise AssertionError("unreachable: the last round returns")


def _on_a_machine(plan: JobPlan, kit: Kit, control: Control, entry: Entry, machine_no: int) -> JobOutcome:
    host_key = kit.new_key_pair()
    with _machine(plan, kit, control, entry, host_key, machine_no) as machine:
        link = Link(
            cloud=kit.cloud,
            connector=kit.connector,
            clock=kit.clock,
            control=control,
            machine=machine,
            host_keys=(host_key.public,),
            patience_s=kit.lease_s,
        )
        try:
            with kit.ledger.phase(entry, Phase.BOOT):
                link.open(kit.boot_timeout_s)
            bench = kit.workbench(link)
            with kit.ledger.phase(entry, Phase.PREPARE):
                _make_ready(plan, kit, link, bench)
            with kit.ledger.phase(entry, Phase.RUN):
                kit.tell(say.running(plan, machine))
                result = bench.run(plan, _log_path(plan, kit))
                kit.tell(say.ended(plan, result))
            with kit.ledger.phase(entry, Phase.STAGE_OUT):
                fetched = bench.stage_out(plan, succeeded=result.exit_code == 0)
                kit.tell(say.retrieved(plan, fetched))
        finally:
            link.close()
    return _outcome(plan, kit, entry, result)


@contextmanager
def _machine(
    plan: JobPlan, kit: Kit, control: Control, entry: Entry, host_key: KeyPair, machine_no: int
) -> Iterator[Machine]:
    """A machine that ends with the block, whatever happens in it."""
    with kit.ledger.phase(entry, Phase.LAUNCH):
        machine = kit.launcher.launch(plan, host_key, machine_no, control)
    entry.machine = machine
    try:
        kit.tell(say.launched(plan, machine))
        control.check()
        yield machine
    finally:
        with kit.ledger.phase(entry, Phase.TERMINATE):
            kit.cloud.terminate([machine.id])
        entry.ended_at = kit.clock.now()
        kit.tell(say.terminated(plan, entry, kit.clock.now()))


def _make_ready(plan: JobPlan, kit: Kit, link: Link, bench: Workbench) -> None:
    """Move in: the agent, the machine's end on its own, its own host key; then software and
    inputs side by side. No data flows before the host key is one that only the machine knows."""
    bench.move_in(kit.lease_s)
    rotated = bench.rotate_host_key()
    if rotated is not None:
        link.host_keys = (rotated,)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="software") as side:
        software = side.submit(bench.install_software, kit.software)
        sent = bench.stage_in(plan)
        kit.tell(say.staged(plan, sent))
        software.result()


def _outcome(plan: JobPlan, kit: Kit, entry: Entry, result: JobResult) -> JobOutcome:
    log = _log_path(plan, kit)
    if result.exit_code == 0:
        return JobOutcome(ok=True, log=log)
    return JobOutcome(ok=False, log=log, message=say.job_failed(plan, entry, result, log, kit.clock.now()))


def _log_path(plan: JobPlan, kit: Kit) -> Path:
    return kit.log_folder / f"{plan.key}.log"
