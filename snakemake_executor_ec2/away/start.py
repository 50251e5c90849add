"""A start of a whole run on its machine: on a new one, or once more on the one that is there.

    acquire a machine → send the project → install → begin, detached → leave it

Until it is left on purpose, the machine is a job's like any other: it is in the journal before it is
launched, and terminated on every way out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from snakemake_executor_ec2.away.machine import AwayMachine, bare_plan
from snakemake_executor_ec2.away.project import Project, Started, Terms
from snakemake_executor_ec2.away.wheel import Wheel
from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.controller.context import RunContext
from snakemake_executor_ec2.controller.idle import ReadyMachine
from snakemake_executor_ec2.controller.leases import Leases
from snakemake_executor_ec2.controller.machine import JobMachines
from snakemake_executor_ec2.errors import Cancelled, Ec2ExecutorError, PreparationError
from snakemake_executor_ec2.machines.budget import estimated_usd
from snakemake_executor_ec2.model import JobOutcome, JobPlan, Machine, Phase, Requirements, Transfer
from snakemake_executor_ec2.records.ledger import Entry
from snakemake_executor_ec2.report import away as words
from snakemake_executor_ec2.report.failed_job import failed_by

LONG_S = 60.0
"""How long the journal may take to have what another process needs to find the machine."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be started, on what, and for how long."""

    project: Project
    wheel: Wheel | None
    requirements: Requirements
    terms: Terms
    max_cost_usd: float | None
    """What is left of `--ec2-max-cost`, as far as this folder knows: the machine's own part is set aside
    of it."""

    def plan(self, key: str) -> JobPlan:
        """Of the machine, for the journal and the launch."""
        return bare_plan(key, self.project.workdir, requirements=self.requirements)

    def paid_by(self, machine: Machine) -> Project:
        """The project, whose jobs may cost what is left of the budget."""
        if self.max_cost_usd is None:
            return self.project
        own_usd = estimated_usd(machine.price, machine, self.requirements.runtime_min) or 0.0
        left = f"{max(0.0, self.max_cost_usd - own_usd):.4f}"
        return replace(self.project, arguments=(*self.project.arguments, "--ec2-max-cost", left))

    def started(self, hostname: str) -> Started:
        """What is remembered of it."""
        project = self.project
        return Started(
            hostname=hostname,
            arguments=project.arguments,
            also=project.also,
            patterns=project.patterns,
            sent=tuple(map(str, (*project.sources, *project.inputs))),
            keep_s=self.terms.keep_s,
        )


def on_new_machine(order: Order, key: str, context: RunContext, cancel: CancelToken) -> JobOutcome:
    """Launch a machine and start the workflow there. What goes wrong is in the outcome: then no machine is
    left."""
    plan = order.plan(key)
    machines = JobMachines(plan, context, cancel)
    entry: Entry | None = None
    try:
        host_key = context.new_key_pair()
        entry = context.ledger.open(plan, host_key.public)
        ready = machines.acquire(entry, host_key, 0, 0)
        try:
            sent = _make_ready(order, ready, entry, context)
            cancel.check()
            _begin(order, key, ready, entry, context)
        except BaseException as error:
            machines.release(entry, ready, error)
            raise
        entry.end_reason = "left"
        ready.connection.close()
        message = words.started(ready.machine, sent, order.terms.lifetime_s, order.terms.keep_s)
        return JobOutcome(ok=True, message=message)
    except Ec2ExecutorError as error:
        cancelled = cancel.cancelled or isinstance(error, Cancelled)
        if entry is not None:
            entry.end_reason, entry.error = ("cancelled" if cancelled else "failed"), error.message
        failed = failed_by(plan, entry, error, context.clock.now())
        told = words.cancelled() if cancelled else failed + words.hint(error)
        return JobOutcome(ok=False, cancelled=cancelled, message=told)
    finally:
        if entry is not None:
            context.ledger.close(entry)


def _make_ready(order: Order, ready: ReadyMachine, entry: Entry, context: RunContext) -> Transfer:
    machine = AwayMachine(ready.connection, ready.session, order.project.workdir)
    with context.ledger.phase(entry, Phase.PREPARE), context.leases.renewing(ready.lease_s, ready.session):
        sent = machine.send(order.project, new=True)
        context.tell(words.sent(sent))
        machine.install(order.project, order.wheel)
        state = {**machine.saved, "away": order.started(machine.hostname()).as_json()}
    context.ledger.ready(entry, state)
    context.ledger.kept(entry.on, ready.machine.launched_at + order.terms.lifetime_s)
    ready.session.lease(order.terms.lifetime_s)
    context.ledger.leased(entry.on, order.terms.lifetime_s)
    if not context.ledger.remembered(
        entry, context.clock.sleep, patience_s=LONG_S, tell=lambda: context.tell(words.journal_waits())
    ):
        raise PreparationError(words.journal_unwritten())
    return sent


def _begin(order: Order, key: str, ready: ReadyMachine, entry: Entry, context: RunContext) -> None:
    machine = AwayMachine(ready.connection, ready.session, order.project.workdir)
    with context.ledger.phase(entry, Phase.RUN):
        machine.begin(key, order.paid_by(ready.machine), keep_s=order.terms.keep_s)
        entry.on.kept_reason = words.stays()


def once_more(
    order: Order,
    key: str,
    machine: AwayMachine,
    on: Machine,
    *,
    left_s: float,
    note: Callable[[dict[str, object]], None],
) -> Transfer:
    """Start the workflow on the machine that is there.

    `left_s` is what it has left of its lifetime; `note` gets what the journal is to remember, before anything
    runs. Outputs that are here are never sent: it may have newer ones, whatever became of earlier starts.
    """
    keep_s = min(left_s, order.terms.keep_s)
    machine.session.lease(keep_s)  # nothing runs there yet, and will not if we fail or are killed
    machine.let_go_of_dead_runs()
    with Leases().renewing(keep_s, machine.session):
        sent = machine.send(order.project, new=False)
        machine.install(order.project, order.wheel)
    note({**machine.saved, "away": order.started(machine.hostname()).as_json()})
    machine.session.lease(left_s)
    machine.begin(key, order.paid_by(on), keep_s=order.terms.keep_s)
    return sent
