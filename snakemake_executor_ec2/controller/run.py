"""One run of Snakemake: puts the parts together, runs each job in a thread, cleans up."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

from snakemake_executor_ec2 import threads
from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.controller import compose
from snakemake_executor_ec2.controller.ahead import LookAhead, get_ahead
from snakemake_executor_ec2.controller.compose import Logins
from snakemake_executor_ec2.controller.config import OwnCloud, RunConfig
from snakemake_executor_ec2.controller.context import Inherited, RunContext
from snakemake_executor_ec2.controller.heartbeat import Heartbeat
from snakemake_executor_ec2.controller.idle import IdleMachines, Promise
from snakemake_executor_ec2.controller.job import run_job
from snakemake_executor_ec2.controller.lingering import Reader
from snakemake_executor_ec2.controller.process import allow_many_files, seen_from_shell
from snakemake_executor_ec2.controller.recovery import Recovery
from snakemake_executor_ec2.controller.spending import before_usd
from snakemake_executor_ec2.controller.story import Story
from snakemake_executor_ec2.errors import ConfigurationError, Ec2ExecutorError
from snakemake_executor_ec2.machines.failure_detector import Reachability
from snakemake_executor_ec2.machines.host_keys import HostKeys
from snakemake_executor_ec2.model import JobOutcome, JobPlan, Requirements, Software
from snakemake_executor_ec2.ports import Launches
from snakemake_executor_ec2.records import whereabouts
from snakemake_executor_ec2.records.journal import FOLDER, Journal
from snakemake_executor_ec2.records.ledger import Entry, Ledger
from snakemake_executor_ec2.records.live import Live
from snakemake_executor_ec2.records.rows import RunRecord
from snakemake_executor_ec2.records.whereabouts import Whereabouts
from snakemake_executor_ec2.records.writer import Removed
from snakemake_executor_ec2.report import baking, kept_results, messages
from snakemake_executor_ec2.report.leavings import Leavings
from snakemake_executor_ec2.report.levels import Lasting
from snakemake_executor_ec2.report.past import add_paces, is_rehearsal
from snakemake_executor_ec2.report.run_end import RunFacts, run_end
from snakemake_executor_ec2.sizing.ahead import Key, Paces
from snakemake_executor_ec2.ssh.keys import new_key_pair
from snakemake_executor_ec2.timing import SystemClock

_GRACE_S = 120.0
"""How long a cancelled job may take to end its machine before the last sweep does it."""


class Run:
    """Owns what a run has on EC2, from `open` to `close`."""

    def __init__(
        self,
        config: RunConfig,
        *,
        software: Software,
        tell: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self.config = config
        self.software = software
        self._tell = tell
        self._warn = warn
        self._clock = SystemClock()
        self._stack = ExitStack()
        self._stories: set[Story] = set()
        """Those that are not over."""
        self._leavings = Leavings()
        self._install_s: list[float] = []
        self._entries: tuple[Entry, ...] = ()
        self._record: RunRecord | None = None
        self._folder = Path.cwd()
        self._journal: Journal | None = None
        self._recovery: Recovery | None = None
        self._idle: IdleMachines | None = None
        self._detached = False
        self._folder_gone = False
        self.id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        self._live = Live(self._folder / FOLDER, self.id)

    def open(self, rehearsing: AbstractContextManager[OwnCloud] | None = None) -> None:
        """Connect to EC2 and look at what earlier runs left. Nothing is launched.

        `rehearsing` is the embedded cloud, which lives as long as the run.
        Raises ConfigurationError or PermissionDenied: no credentials, no such region, …."""
        allow_many_files()
        logins = Logins.of(self.config)
        own = self._stack.enter_context(rehearsing) if rehearsing is not None else OwnCloud()
        self.config = own.reached_by(self.config)
        config, clock = self.config, self._clock
        self._journal = journal = Journal(self._folder, now=clock.now, warn=self._warn)
        self._stack.callback(journal.close)
        self._cloud = cloud = compose.cloud(config, self.id, clock, self._warn)
        cloud.check()
        self._ledger = Ledger(clock, journal, self.id)
        where = whereabouts.here(self._folder)
        self._record = self._new_record(logins, where, own.variables)
        journal.begin_run(self._record)
        self._stack.enter_context(Heartbeat(self._folder, lambda: journal.beat(self.id), self._forsake))
        self._recovery = Recovery(
            journal=journal,
            run_id=self.id,
            region=cloud.region,
            endpoint=cloud.endpoint,
            account=cloud.account,
            now=clock.now,
            cloud_of=lambda run_id: compose.cloud(config, run_id, clock, self._warn),
            connector_of=lambda run: logins.connector_of(run, config),
            tell=self._tell,
        )
        self.feasibility = compose.feasibility(
            config,
            cloud,
            clock,
            costs_usd=self.costs_usd,
            before_usd=before_usd(journal, config.budget_period, clock.now()),
            baked=compose.baked_choice(config, cloud.images, self.software, clock, self._tell),
            tell=self._tell,
        )
        self.images, self.login_keys = cloud.images, logins.authorized
        self._context = self._story_context(logins, where.tag)
        self._idle, self.ahead = self._context.idle, self._context.ahead
        self.ahead.start()

    def _new_record(self, logins: Logins, where: Whereabouts, cloud_env: Mapping[str, str]) -> RunRecord:
        return RunRecord(
            id=self.id,
            began_at=self._clock.now(),
            pid=os.getpid(),
            region=self._cloud.region,
            endpoint=self._cloud.endpoint,
            ssh_user=self.config.ssh_user,
            ssh_port=self.config.ssh_port,
            login=logins.own,
            lease_s=self.config.lease_s,
            account=self._cloud.account,
            ssh_proxy=self.config.ssh_proxy,
            ssh_to=self.config.ssh_to,
            cloud_env=cloud_env,
            where=where,
        )

    def _story_context(self, logins: Logins, folder: str) -> RunContext:
        """What all jobs' stories share; `folder` names this one in machines' tags."""
        config, clock = self.config, self._clock
        reachability = Reachability()
        host_keys = HostKeys(first_is_enough=config.allow_first_host_key, tell=self._tell)
        idle = self._idle_machines(lambda: launcher, lambda machine_id: lingering.gone(machine_id))
        lingering = compose.lingering(
            config, logins, self._cloud, clock, self._ledger, lambda: launcher, self._tell
        )
        launcher = compose.launcher(
            config,
            self.feasibility,
            logins,
            clock,
            records=self._ledger,
            run_id=self.id,
            folder=folder,
            may_launch=compose.launch_guard(reachability, host_keys),
            make_room=lambda plan: idle.make_room(plan) or lingering.make_room(),
            tell=self._tell,
        )
        return RunContext(
            cloud=self._cloud,
            connector=logins.connector(config),
            clock=clock,
            launcher=launcher,
            ledger=self._ledger,
            idle=idle,
            lingering=lingering,
            ahead=self._look_ahead(idle, launcher),
            new_key_pair=compose.first_keys(config, clock, new_key_pair),
            session=compose.sessions(
                config, clock, host_keys, self._tell, self._install_s, lingering.peers, self._live
            ),
            software=self.software,
            boot_timeout_s=config.boot_timeout_s,
            lease_s=config.lease_s,
            lease_usd=config.lease_usd,
            lost_after_s=config.lost_after_s,
            reachability=reachability,
            keep_failed_s=config.keep_failed_s,
            log_folder=self._folder / FOLDER / "logs",
            tell=self._tell,
            leavings=self._leavings,
        )

    def _idle_machines(self, launcher: Callable[[], Launches], going: Callable[[str], None]) -> IdleMachines:
        return IdleMachines(
            reuse=self.config.reuse,
            idle_s=self.config.idle_s,
            clock=self._clock,
            ledger=self._ledger,
            launcher=launcher,
            tell=self._tell,
            going=going,
        )

    def _look_ahead(self, idle: IdleMachines, launcher: Launches) -> LookAhead:
        """Launches nothing if the user does not want that, or machines must not wait for jobs."""
        config = self.config
        return LookAhead(
            run_id=self.id,
            reuse=config.reuse,
            idle=idle,
            launcher=launcher,
            clock=self._clock,
            begin=self._begin_ahead if config.look_ahead and config.idle_s > 0 else None,
            history=self._history,
        )

    def key_for(self, jobid: int, attempt: int) -> str:
        """A name for a submission, unique among all runs."""
        return f"{self.id}.{jobid}.{attempt}"

    def settle(self, outputs: Collection[Path], *, all_known: bool) -> None:
        """End what dead runs of this folder left and no job needs (see `Recovery.settle`)."""
        assert self._recovery is not None
        self._recovery.settle(outputs, all_known=all_known)

    def finished_before(self, fingerprint: str, keys: Collection[str]) -> str | None:
        """The key of a submission whose results a dead run has fetched; None: there is none."""
        attempt = self._recovery and self._recovery.finished(fingerprint, keys)
        if attempt:
            self._tell(f"the results of {attempt.label} have been fetched already, by an earlier run")
        return attempt.key if attempt else None

    def inherit(self, fingerprint: str, outputs: Collection[Path]) -> Inherited | None:
        """A job that a dead run left running, now taken over; None: there is none."""
        return self._recovery.take(fingerprint, outputs) if self._recovery else None

    def submit(self, plan: JobPlan, inherited: Inherited | None = None, step: Key | None = None) -> Story:
        """Begin a job's story in a thread; `step` is the job in what was told of the jobs to come."""
        if self._idle is not None:
            if inherited is None:
                self._idle.want(plan)  # before it is known that fewer jobs are to come
                self._context.lingering.expect(plan)
            self.ahead.getting(plan, step)
        return self.begin(plan, lambda context, cancel: run_job(plan, context, cancel, inherited))

    def _begin_ahead(self, promise: Promise) -> None:
        story = self.begin(
            promise.plan, lambda context, cancel: get_ahead(promise, context, cancel), promise.cancel
        )
        if story.thread is None:
            self._context.idle.drop(promise)  # else jobs would wait for it

    def begin(
        self,
        plan: JobPlan,
        tell: Callable[[RunContext, CancelToken], JobOutcome],
        cancel: CancelToken | None = None,
    ) -> Story:
        """Begin a story of a machine in a thread; the machine is the plan's."""
        cancel = cancel or CancelToken()
        future: Future[JobOutcome] = Future()
        idle = self._idle

        def tell_it() -> None:
            try:
                outcome = tell(self._context, cancel)
            except BaseException as error:
                # If it were raised, it would end the run, and with it the machines of all other jobs.
                outcome = JobOutcome(ok=False, message=messages.unexpected(plan, error))
            end(outcome)

        def end(outcome: JobOutcome) -> None:
            if idle is not None:
                self._context.lingering.ended(plan, ok=outcome.ok)
            future.set_result(outcome)
            if idle is not None:
                idle.has_one(plan)
            self._live.over(plan.key)
            self._stories.discard(story)

        story = Story(future, cancel)
        self._stories.add(story)
        story.thread = threads.start(tell_it, f"job {plan.key}")
        if story.thread is None:
            end(JobOutcome(ok=False, message=messages.no_thread(plan)))
        return story

    def expect(self, coming: Mapping[str, int]) -> None:
        """So many jobs of each rule are still to be submitted: machines wait for them."""
        if self._idle is not None:
            self._idle.expect(coming)

    def expect_readers(self, readers: Collection[Reader]) -> None:
        """These jobs are to read what one makes that was just submitted: its machine may stay for them."""
        if self._idle is not None:
            self._context.lingering.read_later(readers)

    def require_folder(self) -> None:
        """Raise ConfigurationError if the working folder was deleted: the run cannot continue."""
        if self._folder_gone:
            raise ConfigurationError(kept_results.folder_gone(self._folder))

    def _forsake(self) -> None:
        """The folder was deleted: there is nowhere to put results, so the machines end at once."""
        self._folder_gone = True
        self._warn(kept_results.folder_gone(self._folder))
        for story in list(self._stories):
            story.cancel_token.cancel(abandon=True)
        if self._idle is not None:
            self.ahead.close()
            self._idle.close()
            self._context.lingering.close()

    def cancel(self, *, detach: bool = False, keep_results: bool = False) -> None:
        """Cancel all jobs and wait, for a while, until they have ended their machines. With `detach`,
        machines with running jobs stay; with `keep_results`, those that have results."""
        detach = detach and self.config.can_detach and not self._folder_gone
        keep_results = keep_results and not self._folder_gone
        self._detached = self._detached or detach
        stories = list(self._stories)
        for story in stories:
            story.cancel_token.cancel(detach=detach, keep_results=keep_results)
        if self._idle is not None:
            self.ahead.close()
            self._idle.close()
            self._context.lingering.close()
        for story in stories:
            story.join(_GRACE_S)

    def close(self, *, shown: bool = True) -> None:
        """Leave nothing behind on EC2, and show what the run has cost, if that is to be `shown`. Safe to call
        twice, also after an interrupted call."""
        self.cancel(keep_results=True)  # if Snakemake ends early, on an error of its own
        self._stories.clear()
        if self._recovery is not None:
            self._leave(self._recovery)
            self._recovery = None
        self._stack.close()
        self._live.close()
        entries, self._entries = self._entries, ()
        if shown and self._record is not None and (lines := self._end_of(entries, self._record)):
            self._tell(Lasting("\n".join(lines)))
        if self.config.use_baked and (hint := baking.hint(self._install_s)):
            self._install_s.clear()
            self._tell(hint)

    def _end_of(self, entries: Sequence[Entry], record: RunRecord) -> list[str]:
        """What the user sees of the run when it ends."""
        now = self._clock.now()
        facts = RunFacts(
            id=self.id,
            seconds=now - record.began_at,
            rehearsal=is_rehearsal(record),
            folder=seen_from_shell(self._folder),
        )
        lines = run_end(entries, now, facts)
        return [*self._leavings.lines(self._folder), *lines] if lines else []

    def _leave(self, recovery: Recovery) -> None:
        """End what is left of this run and of earlier ones, except what stays on purpose."""
        assert self._journal is not None
        self._entries = self._ledger.entries
        staying = [each for each in self._ledger.machines if each.kept_reason and each.machine]
        left = {each.machine.id for each in staying if each.machine}
        own = {each.machine.id for each in staying if each.machine and not each.inherited}
        try:
            if own:
                stray = {name for name, state in self._cloud.take_over().items() if not state.is_gone} - own
                self._cloud.terminate(stray)
            elif self._cloud.close():
                self._journal.close_run(self.id)
        except Ec2ExecutorError as error:
            self._warn(error.message)
        recovery.close(left=left, detached=self._detached)
        self._journal.leave_run(self.id, detached=self._detached)

    def _history(self, paces: Paces) -> dict[str, Requirements]:
        """Add what jobs took in earlier runs of this folder. Returns what they needed, by their labels."""
        assert self._journal is not None
        with suppress(sqlite3.Error, Removed):  # nothing is known then
            attempts = self._journal.attempts()
            add_paces(paces, self._journal.runs(closed=True), attempts, self._cloud.endpoint)
            return {each.label: each.asked for each in attempts if each.end_reason == "done"}
        return {}

    def costs_usd(self) -> dict[str, float]:
        """The estimated cost of each of the run's machines up to now; 0 if its price is not known."""
        now = self._clock.now()
        machines = self._ledger.machines if self._record is not None else ()
        return {each.machine.id: each.cost_usd(now) or 0.0 for each in machines if each.machine}
