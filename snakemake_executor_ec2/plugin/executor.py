"""What Snakemake calls: jobs come in, outcomes go out. The way of a job is in `controller/job.py`.

Imported at every start of Snakemake, whatever the executor: everything heavy (boto3, paramiko,
and with them most of this package) is imported when the first job comes.
"""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import SharedFSUsage

from snakemake_executor_ec2.errors import Ec2ExecutorError, StagingError
from snakemake_executor_ec2.plugin import snakemake_private
from snakemake_executor_ec2.plugin.settled import Settled

if TYPE_CHECKING:
    from snakemake_executor_ec2.controller.run import Run
    from snakemake_executor_ec2.plugin.coming import Coming
    from snakemake_executor_ec2.plugin.interrupts import Interrupts
    from snakemake_executor_ec2.plugin.notify import Notices
    from snakemake_executor_ec2.plugin.surroundings import Surroundings


_STATUS_PAUSE_S = 0.1
"""Between looks at the jobs' threads. They are in this process: looking costs nothing."""


class Executor(RemoteExecutor):
    """Snakemake's executor: plans jobs, hands them over, reports what became of them."""

    _interrupts: Interrupts | None = None
    _rehearsal: Any = None
    _notices: Notices | None = None
    _asked_to_end = False

    def __post_init__(self) -> None:
        from snakemake_executor_ec2.plugin import parse_reads
        from snakemake_executor_ec2.plugin.interrupts import Interrupts
        from snakemake_executor_ec2.plugin.notify import Notices
        from snakemake_executor_ec2.plugin.voice import Voice

        self._run: Run | None = None
        self._voice = Voice(self.logger)
        self._failed_for_good: dict[Any, str] = {}
        interrupts = Interrupts()
        interrupts.listen()
        self._sigterm_as_before = snakemake_private.on_sigterm(interrupts.end)
        self._scheduler_as_before = snakemake_private.on_success(
            lambda: self._rehearsal is None or not self._rehearsal.fails
        )
        self._interrupts = interrupts
        caches = self.workflow.sourcecache
        self._read_by_parse = parse_reads.stop(
            outside=map(Path, (sys.prefix, sys.base_prefix, caches.cache_path, caches.runtime_cache_path))
        )
        # The plugin said to Snakemake that nothing is shared, so it has prepared no software here.
        # From here on staging provides what a cluster's file system would: the controller
        # checks, touches and protects outputs as it does there.
        self.workflow.storage_settings.shared_fs_usage = frozenset(
            {SharedFSUsage.INPUT_OUTPUT, SharedFSUsage.PERSISTENCE}
        )
        self.next_seconds_between_status_checks = _STATUS_PAUSE_S
        snakemake_private.say_units(self.workflow.resource_settings)
        try:
            self._notices = Notices(self.workflow.executor_settings.notify, self._voice.warn)
            snakemake_private.refuse_env_modules(self.workflow)
            snakemake_private.refuse_immediate_submit(self.workflow)
            snakemake_private.require_cores_for_handover(self.workflow, self.dag.needrun_jobs())
            self._keep_here()
            jobs = [job for job in self.dag.needrun_jobs() if not job.is_local]
            if jobs:
                self._start(jobs, all_known=not any(job.is_checkpoint for job in jobs))
        except Ec2ExecutorError:
            # Nobody shuts down what was never made: the base class's thread would complain at the end.
            self.wait = False
            self.wait_thread.join()
            self._finish()  # Python's exit would be too late for what is to be noted
            if self._notices is not None:
                self._notices.refused()
            raise

    def run_job(self, job: Any) -> None:
        from snakemake_executor_ec2.plugin import workflow_cache

        if workflow_cache.taken(self.workflow, job):
            info = SubmittedJobInfo(job=job, aux={"story": Settled()})
        else:
            run = self._run or self._start([job], all_known=False)
            try:
                self._refuse_again(job)
                info = self._handed_over(job, run)
            except Ec2ExecutorError as error:
                # Raised on, it would end the run: a job that is refused this late fails alone.
                info = SubmittedJobInfo(job=job, aux={"story": Settled(refused=error.message)})
            self._coming.tell(run, job)
        self.report_job_submission(info)

    def _handed_over(self, job: Any, run: Run) -> SubmittedJobInfo:
        from snakemake_executor_ec2.plugin.fingerprint import fingerprint
        from snakemake_executor_ec2.plugin.job_plan import inner_jobs, outputs_of
        from snakemake_executor_ec2.plugin.job_requirements import requirements_of
        from snakemake_executor_ec2.plugin.submission import submission

        inner = inner_jobs(job)
        job_fingerprint = fingerprint(inner, run.software)
        noted = {key for each in inner for key in self.workflow.persistence.external_jobids(each)}
        finished = run.finished_before(job_fingerprint, noted)
        if finished is not None:
            return SubmittedJobInfo(job=job, external_jobid=finished, aux={"story": Settled()})
        self._back_up_updated(job)
        inherited = run.inherit(job_fingerprint, outputs_of(inner))
        key = inherited.attempt.key if inherited else run.key_for(job.jobid, job.attempt)
        needed = requirements_of(job, run.config, run.feasibility)
        if self._rehearsal is not None:
            self._rehearsal.note(job, needed)
        plan, way = submission(self, job, key=key, requirements=needed, sources=self._surroundings.sources)
        self._surroundings.tell(job, plan)
        (self.logger.info if self.workflow.executor_settings.show_staging else self.logger.debug)(way)
        plan = self._surroundings.of(job, replace(plan, fingerprint=job_fingerprint))
        story = run.submit(plan, inherited, step=job.jobid)
        return SubmittedJobInfo(job=job, external_jobid=key, aux={"story": story})

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        from snakemake_executor_ec2.plugin import workflow_cache
        from snakemake_executor_ec2.plugin.job_plan import look_in_storage

        # The base class' thread calls before `__post_init__` has run.
        if self._interrupts is not None:
            self._interrupts.repeat()
        for info in active_jobs:
            if self._run is not None:
                self._run.require_folder()
            story = info.aux["story"]
            if not story.done():
                yield info
                continue
            outcome = story.result()
            if outcome.cancelled:
                continue  # nothing failed: the user has ended the run
            if self._run is not None:
                self._run.ahead.ended(info.job.jobid, ok=outcome.ok)
            look_in_storage(info.job, outputs=outcome.ok)
            if outcome.ok:
                if info.job.is_checkpoint:
                    self._coming.changed()
                if workflow_cache.is_cached(self.workflow, info.job):
                    await info.job.rule.cache.store(info.job)
                self.report_job_success(info)
                continue
            if outcome.for_good:
                self._failed_for_good[info.job] = outcome.message
            info.aux["why"] = outcome.message
            self.report_job_error(info, aux_logs=[str(outcome.log)] if outcome.log else [])

    def print_job_error(self, job_info: SubmittedJobInfo, msg: str | None = None, **kwargs: Any) -> None:
        # Snakemake drops the message of a group's error: say it ourselves, once for both. After what it
        # says, which has the whole command, however long.
        super().print_job_error(job_info, msg, **kwargs)
        if why := (job_info.aux or {}).get("why"):
            self._voice.failed(why)

    def handle_job_success(self, job: Any) -> None:
        from snakemake_executor_ec2.plugin.job_plan import remove_empty_logs

        remove_empty_logs(job)

    def _wait_thread(self) -> None:
        from snakemake_executor_ec2.plugin.broken_pipe import lead_nowhere, nobody_reads

        try:
            super()._wait_thread()
        except OSError as error:
            if not nobody_reads(error):
                raise
            # Snakemake prints here what has gone wrong before it ends the run: without a reader
            # this thread would end, and the run never.
            lead_nowhere()
            self.workflow.scheduler.executor_error_callback(error)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:  # noqa: ARG002
        self._hear()
        # Also where Snakemake broke down, because it found no room for its notes, for instance.
        self._asked_to_end = asked_for = not isinstance(sys.exception(), Exception)
        # Not only the given ones: a job can be between two of Snakemake's lists.
        if self._run is not None:
            self._run.cancel(detach=bool(self.workflow.executor_settings.detach), keep_results=not asked_for)

    def shutdown(self) -> None:
        self._hear()
        with suppress(FileNotFoundError):  # its folder for job scripts, where the working folder is gone
            super().shutdown()
        run = self._run
        self._finish()
        if self._notices is not None:
            self._notices.ended(self.workflow, run, interrupted=self._asked_to_end)
        if self._interrupts is not None:
            self._interrupts.over()
            self._sigterm_as_before()
            self._scheduler_as_before()

    def get_snakefile(self) -> str:
        # The base class makes a relative path of it, even of a URL. Without its token, if it has one:
        # the machine gets what was fetched here.
        main = str(next(self.workflow.included).get_path_or_uri(secret_free=True))
        return main if "://" in main else str(super().get_snakefile())

    def get_python_executable(self) -> str:
        from snakemake_executor_ec2.runner.arguments import MARK

        return MARK

    def format_job_exec(self, job: Any) -> str:
        # The cache between workflows is this computer's: it is asked and filled here, see below.
        from snakemake_executor_ec2.plugin.job_plan import deployment_tools, inner_jobs

        settings = self.workflow.workflow_settings
        cache, settings.cache = settings.cache, None
        tools = deployment_tools(inner_jobs(job))
        try:
            with self._only_storage_in_use(), snakemake_private.deploying_only(self.workflow, tools):
                return str(super().format_job_exec(job))
        finally:
            settings.cache = cache

    def envvars(self) -> dict[str, str]:
        with self._only_storage_in_use():
            return dict(super().envvars())

    def get_job_args(self, job: Any, **kwargs: Any) -> str:
        # As many cores as were planned with, whatever machine it will be. And without the base
        # class' --wait-for-files, which names folders of this computer.
        cores = max(self.cores, job.threads) if isinstance(self.cores, int) else job.threads
        arguments = str(RealExecutor.get_job_args(self, job, **{**kwargs, "cores": cores}))
        # A job alone brings all of its outputs home, where Snakemake checks them and then removes
        # temp files that nobody reads; the machine would have done so before.
        return arguments if job.is_group() else f"{arguments} --notemp"

    def additional_general_args(self) -> str:
        from snakemake_executor_ec2.plugin import parse_reads

        # What Snakemake does not pass on by itself: that the configuration is replaced and not
        # extended, and that files between the jobs of a group are kept. The command is run in the
        # working directory: a `workdir:` that led there from elsewhere must not be followed again.
        # (A string: the base class says a list, and joins it as a string.)
        passed_on = {
            "--replace-workflow-config": self.workflow.config_settings.replace_workflow_config,
            "--notemp": self.workflow.storage_settings.notemp,
        }
        options = ["--directory .", *(option for option, given in passed_on.items() if given)]
        if self._fetched_sources:
            options.append(
                f"--runtime-source-cache-path {shlex.quote(os.path.relpath(self._fetched_sources))}"
            )
        elif parse_reads.uses("source_path"):
            # The same there as here: its paths get into commands and values.
            cache = shlex.quote(str(self.workflow.sourcecache.runtime_cache_path))
            options.append(f"--runtime-source-cache-path {cache}")
        return " ".join(options)

    # --- helpers --------------------------------------------------------------------------

    def _hear(self) -> None:
        """The run is ending: by a signal, perhaps."""
        from snakemake_executor_ec2.plugin.broken_pipe import ended_by

        interrupts = self._interrupts
        if interrupts is None or interrupts.is_heard:
            return
        interrupts.heard()
        if interrupts.name:
            self.logger.warning(ended_by(interrupts.name, bool(self.workflow.executor_settings.detach)))

    def _refuse_again(self, job: Any) -> None:
        """Launch nothing for a retry that would fail as the attempt before. Raises StagingError."""
        if job in self._failed_for_good:
            raise StagingError(
                f"not tried again, because it would fail as before: {self._failed_for_good[job]}"
            )

    def _keep_here(self) -> None:
        """Make local rules of those that would have no effect on a machine, and say so."""
        from snakemake_executor_ec2.plugin.job_plan import label, rules_that_stay

        would_travel = [job for job in self.dag.needrun_jobs() if not job.is_local]
        self.workflow.localrules(*rules_that_stay(self.workflow))
        for name in sorted({label(job) for job in would_travel if job.is_local}):
            self.logger.info(f"{name} declares neither input nor output: it runs on your computer")

    @contextmanager
    def _only_storage_in_use(self) -> Iterator[None]:
        from snakemake_executor_ec2.plugin.software import storage_in_use

        workflow, every = self.workflow, self.workflow.storage_provider_settings
        workflow.storage_provider_settings = {
            name: settings for name, settings in storage_in_use(workflow).items() if settings is not None
        }
        try:
            yield
        finally:
            workflow.storage_provider_settings = every

    def _back_up_updated(self, job: Any) -> None:
        """Keep what `update` outputs are now: Snakemake restores them here when the job fails.

        The machine's Snakemake makes such a backup too, of its own copy.
        """
        from snakemake_executor_ec2.plugin.job_plan import updated

        for path in updated(job):
            if path.exists():
                self.workflow.persistence.backup_output(path)

    def _start(self, jobs: list[Any], *, all_known: bool) -> Run:
        from snakemake.exceptions import InputFunctionException

        from snakemake_executor_ec2.away.found import alive_in
        from snakemake_executor_ec2.controller.run import Run
        from snakemake_executor_ec2.plugin import stale_locks
        from snakemake_executor_ec2.plugin.job_plan import outputs_of
        from snakemake_executor_ec2.plugin.job_requirements import requirements_of
        from snakemake_executor_ec2.plugin.rehearsal import rehearsal
        from snakemake_executor_ec2.plugin.run_config import run_config
        from snakemake_executor_ec2.plugin.software import lacks_bucket_credentials, software_for
        from snakemake_executor_ec2.plugin.submission import preflight
        from snakemake_executor_ec2.report.away import beside

        settings = self.workflow.executor_settings
        tell, warn = self._voice.tell, self._voice.warn
        run = Run(run_config(settings), software=software_for(self.workflow, warn), tell=tell, warn=warn)
        self._run = run
        if lacks_bucket_credentials(self.workflow, self.envvars()):
            self.logger.warning(
                "Files are in S3, and the machines have no credentials for it. Unless the buckets are public "
                "or --ec2-setup brings some, name an --ec2-instance-profile, or set "
                "SNAKEMAKE_STORAGE_S3_ACCESS_KEY and SNAKEMAKE_STORAGE_S3_SECRET_KEY, which travel over ssh."
            )
        if machine := alive_in(Path.cwd()):
            warn(beside(machine))
        # The last line of defence where Snakemake is ended without a shutdown.
        atexit.register(self._finish)
        self._rehearsal = rehearsal(settings, tell, warn)
        run.open(self._rehearsal)
        # Python calls what was registered last first: before the journal, opened meanwhile, closes itself.
        atexit.unregister(self._finish)
        atexit.register(self._finish)
        stale_locks.note(Path.cwd(), run.id, snakemake_private.locks(self.workflow.persistence))
        for job in jobs:
            # Functions that look at files which are not there yet are asked again in time.
            with suppress(InputFunctionException):
                requirements_of(job, run.config, run.feasibility)
        preflight(self, jobs, self._surroundings)
        run.settle(outputs_of(jobs), all_known=all_known)
        return run

    def _finish(self) -> None:
        if self._run is not None:
            self._run.close()  # where Ctrl-C ends it, Python's exit calls again
            self._run = None
            atexit.unregister(self._finish)

    @cached_property
    def _fetched_sources(self) -> Path | None:
        """A copy, in the working directory, of what Snakemake has fetched from elsewhere for this run."""
        from snakemake_executor_ec2.plugin.job_plan import fetched_sources

        cache = fetched_sources(self.workflow)
        return Path(shutil.copytree(cache, Path(self.tmpdir, "sources"))) if cache else None

    @cached_property
    def _coming(self) -> Coming:
        from snakemake_executor_ec2.plugin.coming import Coming

        assert self._run is not None
        return Coming(self.dag, self._run.config, self._run.feasibility)

    @cached_property
    def _surroundings(self) -> Surroundings:
        from snakemake_executor_ec2.plugin.surroundings import Surroundings

        read, fetched = self._read_by_parse, self._fetched_sources
        return Surroundings(self.workflow, read_by_parse=read, fetched=fetched, logger=self.logger)
