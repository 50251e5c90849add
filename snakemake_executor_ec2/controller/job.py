"""One job's story, from the plan to the outcome. Start reading here.

    launch → connect → prepare software ∥ stage in → run, detached → stage out → terminate

A machine is owned by a `with` from the moment EC2 gave it to us: it is terminated on every
way out but three, which say so (`Entry.left`): the user detached, it has results that
could not be fetched, it failed and is kept for a look. Whatever is asked of the machine goes
through a `Connection`, which is mended when it breaks, so that a lost connection costs no more than
its own length. Every phase is in the journal before it begins; a story whose teller was killed
goes on in `_go_on`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import (
    Cancelled,
    Ec2ExecutorError,
    InstanceLost,
    NotFetched,
    PreparationError,
)
from snakemake_executor_ec2.formatting import duration
from snakemake_executor_ec2.machines.connection import Connection
from snakemake_executor_ec2.machines.failure_detector import Reachability
from snakemake_executor_ec2.model import (
    Failure,
    JobOutcome,
    JobPlan,
    JobResult,
    KeyPair,
    Machine,
    Phase,
    Software,
    Transfer,
)
from snakemake_executor_ec2.ports import Clock, Cloud, Connector, Launches, Session
from snakemake_executor_ec2.records.ledger import Entry, Ledger
from snakemake_executor_ec2.records.rows import Attempt
from snakemake_executor_ec2.report import kept_results, messages
from snakemake_executor_ec2.report.leavings import Leavings
from snakemake_executor_ec2.report.logs import log_path, put_aside
from snakemake_executor_ec2.sizing.lease import lease_s
from snakemake_executor_ec2.staging.file_stats import sizes_and_times

_FETCH_PAUSES_S = (2.0, 5.0, 10.0, 30.0, 60.0)
"""Between attempts to fetch results."""
_FETCHES_AGAIN = 4
"""How often that is tried again where it is not this computer that could not take them."""
_METAL_BOOTS_S = 1800.0
"""What a machine without a hypervisor may take to boot: up to 20 minutes are usual."""
_EC2_KNOWS_AFTER_S = (0.0, 1.0, 2.0)
"""Pauses before EC2 is asked whether a machine is ending: its answers are up to 2 s old."""
MACHINES_PER_JOB = 2
"""How many machines a job may lose (crashes, lost connections) before it counts as failed."""
RECLAIMS_PER_JOB = 10
"""How many spot machines EC2 may take from a job beside those; the launcher goes over to
on-demand long before, unless the user wants spot and nothing else."""


@dataclass(frozen=True, kw_only=True)
class Inherited:
    """A job that a run before ours left on a machine, and the ways to that machine."""

    attempt: Attempt
    cloud: Cloud
    connector: Connector


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Everything that a story needs from the world, the same for all jobs of a run."""

    cloud: Cloud
    connector: Connector
    clock: Clock
    launcher: Launches
    ledger: Ledger
    new_key_pair: Callable[[], KeyPair]
    session: Callable[[Connection], Session]
    software: Software
    boot_timeout_s: float
    lease_s: float
    lost_after_s: float
    """How long a machine that seems to have crashed is waited for."""
    reachability: Reachability
    keep_failed_s: float
    """How long a failed job's machine is kept for a look; 0: not at all."""
    log_folder: Path
    tell: Callable[[str], None]
    """Prints a line for the user."""
    leavings: Leavings = field(default_factory=Leavings)
    """What jobs left beside their outputs."""
    lease_usd: float | None = None

    def lease_of(self, machine: Machine, plan: JobPlan) -> float:
        """The seconds of a machine's lease."""
        return lease_s(self.lease_s, self.lease_usd, machine.price, plan.requirements)


def run_job(
    plan: JobPlan, context: RunContext, cancel: CancelToken, inherited: Inherited | None = None
) -> JobOutcome:
    """Run one job on a machine of its own, or go on with one that runs or has ended already.
    Whatever goes wrong is in the outcome."""
    machine_no = lost = reclaimed = 0
    while True:
        entry: Entry | None = None
        try:
            if inherited and not machine_no:
                entry = context.ledger.reopen(inherited.attempt)
                outcome = _go_on(plan, context, cancel, entry, inherited)
            else:
                host_key = context.new_key_pair()
                entry = context.ledger.open(plan, machine_no, host_key.public)
                outcome = _on_a_machine(plan, context, cancel, entry, host_key, machine_no, reclaimed)
            entry.ending = "done" if outcome.ok else "failed"
        except InstanceLost as error:
            outcome = _failed(plan, context, cancel, entry, error)
            reclaimed += error.for_want_of_capacity
            lost += not error.for_want_of_capacity
            if not outcome.cancelled and lost < MACHINES_PER_JOB and reclaimed <= RECLAIMS_PER_JOB:
                by_spot = error.by_spot
                context.tell(
                    messages.reclaimed(plan, error, reclaimed)
                    if by_spot
                    else messages.trying_again(plan, error)
                )
                machine_no += 1
                continue
        except Ec2ExecutorError as error:
            outcome = _failed(plan, context, cancel, entry, error)
        finally:
            if entry is not None:
                context.ledger.close(entry)
        return outcome


def _failed(
    plan: JobPlan,
    context: RunContext,
    cancel: CancelToken,
    entry: Entry | None,
    error: Ec2ExecutorError,
) -> JobOutcome:
    """The outcome of a story that an error has ended."""
    if cancel.cancelled or isinstance(error, Cancelled):
        ending = "left" if entry is not None and entry.left else "cancelled"
        outcome = JobOutcome(ok=False, cancelled=True, message=messages.cancelled(plan))
    else:
        ending = "lost" if isinstance(error, InstanceLost) else "failed"
        outcome = JobOutcome(ok=False, message=messages.failed_by(plan, entry, error, context.clock.now()))
    if entry is not None:
        entry.ending = ending
    return outcome


def _on_a_machine(
    plan: JobPlan,
    context: RunContext,
    cancel: CancelToken,
    entry: Entry,
    host_key: KeyPair,
    machine_no: int,
    reclaimed: int,
) -> JobOutcome:
    with context.ledger.phase(entry, Phase.LAUNCH):
        machine = context.launcher.launch(plan, host_key, machine_no, cancel, reclaimed=reclaimed)
    entry.machine = machine
    with (
        _connection(
            context, cancel, machine, context.cloud, context.connector, (host_key.public,)
        ) as connection,
        _machine(plan, context, cancel, context.cloud, entry, machine, connection),
    ):
        context.tell(messages.launched(plan, machine))
        cancel.check()
        with context.ledger.phase(entry, Phase.BOOT):
            connection.open(
                max(context.boot_timeout_s, _METAL_BOOTS_S if ".metal" in machine.instance_type else 0)
            )
        session = context.session(connection)
        put_aside(log_path(plan, context.log_folder), machine_no)
        with context.ledger.phase(entry, Phase.PREPARE):
            _make_ready(plan, context, cancel, entry, connection, session)
        return _to_its_end(plan, context, cancel, entry, session)


def _go_on(
    plan: JobPlan, context: RunContext, cancel: CancelToken, entry: Entry, inherited: Inherited
) -> JobOutcome:
    """The rest of a story that a run before ours began: the job runs, or has ended, on its machine."""
    attempt = inherited.attempt
    machine, memo = attempt.machine, attempt.bench
    assert machine is not None
    assert memo is not None
    context.launcher.adopted(machine, plan.requirements)
    with (
        _connection(
            context, cancel, machine, inherited.cloud, inherited.connector, attempt.host_keys
        ) as connection,
        _machine(plan, context, cancel, inherited.cloud, entry, machine, connection),
    ):
        context.tell(messages.adopted(plan, machine))
        session = context.session(connection)
        session.resume(memo)
        return _to_its_end(plan, context, cancel, entry, session)


def _to_its_end(
    plan: JobPlan, context: RunContext, cancel: CancelToken, entry: Entry, session: Session
) -> JobOutcome:
    machine = entry.machine
    assert machine is not None
    result: JobResult | None = None
    has_results = False
    try:
        with context.ledger.phase(entry, Phase.RUN):
            context.tell(messages.running(plan, machine))
            result = session.run(plan, log_path(plan, context.log_folder))
            has_results = result.exit_code == 0
            context.tell(messages.ended(plan, result))
        with (
            context.ledger.phase(entry, Phase.STAGE_OUT),
            _renewing(context.lease_of(machine, plan), session),
        ):
            fetched = _fetch(plan, context, cancel, session, has_results=has_results)
            context.tell(messages.retrieved(plan, fetched))
            if has_results:
                context.ledger.landed(entry, sizes_and_times(plan.outputs))
                _remembered(plan, context, partial(_wait_for_room, cancel))
                context.leavings.note(plan.rule, session.left(plan))
    except Ec2ExecutorError as error:
        not_fetched = isinstance(error, NotFetched)
        if cancel.detached:
            entry.left = messages.detached(context.lease_of(machine, plan))
        elif cancel.leaves(unfetched=bool(result and not_fetched), results=has_results or not_fetched):
            entry.left = kept_results.keeps_results(machine, context.lease_of(machine, plan))
        raise
    if not has_results and context.keep_failed_s:
        session.lease(context.keep_failed_s)
        context.ledger.kept(entry, context.clock.now() + context.keep_failed_s)
        entry.left = f"is kept for {duration(context.keep_failed_s)}: snakemake-ec2 ssh {machine.id}"
    return _outcome(plan, context, entry, result)


def _fetch(
    plan: JobPlan, context: RunContext, cancel: CancelToken, session: Session, *, has_results: bool
) -> Transfer:
    """Stage out: again for as long as a lease is long where this computer cannot take the results, a
    few times where something else is in the way (what is still written to, for instance)."""
    started = context.clock.monotonic()
    failures, told = 0, False
    while True:
        try:
            return session.stage_out(plan, succeeded=has_results)
        except NotFetched as error:
            waited_s = context.clock.monotonic() - started
            if waited_s > context.lease_s or (not error.here and failures >= _FETCHES_AGAIN):
                raise
            if error.here and not told:
                told = True
                context.tell(messages.cannot_store(plan, error))
        wait_for_room = partial(_wait_for_room, cancel) if has_results else cancel.wait
        wait_for_room(_FETCH_PAUSES_S[min(failures, len(_FETCH_PAUSES_S) - 1)])
        failures += 1


def _wait_for_room(cancel: CancelToken, seconds: float) -> None:
    """Wait before results are stored again. Who ends the run then wants room for them, not to lose
    them: their machine keeps them."""
    try:
        cancel.wait(seconds)
    except Cancelled as error:
        raise NotFetched("cancelled before there was room for the results", here=True) from error


@contextmanager
def _machine(
    plan: JobPlan,
    context: RunContext,
    cancel: CancelToken,
    cloud: Cloud,
    entry: Entry,
    machine: Machine,
    connection: Connection,
) -> Iterator[None]:
    """A machine that ends with the block, whatever happens in it, unless it is left on purpose."""
    no_capacity = False
    try:
        yield
    except Ec2ExecutorError as error:
        lost = None if cancel.cancelled else _end_behind(error, context, cloud, machine)
        no_capacity = lost is not None and lost.for_want_of_capacity
        if lost is None or lost is error:
            raise
        raise lost from error
    finally:
        if entry.left:
            context.tell(messages.left(plan, machine, entry.left))
        else:
            with context.ledger.phase(entry, Phase.TERMINATE):
                try:
                    cloud.terminate([machine.id])
                    entry.ended_at = context.clock.now()
                except Ec2ExecutorError as error:
                    # What the job made is here. Credentials may have run out: the machine needs none
                    # to end, and the run's last sweep tries again.
                    context.tell(
                        messages.not_terminated(machine, error, goes=context.session(connection).let_go())
                    )
            if entry.ended_at is not None:
                context.tell(messages.terminated(plan, entry, context.clock.now()))
        context.launcher.released(machine, no_capacity=no_capacity)


def _end_behind(
    error: Ec2ExecutorError, context: RunContext, cloud: Cloud, machine: Machine
) -> InstanceLost | None:
    """What the end of the machine is told as, where it is behind an error; None where it is not.

    A machine that goes down ends what we run on it before it ends the connection: an installation
    or a transfer then fails like any other. EC2 knows better, and why.
    """
    lost = error if isinstance(error, InstanceLost) else None
    if isinstance(error, NotFetched) or (lost and lost.reason):
        return lost
    for pause_s in _EC2_KNOWS_AFTER_S:
        context.clock.sleep(pause_s)
        with suppress(Ec2ExecutorError):
            status = cloud.status(machine.id)
            if status.state.is_gone:
                text = lost.message if lost else messages.gone(machine, status)
                return InstanceLost(text, reason=status.reason or status.state)
    return lost


@contextmanager
def _renewing(lease_s: float, session: Session) -> Iterator[None]:
    """Something that may take longer than a lease: files on their way, an installation. Only a
    job that is followed renews the lease by itself."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(lease_s / 4):
            with suppress(Ec2ExecutorError):  # whoever works on the machine hears of it, too
                session.renew()

    threading.Thread(target=renew, name="lease", daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def _connection(
    context: RunContext,
    cancel: CancelToken,
    machine: Machine,
    cloud: Cloud,
    connector: Connector,
    keys: tuple[str, ...],
) -> Iterator[Connection]:
    connection = Connection(
        cloud=cloud,
        connector=connector,
        clock=context.clock,
        cancel=cancel,
        machine=machine,
        host_keys=keys,
        patience_s=context.lease_s,
        lost_after_s=context.lost_after_s,
        reachability=context.reachability,
        tell=context.tell,
    )
    try:
        yield connection
    finally:
        connection.close()


def _make_ready(
    plan: JobPlan,
    context: RunContext,
    cancel: CancelToken,
    entry: Entry,
    connection: Connection,
    session: Session,
) -> None:
    """Move in: the agent, the machine's end on its own, its own host key; then software and
    inputs side by side. No data flows before the host key is one that only the machine knows."""

    def pin(*host_keys: str) -> None:
        connection.host_keys = host_keys
        context.ledger.pinned(entry, host_keys)

    assert entry.machine is not None
    lease = context.lease_of(entry.machine, plan)
    session.move_in(lease)
    context.ledger.leased(entry, lease)
    session.rotate_host_key(pin)

    def send() -> None:
        context.tell(messages.staged(plan, session.stage_in(plan)))

    with _renewing(lease, session):
        side_by_side = ThreadPoolExecutor(max_workers=2, thread_name_prefix="make ready")
        install = side_by_side.submit(session.install_software, context.software.of_job(plan))
        ended, _ = wait([install, side_by_side.submit(send)], return_when=FIRST_EXCEPTION)
        side_by_side.shutdown(wait=False)  # where one failed, the other ends with its machine
        for each in ended:
            each.result()
        context.ledger.ready(entry, session.memo())
        if not _remembered(plan, context, cancel.wait):
            raise PreparationError(messages.journal_unwritten(context.lease_s))


def _remembered(plan: JobPlan, context: RunContext, wait: Callable[[float], None]) -> bool:
    return context.ledger.remembered(
        wait, patience_s=context.lease_s, tell=lambda: context.tell(messages.waits_for_the_journal(plan))
    )


def _outcome(plan: JobPlan, context: RunContext, entry: Entry, result: JobResult) -> JobOutcome:
    log = log_path(plan, context.log_folder)
    if result.exit_code == 0:
        return JobOutcome(ok=True, log=log)
    return JobOutcome(
        ok=False,
        log=log,
        message=messages.job_failed(plan, entry, result, log, context.clock.now(), context.leavings),
        for_good=result.failure is Failure.DIFFERS,
    )
