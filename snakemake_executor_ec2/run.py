"""One call of Snakemake: puts the parts together, runs a story for each job, cleans up."""

from __future__ import annotations

import getpass
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.aws.cache import default_directory
from snakemake_executor_ec2.aws.cloud import Ec2Cloud
from snakemake_executor_ec2.clock import SystemClock
from snakemake_executor_ec2.control import Control
from snakemake_executor_ec2.errors import ConfigurationError, Ec2ExecutorError
from snakemake_executor_ec2.launch import check_tags
from snakemake_executor_ec2.launching import Launcher
from snakemake_executor_ec2.lifecycle import Kit, run_job
from snakemake_executor_ec2.model import (
    Arch,
    JobOutcome,
    JobPlan,
    Market,
    Requirements,
    Software,
    SpotUse,
)
from snakemake_executor_ec2.plan import label, resources
from snakemake_executor_ec2.report.cost import table
from snakemake_executor_ec2.report.ledger import Ledger
from snakemake_executor_ec2.settings import ExecutorSettings, listed
from snakemake_executor_ec2.sizing.catalogue import Catalogue, Limits
from snakemake_executor_ec2.sizing.requirements import allowed_patterns, requirements
from snakemake_executor_ec2.ssh.connector import SshConnector
from snakemake_executor_ec2.ssh.keys import load_key_pair, new_key_pair
from snakemake_executor_ec2.workbench import AgentWorkbench

STATE_FOLDER = Path(".snakemake", "ec2")
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
        """The outcome of a story that is done; an error in our own code is raised."""
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
        self._software = software
        self._tell = tell
        self._warn = warn
        self._clock = SystemClock()
        self._stack = ExitStack()
        self._stories: list[Story] = []
        self._ledger = Ledger(self._clock)
        self.id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"

    def open(self) -> None:
        """Connect to EC2 and find out what there is. Nothing is launched.

        Raises ConfigurationError or PermissionDenied: no credentials, no such region, ….
        """
        settings = self._settings
        login = new_key_pair()
        login_keys = [login]
        authorized = [login.public]
        if settings.ssh_key:
            own = load_key_pair(Path(settings.ssh_key).expanduser())
            login_keys.append(own)
            authorized.append(own.public)
        user_tags = _tags(listed(settings.tags))
        if settings.cloud == "local":
            self._rehearse()
        port = int(os.environ.get("SNAKEMAKE_EC2_SSH_PORT") or settings.ssh_port or 22)
        self._cloud = cloud = Ec2Cloud(
            run_id=self.id,
            region=settings.region,
            profile=settings.profile,
            subnets=listed(settings.subnets),
            ssh_from=settings.ssh_from,
            ssh_port=port,
            allowed_types=allowed_patterns(settings.instance_types),
            cache_dir=default_directory(),
            clock=self._clock,
            warn=self._warn,
        )
        self._stack.callback(cloud.close)
        cloud.check()
        self._launcher = Launcher(
            cloud=cloud,
            catalogue=Catalogue(
                cloud.instance_types(),
                zones=cloud.zones,
                prices=cloud.prices(Market.ON_DEMAND),
                spot_prices=lambda: cloud.prices(Market.SPOT),
                limits=limits_of(settings),
                region=cloud.region,
            ),
            clock=self._clock,
            run_id=self.id,
            owner=getpass.getuser(),
            ami=settings.ami,
            ssh_user=settings.ssh_user or "ec2-user",
            authorized_keys=tuple(authorized),
            user_tags=user_tags,
            lifetime_s=(settings.lifetime or 10080) * 60,
            tell=self._tell,
            capacity_timeout_s=settings.capacity_timeout or 1800,
            max_cost_usd=settings.max_cost,
            spent_usd=self._spent_usd,
        )
        log_folder = Path.cwd() / STATE_FOLDER / "logs" / self.id
        log_folder.mkdir(parents=True, exist_ok=True)
        self._kit = Kit(
            cloud=cloud,
            connector=SshConnector(
                user=settings.ssh_user or "ec2-user", port=port, login_keys=tuple(login_keys)
            ),
            clock=self._clock,
            launcher=self._launcher,
            ledger=self._ledger,
            new_key_pair=new_key_pair,
            workbench=lambda link: AgentWorkbench(link, self._clock, self._tell),
            software=self._software,
            boot_timeout_s=settings.boot_timeout or 300,
            lease_s=(settings.lease or 720) * 60,
            log_folder=log_folder,
            tell=self._tell,
        )

    def check(self, job: Any) -> None:
        """Find out, before anything costs money, whether a job of Snakemake's can be run at all."""
        self._launcher.check(self.requirements_of(job))

    def requirements_of(self, job: Any) -> Requirements:
        """What a job needs. Raises ConfigurationError, which names the rule."""
        try:
            needed = requirements(
                threads=job.threads,
                resources=resources(job),
                allowed_types=listed(self._settings.instance_types),
                default_arch=Arch(self._settings.arch or Arch.X86_64),
                default_spot=SpotUse(self._settings.spot or SpotUse.NEVER),
            )
            self._launcher.check(needed)
        except ConfigurationError as error:
            raise type(error)(f"{label(job)}: {error.message}") from error
        return needed

    def key_for(self, jobid: int, attempt: int) -> str:
        """A name for a submission, unique among all runs."""
        return f"{self.id}.{jobid}.{attempt}"

    def submit(self, plan: JobPlan) -> Story:
        """Begin a job's story in a thread."""
        control = Control()
        future: Future[JobOutcome] = Future()

        def tell_it() -> None:
            try:
                future.set_result(run_job(plan, self._kit, control))
            except BaseException as error:
                future.set_exception(error)

        thread = threading.Thread(target=tell_it, name=f"job {plan.key}", daemon=True)
        story = Story(future, control, thread)
        self._stories.append(story)
        thread.start()
        return story

    def cancel(self) -> None:
        """End all stories and wait, for a while, until they have given their machines back."""
        for story in self._stories:
            story.control.cancel()
        for story in self._stories:
            story.thread.join(timeout=_GRACE_S)

    def close(self) -> None:
        """Leave nothing behind on EC2, and show what the run did cost. Safe to call twice."""
        self.cancel()
        self._stories.clear()
        try:
            self._stack.close()
        except Ec2ExecutorError as error:
            self._warn(error.message)
        if any(entry.machine for entry in self._ledger.entries):
            self._tell("EC2 machines of this run:\n" + table(self._ledger.entries, self._clock.now()))
            self._ledger = Ledger(self._clock)

    def _spent_usd(self) -> float:
        """The estimated cost of the run's machines up to now."""
        now = self._clock.now()
        return sum(entry.cost_usd(now) or 0.0 for entry in self._ledger.entries)

    def _rehearse(self) -> None:
        try:
            from snakemake_executor_ec2.local.cloud import CloudStartError, EmbeddedCloud
        except ImportError as error:
            raise ConfigurationError(
                "--ec2-cloud local needs more packages: pip install 'snakemake-executor-plugin-ec2[local]'"
            ) from error
        try:
            embedded = self._stack.enter_context(EmbeddedCloud())
        except CloudStartError as error:
            raise ConfigurationError(str(error)) from error
        self._stack.enter_context(_environment(embedded.env, embedded.unset))
        self._tell("Rehearsing on the embedded cloud of this computer: nothing is billed.")


def limits_of(settings: ExecutorSettings) -> Limits:
    """What the options allow for all jobs."""
    return Limits(
        exclude=allowed_patterns(listed(settings.exclude_types)),
        free_tier=bool(settings.free_tier),
        max_usd_per_hour=settings.max_price,
    )


@contextmanager
def _environment(variables: Mapping[str, str], unset: Iterable[str]) -> Iterator[None]:
    """Environment variables that point every AWS client of this process somewhere else."""
    ours = {*variables, *unset, "SNAKEMAKE_EC2_SSH_PORT"}
    before = {name: os.environ.pop(name, None) for name in ours}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _tags(items: tuple[str, ...]) -> dict[str, str]:
    tags = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise ConfigurationError(f"--ec2-tags {item!r}: a tag is written as name=value")
        tags[key] = value
    return check_tags(tags)
