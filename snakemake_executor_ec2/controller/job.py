"""The way of one job, from the plan to the outcome. Start reading here.

    acquire a machine → prepare software ∥ stage in → run, detached → stage out → set it free, or release it

How a machine is launched, and that it is terminated on every way out, stands in `machine.py`. All calls to
it go through a `Connection`, which reconnects when it breaks, so that a lost connection costs no more time
than it lasts. The journal has each phase, and before the job starts it has on the disk what another run
needs to go on with it: if Snakemake is killed, the next run resumes the job on the machine that it adopts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.controller.context import Inherited, RunContext
from snakemake_executor_ec2.controller.idle import ReadyMachine
from snakemake_executor_ec2.controller.machine import JobMachines
from snakemake_executor_ec2.errors import (
    Cancelled,
    Ec2ExecutorError,
    InstanceLost,
    NotFetched,
    PreparationError,
    ResultsRefused,
)
from snakemake_executor_ec2.formatting import duration
from snakemake_executor_ec2.model import Failure, JobOutcome, JobPlan, JobResult, Phase, Transfer
from snakemake_executor_ec2.ports import Session
from snakemake_executor_ec2.records.ledger import Entry
from snakemake_executor_ec2.report import failed_job, idle, kept_results, messages
from snakemake_executor_ec2.report.failures import alike
from snakemake_executor_ec2.report.levels import SLOW_S, Failed
from snakemake_executor_ec2.report.logs import log_path, put_aside
from snakemake_executor_ec2.report.transfers import Waits
from snakemake_executor_ec2.sizing.late import software_for
from snakemake_executor_ec2.staging.file_stats import sizes_and_times

_FETCH_PAUSES_S = (2.0, 5.0, 10.0, 30.0, 60.0)
"""Between attempts to fetch results."""
_FETCHES_AGAIN = 4
"""How often fetching is tried again if the reason is not this computer (a full disk)."""
_LOGS = frozenset({".log", ".err", ".out"})
"""Endings of log files, which no function looks for."""
MACHINES_PER_JOB = 2
"""How many machines a job may lose (crashes, lost connections) before it counts as failed."""
RECLAIMS_PER_JOB = 10
"""How many spot machines EC2 may reclaim from a job, beside those; the launcher switches to
on-demand long before, unless the user wants only spot."""


def run_job(
    plan: JobPlan, context: RunContext, cancel: CancelToken, inherited: Inherited | None = None
) -> JobOutcome:
    """Run one job on a machine of its own, or resume one that an earlier run started.

    Raises nothing of ours: what goes wrong is in the outcome."""
    return JobLifecycle(plan, context, cancel).run(inherited)


class JobLifecycle:
    """The story of one job: on one machine, or on another if that is lost."""

    def __init__(self, plan: JobPlan, context: RunContext, cancel: CancelToken) -> None:
        self._plan = plan
        self._context = context
        self._cancel = cancel
        self._tell = context.tell
        self._machines = JobMachines(plan, context, cancel)
        self._log = log_path(plan, context.log_folder)
        self._waits = Waits()

    def run(self, inherited: Inherited | None) -> JobOutcome:
        """See `run_job`."""
        machine_no = lost = reclaimed = 0
        while True:
            entry: Entry | None = None
            try:
                if inherited and not machine_no:
                    entry = self._context.ledger.reopen(inherited.attempt)
                    ready = self._machines.adopt(entry, inherited)
                    outcome = self._run_on(ready, entry, prepared=True)
                else:
                    put_aside(self._log, machine_no)
                    self._context.ahead.getting(self._plan)
                    host_key = self._context.new_key_pair()
                    entry = self._context.ledger.open(self._plan, host_key.public)
                    ready = self._machines.acquire(entry, host_key, machine_no, reclaimed)
                    outcome = self._run_on(ready, entry, prepared=False)
                entry.end_reason = "done" if outcome.ok else "failed"
            except InstanceLost as error:
                outcome = self._failed(entry, error)
                reclaimed += error.for_want_of_capacity
                lost += not error.for_want_of_capacity
                if not outcome.cancelled and lost < MACHINES_PER_JOB and reclaimed <= RECLAIMS_PER_JOB:
                    self._tell(messages.starts_again(self._plan, error, reclaimed))
                    machine_no += 1
                    continue
            except Ec2ExecutorError as error:
                outcome = self._failed(entry, error)
            finally:
                if entry is not None:
                    self._context.ledger.close(entry)
            return outcome

    def _run_on(self, ready: ReadyMachine, entry: Entry, *, prepared: bool) -> JobOutcome:
        """The job from its software to its results, or (`prepared`) the rest of one that an earlier run
        started; then the machine is released, however that ended, or waits for its next job."""
        try:
            if not prepared:
                with self._context.ledger.phase(entry, Phase.PREPARE):
                    self._waits = self._prepare(entry, ready)
            outcome = self._to_its_end(entry, ready)
        except BaseException as error:
            self._machines.release(entry, ready, error)
            raise
        is_free = False
        try:
            with suppress(Ec2ExecutorError):  # the job is done, whatever becomes of its machine
                is_free = outcome.ok and self._machines.set_free(entry, ready)
            is_free = is_free or (outcome.ok and self._context.lingering.take(self._plan, entry, ready))
        finally:
            if not is_free:
                self._machines.release(entry, ready)
        return outcome

    def _prepare(self, entry: Entry, ready: ReadyMachine) -> Waits:
        """Software and inputs in parallel. From then on another run can resume the job."""
        session, clock = ready.session, self._context.clock

        def send() -> Transfer:
            sent = session.stage_in(self._plan)
            self._tell(idle.staged(self._plan, sent))
            return sent

        def install() -> float:
            started = clock.monotonic()
            session.install_software(software_for(self._plan, self._context.software))
            return clock.monotonic() - started

        with self._context.leases.renewing(ready.lease_s, session):
            side_by_side = ThreadPoolExecutor(max_workers=2, thread_name_prefix="make ready")
            installing, sending = side_by_side.submit(install), side_by_side.submit(send)
            both: list[Future[Any]] = [installing, sending]
            ended, _ = wait(both, timeout=SLOW_S, return_when=FIRST_EXCEPTION)
            if installing not in ended and not any(each.exception() for each in ended):
                self._tell(messages.installing(self._plan, ready.machine))
            ended, _ = wait(both, return_when=FIRST_EXCEPTION)
            side_by_side.shutdown(wait=False)  # if one failed, the other ends with its machine
            for each in ended:
                each.result()
            self._context.ledger.ready(entry, session.saved_state())
            if not self._remembered(entry, self._cancel.wait):
                raise PreparationError(messages.journal_unwritten(self._context.lease_s))
        boot_s = entry.seconds.get(Phase.BOOT, 0.0)
        return Waits(boot_s=boot_s, software_s=installing.result(), sent=sending.result())

    def _to_its_end(self, entry: Entry, ready: ReadyMachine) -> JobOutcome:
        plan, context, session, machine = self._plan, self._context, ready.session, ready.machine
        result: JobResult | None = None
        has_results = False
        try:
            with context.ledger.phase(entry, Phase.RUN):
                number = len(entry.on.entries)
                self._tell(messages.running(plan, machine, self._waits, number))
                context.ahead.running(plan)
                result = session.run(plan, self._log)
                context.ledger.ran(entry, result)
                has_results = result.exit_code == 0
                if has_results:
                    context.ahead.ran(plan, result)
                self._tell(messages.ended(plan, result))
            with (
                context.ledger.phase(entry, Phase.STAGE_OUT),
                context.leases.renewing(ready.lease_s, session),
            ):
                self._tell(messages.retrieved(plan, self._fetch(session, has_results=has_results)))
                if has_results and (why := self._misleads_others(session)):
                    return self._incomplete(entry, why)
                if has_results:
                    context.ledger.outputs_fetched(entry, sizes_and_times(plan.outputs))
                    self._remembered(entry, self._wait_for_room)
        except Ec2ExecutorError as error:
            not_fetched = isinstance(error, NotFetched)
            if self._cancel.detached:
                entry.on.kept_reason = messages.detached(ready.lease_s)
            elif self._cancel.leaves(
                unfetched=bool(result and not_fetched), results=has_results or not_fetched
            ):
                entry.on.kept_reason = kept_results.keeps_results(machine, ready.lease_s)
            raise
        if not has_results and context.keep_failed_s:
            session.lease(context.keep_failed_s)
            context.ledger.kept(entry.on, context.clock.now() + context.keep_failed_s)
            entry.on.kept_reason = (
                f"is kept for {duration(context.keep_failed_s)}; log in with snakemake-ec2 ssh {machine.id}"
            )
        return self._outcome(entry, result)

    def _fetch(self, session: Session, *, has_results: bool) -> Transfer:
        """Stage out. Tried again for as long as the lease lasts if this computer cannot store the results,
        and a few times for any other reason (a file that is still written to, for instance)."""
        clock, wait_s = self._context.clock, self._wait_for_room if has_results else self._cancel.wait
        started = clock.monotonic()
        failures, told = 0, False
        while True:
            try:
                return session.stage_out(self._plan, succeeded=has_results)
            except NotFetched as error:
                too_late = clock.monotonic() - started > self._context.lease_s
                if too_late or (not error.here and failures >= _FETCHES_AGAIN):
                    raise
                if error.here and not told:
                    told = True
                    self._tell(messages.cannot_store(self._plan, error))
            wait_s(_FETCH_PAUSES_S[min(failures, len(_FETCH_PAUSES_S) - 1)])
            failures += 1

    def _misleads_others(self, session: Session) -> str:
        """Why other jobs would go wrong after this one, although it has ended well; empty if they would not.
        What it left, and what it went without, is kept in mind for the end of the run."""
        plan, leavings = self._plan, self._context.leavings
        left = session.left(plan)
        leavings.note(plan.rule, left)
        leavings.went_without(plan.rule, failed_job.went_without(plan, self._log))
        if missed := _missed_by_functions(plan, left):
            return failed_job.checkpoint_left(plan, missed)
        if changed := _changed_for_others(plan, left):
            return failed_job.changed_input(plan, changed)
        return ""

    def _wait_for_room(self, seconds: float) -> None:
        """Wait before results are stored again; if the run is cancelled meanwhile, their machine keeps
        them."""
        try:
            self._cancel.wait(seconds)
        except Cancelled as error:
            raise NotFetched("cancelled before there was room for the results", here=True) from error

    def _remembered(self, entry: Entry, wait: Callable[[float], None]) -> bool:
        return self._context.ledger.remembered(
            entry,
            wait,
            patience_s=self._context.lease_s,
            tell=lambda: self._tell(messages.waits_for_the_journal(self._plan)),
        )

    # --- outcomes -----------------------------------------------------------------------------

    def _outcome(self, entry: Entry, result: JobResult) -> JobOutcome:
        if result.exit_code == 0:
            return JobOutcome(ok=True, log=self._log)
        now, leavings = self._context.clock.now(), self._context.leavings
        plan, log = self._plan, self._log
        why = failed_job.cause(plan, result)
        entry.said = failed_job.said(log) if result.failure is not Failure.DIFFERS else ""
        entry.hint = failed_job.hint(plan, result, log, leavings)
        message = Failed(
            failed_job.job_failed(plan, entry, result, log, now, leavings),
            brief=failed_job.again(plan, entry, why, log, now),
            like=f"{plan.rule}: {alike(f'{why}: {entry.said}')}",
        )
        return JobOutcome(ok=False, log=log, message=message, for_good=result.failure is Failure.DIFFERS)

    def _incomplete(self, entry: Entry, why: str) -> JobOutcome:
        """The outcome of a job that has ended well, and without which others would go wrong."""
        entry.error = why
        message = failed_job.failed_by(self._plan, entry, ResultsRefused(why), self._context.clock.now())
        return JobOutcome(ok=False, log=self._log, message=message, for_good=True)

    def _failed(self, entry: Entry | None, error: Ec2ExecutorError) -> JobOutcome:
        """The outcome of a job that an error has ended."""
        if self._cancel.cancelled or isinstance(error, Cancelled):
            end_reason = "left" if entry is not None and entry.on.kept_reason else "cancelled"
            outcome = JobOutcome(ok=False, cancelled=True, message=messages.cancelled(self._plan))
        else:
            end_reason = "lost" if isinstance(error, InstanceLost) else "failed"
            now, plan = self._context.clock.now(), self._plan
            message = Failed(
                failed_job.failed_by(plan, entry, error, now),
                brief=failed_job.again(plan, entry, error.message, None, now),
                like=f"{plan.rule}: {alike(error.message)}",
            )
            outcome = JobOutcome(ok=False, message=message)
        if entry is not None:
            entry.end_reason, entry.error = end_reason, error.message
        return outcome


def _missed_by_functions(plan: JobPlan, left: Iterable[Path]) -> list[Path]:
    """What a checkpoint has left on its machine beside its outputs, except logs: a function that waits for
    the checkpoint may look for these files on this computer, and silently find none."""
    return sorted(path for path in left if plan.is_checkpoint and path.suffix not in _LOGS)


def _changed_for_others(plan: JobPlan, left: Mapping[Path, int]) -> list[Path]:
    """What a job has changed of its inputs, in their place, although jobs that wait for it read them: those
    would get them as they were. A file of the same size may only have been touched."""
    read = frozenset(plan.read_again)
    inside = [path for path in left if path.suffix not in _LOGS and not read.isdisjoint(path.parents)]
    return sorted(path for path in (*read.intersection(left), *inside) if _size(path) != left[path])


def _size(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_size
    return None
