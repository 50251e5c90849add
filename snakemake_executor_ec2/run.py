"""One call of Snakemake: puts the parts together, runs a story for each job, cleans up."""

from __future__ import annotations

import getpass
import os
import resource
import secrets
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snakemake_executor_ec2 import snakelocks, whereabouts
from snakemake_executor_ec2.agent.client import Software as Installed
from snakemake_executor_ec2.attempts import RunRecord
from snakemake_executor_ec2.aws.cache import default_directory
from snakemake_executor_ec2.aws.cloud import Ec2Cloud
from snakemake_executor_ec2.clock import SystemClock
from snakemake_executor_ec2.control import Control
from snakemake_executor_ec2.errors import ConfigurationError, Ec2ExecutorError
from snakemake_executor_ec2.estate import Estate
from snakemake_executor_ec2.hostkeys import HostKeys
from snakemake_executor_ec2.journal import FOLDER, Journal
from snakemake_executor_ec2.launch import check_tags
from snakemake_executor_ec2.launching import Launcher
from snakemake_executor_ec2.lifecycle import Inherited, Kit, run_job
from snakemake_executor_ec2.link import Link
from snakemake_executor_ec2.market import catalogue_of, requirements_of
from snakemake_executor_ec2.model import (
    JobOutcome,
    JobPlan,
    Requirements,
    Software,
)
from snakemake_executor_ec2.outage import Neighbours
from snakemake_executor_ec2.plan import label
from snakemake_executor_ec2.ports import Connector
from snakemake_executor_ec2.pulse import Pulse
from snakemake_executor_ec2.recording import RecordingCloud
from snakemake_executor_ec2.rehearsal import rehearsing
from snakemake_executor_ec2.report import say, say_left
from snakemake_executor_ec2.report.cost import table
from snakemake_executor_ec2.report.leavings import Leavings
from snakemake_executor_ec2.report.ledger import Entry, Ledger
from snakemake_executor_ec2.report.telling import unbroken
from snakemake_executor_ec2.settings import ExecutorSettings, listed
from snakemake_executor_ec2.shared_folders import refuse_shared_folders
from snakemake_executor_ec2.sizing.lease import DEFAULT_S, DEFAULT_USD
from snakemake_executor_ec2.sizing.requirements import allowed_patterns
from snakemake_executor_ec2.spending import before_usd
from snakemake_executor_ec2.ssh.connector import SshConnector
from snakemake_executor_ec2.ssh.keys import load_key_pair, new_key_pair
from snakemake_executor_ec2.workbench import AgentWorkbench

_FILES = 8192
"""Enough for two thousand jobs at a time, and below what macOS allows (10240)."""
_GRACE_S = 120.0
"""How long a cancelled story may take to give its machine back before the sweep does it."""


class Story:
    """A job that is under way in a thread of its own."""

    def __init__(self, future: Future[JobOutcome], control: Control, thread: threading.Thread) -> None:
        self._future = future
        self.control = control
        self.thread = thread

    def done(self) -> bool:
        return self._future.done()

    def result(self) -> JobOutcome:
        """The outcome of a story that is done."""
        return self._future.result(timeout=0)


class Run:
    """Owns what a call of Snakemake has on EC2, from `open` to `close`."""

    def __init__(
        self,
        settings: ExecutorSettings,
        *,
        software: Software,
        tell: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self.software = software
        self._tell = unbroken(tell)
        self._warn = unbroken(warn)
        self._clock = SystemClock()
        self._stack = ExitStack()
        self._stories: list[Story] = []
        self._leavings = Leavings()
        self._entries: tuple[Entry, ...] = ()
        self._folder = Path.cwd()
        self._journal: Journal | None = None
        self._estate: Estate | None = None
        self._detached = False
        self._folder_gone = False
        self.id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"

    def open(self, lock_files: Sequence[str] = ()) -> None:
        """Connect to EC2 and find out what there is. Nothing is launched.

        Raises ConfigurationError or PermissionDenied: no credentials, no such region, ….
        """
        settings = self._settings
        _check_times(settings)
        allow_many_files()
        login = new_key_pair()
        login_keys = [login]
        authorized = [login.public]
        if settings.ssh_key:
            own = load_key_pair(Path(settings.ssh_key).expanduser())
            login_keys.append(own)
            authorized.append(own.public)
        user_tags = _tags(listed(settings.tags))
        if settings.cloud == "local":
            self._stack.enter_context(rehearsing())
            self._tell("Rehearsing on the embedded cloud of this computer: nothing is billed.")
            if settings.detach or settings.keep_failed:
                self._warn(
                    "the embedded cloud ends with this run, and its machines with it: --ec2-detach and "
                    "--ec2-keep-failed have no effect here; `snakemake-ec2 cloud` serves one that stays"
                )
        port = int(os.environ.get("SNAKEMAKE_EC2_SSH_PORT") or settings.ssh_port or 22)
        self._journal = journal = Journal(self._folder, now=self._clock.now, warn=self._warn)
        self._stack.callback(journal.close)

        def common() -> dict[str, Any]:
            return {
                "region": settings.region,
                "profile": settings.profile,
                "subnets": listed(settings.subnets),
                "ssh_from": settings.ssh_from,
                "ssh_port": port,
                "allowed_types": allowed_patterns(settings.instance_types),
                "cache_dir": default_directory(),
                "clock": self._clock,
                "warn": self._warn,
            }

        self._cloud = cloud = RecordingCloud(journal=journal, run_id=self.id, **common())
        cloud.check()
        self._ledger = Ledger(self._clock, journal, self.id)
        ssh_user = settings.ssh_user or "ec2-user"
        where = whereabouts.here(self._folder)
        lease_s = DEFAULT_S if settings.lease is None else settings.lease * 60.0
        lease_usd = DEFAULT_USD if settings.lease is None else None
        journal.begin_run(
            RunRecord(
                id=self.id,
                began_at=self._clock.now(),
                pid=os.getpid(),
                region=cloud.region,
                endpoint=cloud.endpoint,
                ssh_user=ssh_user,
                ssh_port=port,
                login=login,
                lease_s=lease_s,
                account=cloud.account,
                where=where,
            )
        )
        snakelocks.note(self._folder, self.id, lock_files)
        pulse = Pulse(self._folder, beat=lambda: journal.beat(self.id), gone=self._forsake)
        self._stack.callback(pulse.stop)
        pulse.start()

        def connector_of(run: RunRecord) -> Connector:
            keys = [run.login] if run.login else []
            return SshConnector(user=run.ssh_user, port=run.ssh_port, login_keys=(*keys, *login_keys[1:]))

        self._estate = Estate(
            journal=journal,
            run_id=self.id,
            region=cloud.region,
            endpoint=cloud.endpoint,
            account=cloud.account,
            now=self._clock.now,
            cloud_of=lambda run_id: Ec2Cloud(run_id=run_id, **common()),
            connector_of=connector_of,
            tell=self._tell,
        )
        neighbours = Neighbours()
        host_keys = HostKeys(first_is_enough=settings.allow_first_host_key, tell=self._tell)

        def may_launch() -> None:
            neighbours.check()
            host_keys.check()

        self._launcher = Launcher(
            cloud=cloud,
            catalogue=catalogue_of(cloud, settings),
            clock=self._clock,
            run_id=self.id,
            owner=getpass.getuser(),
            ami=settings.ami,
            ssh_user=ssh_user,
            authorized_keys=tuple(authorized),
            user_tags=user_tags,
            instance_profile=settings.instance_profile,
            lifetime_s=(settings.lifetime or 10080) * 60,
            # The lease begins when the agent comes. A machine that boots slowly is waited for.
            claim_s=max(int(lease_s), settings.boot_timeout or 300),
            lease_usd=lease_usd,
            folder=where.tag,
            tell=self._tell,
            capacity_timeout_s=1800 if settings.capacity_timeout is None else settings.capacity_timeout,
            max_cost_usd=settings.max_cost,
            costs_usd=self._costs_usd,
            before_usd=before_usd(journal, settings.budget_period or "run", self._clock.now()),
            may_launch=may_launch,
        )
        locks: dict[Software, Installed] = {}

        def workbench(link: Link) -> AgentWorkbench:
            return AgentWorkbench(link, self._clock, self._tell, locks, host_keys)

        self._kit = Kit(
            cloud=cloud,
            connector=SshConnector(user=ssh_user, port=port, login_keys=tuple(login_keys)),
            clock=self._clock,
            launcher=self._launcher,
            ledger=self._ledger,
            new_key_pair=new_key_pair,
            workbench=workbench,
            software=self.software,
            boot_timeout_s=settings.boot_timeout or 300,
            lease_s=lease_s,
            lease_usd=lease_usd,
            lost_after_s=600 if settings.lost_after is None else settings.lost_after,
            neighbours=neighbours,
            keep_failed_s=0 if settings.cloud == "local" else (settings.keep_failed or 0) * 60,
            log_folder=self._folder / FOLDER / "logs",
            tell=self._tell,
            leavings=self._leavings,
        )

    def check(self, job: Any) -> None:
        """Find out, before anything costs money, whether a job of Snakemake's can be run at all."""
        self.requirements_of(job)

    def requirements_of(self, job: Any) -> Requirements:
        """What a job needs. Raises ConfigurationError, which names the rule."""
        refuse_shared_folders(job, self._settings)
        needed = requirements_of(job, self._settings)
        try:
            self._launcher.check(needed)
        except ConfigurationError as error:
            raise type(error)(f"{label(job)}: {error.message}") from error
        return needed

    def key_for(self, jobid: int, attempt: int) -> str:
        """A name for a submission, unique among all runs."""
        return f"{self.id}.{jobid}.{attempt}"

    def settle(self, outputs: Collection[Path], *, all_known: bool) -> None:
        """End what dead runs of this folder left and nobody wants (see `Estate.settle`)."""
        assert self._estate is not None
        self._estate.settle(outputs, all_known=all_known)

    def landed(self, fingerprint: str, keys: Collection[str]) -> str | None:
        """The key of a submission whose results a dead run has fetched; None: there is none."""
        attempt = self._estate and self._estate.finished(fingerprint, keys)
        if attempt:
            self._tell(f"the results of {attempt.label} are here already: an earlier run fetched them")
        return attempt.key if attempt else None

    def inherit(self, fingerprint: str, outputs: Collection[Path]) -> Inherited | None:
        """A job that a dead run left at work, which is ours from now on; None: there is none."""
        return self._estate.take(fingerprint, outputs) if self._estate else None

    def submit(self, plan: JobPlan, inherited: Inherited | None = None) -> Story:
        """Begin a job's story in a thread."""
        control = Control()
        future: Future[JobOutcome] = Future()

        def tell_it() -> None:
            try:
                future.set_result(run_job(plan, self._kit, control, inherited))
            except BaseException as error:
                # Raised on, it would end the run, and with it the machines of all other jobs.
                future.set_result(JobOutcome(ok=False, message=say.executor_bug(plan, error)))

        thread = threading.Thread(target=tell_it, name=f"job {plan.key}", daemon=True)
        story = Story(future, control, thread)
        self._stories.append(story)
        thread.start()
        return story

    def require_folder(self) -> None:
        """Raise ConfigurationError once the working folder was deleted: the run cannot go on."""
        if self._folder_gone:
            raise ConfigurationError(say_left.folder_gone(self._folder))

    def _forsake(self) -> None:
        """The folder was deleted: nobody wants results any more, so the machines end at once."""
        self._folder_gone = True
        self._warn(say_left.folder_gone(self._folder))
        for story in list(self._stories):
            story.control.cancel(abandon=True)

    def cancel(self, *, detach: bool = False, keep_results: bool = False) -> None:
        """End all stories and wait, for a while, until they have given their machines back; with
        `detach`, those whose jobs run stay, with `keep_results` those that have results."""
        detach = detach and self._settings.cloud != "local" and not self._folder_gone
        keep_results = keep_results and not self._folder_gone
        self._detached = self._detached or detach
        for story in self._stories:
            story.control.cancel(detach=detach, keep_results=keep_results)
        for story in self._stories:
            story.thread.join(timeout=_GRACE_S)

    def close(self) -> None:
        """Leave nothing behind on EC2, and show what the run did cost. Safe to call twice, and to be
        called again where it was interrupted."""
        self.cancel(keep_results=True)  # where Snakemake ends early, on an error of its own
        self._stories.clear()
        if self._estate is not None:
            self._leave(self._estate)
            self._estate = None
        self._stack.close()
        entries, self._entries = self._entries, ()
        if any(entry.machine for entry in entries):
            for line in self._leavings.lines(self._folder):
                self._tell(line)
            self._tell("EC2 machines of this run:\n" + table(entries, self._clock.now()))

    def _leave(self, estate: Estate) -> None:
        """End what is left of this run and of those before it, but for what stays on purpose."""
        assert self._journal is not None
        self._entries = self._ledger.entries
        left = {entry.machine.id for entry in self._entries if entry.left and entry.machine}
        own = {e.machine.id for e in self._entries if e.left and e.machine and not e.inherited}
        try:
            if own:
                stray = {name for name, state in self._cloud.take_over().items() if not state.is_gone} - own
                self._cloud.terminate(stray)
            elif self._cloud.close():
                self._journal.close_run(self.id)
        except Ec2ExecutorError as error:
            self._warn(error.message)
        estate.close(left=left, detached=self._detached)
        self._journal.leave_run(self.id, detached=self._detached)

    def _costs_usd(self) -> dict[str, float]:
        """The estimated cost of each of the run's machines up to now."""
        now = self._clock.now()
        return {
            entry.machine.id: entry.cost_usd(now) or 0.0 for entry in self._ledger.entries if entry.machine
        }


def allow_many_files() -> None:
    """Let this process have as many files open as it may: each job that runs has a connection and a log."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has a limit of its own below
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _check_times(settings: ExecutorSettings) -> None:
    """Raise ConfigurationError for a time in which nothing could be done."""
    for name in ("lease", "lifetime", "boot_timeout"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ConfigurationError(f"--ec2-{name.replace('_', '-')} {value}: must be at least 1")


def _tags(items: tuple[str, ...]) -> dict[str, str]:
    tags = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise ConfigurationError(f"--ec2-tags {item!r}: a tag is written as name=value")
        tags[key] = value
    return check_tags(tags)
