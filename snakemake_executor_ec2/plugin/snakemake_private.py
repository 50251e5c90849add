"""What of Snakemake is read and set here, and differs between its versions; the reason beside each.

Imported at every start of Snakemake: standard library and errors only, and nothing of Snakemake's that a
coming version no longer has.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from snakemake_executor_ec2.errors import ConfigurationError

# Up to 9, `deployment_method` holds members of an enumeration, `DeploymentMethod`. The next major
# has no such enumeration: there, `deployment_methods` holds the names of plugins.
_METHODS = ("deployment_methods", "deployment_method")
_OTHER_NAMES = {"singularity": "apptainer", "container": "apptainer", "envmodules": "env-modules"}


def deployment_methods(workflow: Any) -> frozenset[str]:
    """How Snakemake is to deploy software: `conda`, `apptainer`, `env-modules`."""
    settings = workflow.deployment_settings
    return frozenset(map(_name, getattr(settings, _attribute(settings))))


@contextmanager
def deploying_only(workflow: Any, methods: Collection[str]) -> Iterator[None]:
    """Meanwhile, Snakemake is to deploy software only in these of its ways.

    The command of a job is made of the run's settings: with conda among them, the machine's
    Snakemake wants to have it for every job.
    """
    settings = workflow.deployment_settings
    attribute = _attribute(settings)
    every = getattr(settings, attribute)
    setattr(settings, attribute, frozenset(each for each in every if _name(each) in methods))
    try:
        yield
    finally:
        setattr(settings, attribute, every)


def _attribute(settings: Any) -> str:
    return next(name for name in _METHODS if hasattr(settings, name))


def _name(method: object) -> str:
    text = str(getattr(method, "name", method)).lower().replace("_", "-")
    return _OTHER_NAMES.get(text, text)


def require_cores_for_handover(workflow: Any, jobs: Iterable[Any]) -> None:
    """Refuse `handover:` rules without --cores: Snakemake runs them here, on all cores, and with --jobs
    alone it does not know how many. It would end the run when such a job's turn comes, after others
    have been paid for. Raises ConfigurationError."""
    if workflow.resource_settings.cores is not None:
        return
    rules = {str(job.rule.name): job.rule for job in jobs if job.rule.is_handover}
    told = sorted(name for name, rule in rules.items() if _unset(rule.resources.get("_cores")))
    if told:
        raise ConfigurationError(
            f"`handover: True` makes Snakemake run rule {told[0]} on your computer with all of its cores, "
            "and --jobs does not say how many these are; add --cores, for instance --cores 1"
        )


def how_it_ended(workflow: Any) -> tuple[int, int, bool]:
    """When the executor is shut down: jobs that are done, jobs that have failed, and whether all went well.

    Snakemake tells executors nothing of it: its scheduler knows, and says it with the exit status.
    """
    scheduler = workflow.scheduler
    failed = sum(map(len, scheduler.failed))
    broken = scheduler._errors or scheduler._executor_error is not None or sys.exception() is not None
    return scheduler.finished_jobs, failed, not (broken or failed or list(scheduler.remaining_jobs))


def hide_in_command(secret: str) -> None:
    """Snakemake prints its own command line at the start, and writes it into its log."""
    if secret:
        hidden = [each.replace(f"={secret}", "=(hidden)") for each in sys.argv]
        sys.argv = ["(hidden)" if each == secret else each for each in hidden]


def refuse_env_modules(workflow: Any) -> None:
    """Raise ConfigurationError for `--sdm env-modules`."""
    if "env-modules" in deployment_methods(workflow):
        raise ConfigurationError(
            "--sdm env-modules needs a cluster's module system, which EC2 machines do not have; "
            "use --sdm conda, --ec2-requirements or --ec2-setup instead"
        )


def refuse_immediate_submit(workflow: Any) -> None:
    """Refuse --immediate-submit: Snakemake counts each job as done as soon as it is handed over, and ends,
    with success, while their machines start. Raises ConfigurationError."""
    if workflow.remote_execution_settings.immediate_submit:
        raise ConfigurationError(
            "--immediate-submit leaves it to a cluster's queue to start each job after those that it depends "
            "on, and EC2 has no such queue; leave it out"
        )


def _unset(resource: Any) -> bool:
    """Whether a resource has no value: newer Snakemakes hold it in a `Resource`, and functions, too."""
    return getattr(resource, "_value", resource) is None


def as_progress() -> dict[str, Any]:
    """What a record of the logger needs to be left out with `--quiet progress`."""
    from snakemake.settings.enums import Quietness

    return {"quietness": Quietness.PROGRESS}


def add_to_lock_error(word: Callable[[], str]) -> None:
    """Let Snakemake's advice to --unlock a folder be followed by a word of ours, if there is one."""
    from snakemake.exceptions import LockException

    before = LockException.__init__
    if hasattr(before, "instead_of"):
        return

    def init(error: Any) -> None:
        before(error)
        if text := word():
            error.args = (f"{error.args[0]}\n{text}" if error.args else text,)

    init.instead_of = before  # type: ignore[attr-defined]
    LockException.__init__ = init


def on_sigterm(handler: Callable[[int, Any], None]) -> Callable[[], None]:
    """Have SIGTERM end a run by `handler`. Snakemake's scheduler sets its own, `exit_gracefully`, just
    after it has made the executor; that one takes a plain lock (`_lock`) which the interrupted main
    thread may hold, and hangs for ever then. Returns what makes it as it was."""
    return _in_place("exit_gracefully", lambda _: lambda _, number, frame: handler(number, frame))


def on_success(confirm: Callable[[], bool]) -> Callable[[], None]:
    """Have a run whose jobs have all succeeded count as failed unless `confirm`, asked after the executor's
    shutdown, says so. What that raises would keep Snakemake from storing outputs. Returns what makes it as
    it was."""

    def asking(before: Any) -> Callable[[Any], bool]:
        return lambda scheduler: bool(before(scheduler)) and confirm()

    return _in_place("schedule", asking)


def _in_place(method: str, other: Callable[[Any], Any]) -> Callable[[], None]:
    """Give Snakemake's scheduler another method, made of the one that it has; returns what undoes that."""
    for name in ("snakemake.scheduling.job_scheduler", "snakemake.scheduler"):
        scheduler = getattr(sys.modules.get(name), "JobScheduler", None)
        if scheduler is not None and hasattr(scheduler, method):
            before = getattr(scheduler, method)
            setattr(scheduler, method, other(before))
            return partial(setattr, scheduler, method, before)
    return lambda: None


def say_units(resource_settings: Any) -> None:
    """Let the machine get `--default-resources` as they were meant. Snakemake turns `mem_mib=954` into
    a `mem_mb` of 1000, and passes it on as `mem_mb=954`."""
    defaults = default_resources(resource_settings)
    for resource in getattr(defaults, "_data", {}).values():
        if isinstance(resource.raw, int | float) or _is_number(resource.raw):
            # The context of a job, which a number does not look at.
            nothing = dict.fromkeys(("input", "attempt", "threads", "rulename", "async_run"))
            resource.raw = resource.evaluate(None, **nothing).value


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def default_resources(resource_settings: Any) -> Any:
    """`--default-resources` as Snakemake has read them: the setting itself is a text."""
    return getattr(resource_settings, "_parsed_default_resources", None)


def locks(persistence: Any) -> tuple[str, ...]:
    """The lock files that this Snakemake holds on its folder, relative to it: nobody else tells whose
    they are when it has died."""
    return tuple(os.path.relpath(path) for path in getattr(persistence, "_lockfile", {}).values())


def notes_are_files(persistence: Any) -> bool:
    """Whether Snakemake keeps what it knows of outputs in files, one for each."""
    return hasattr(persistence, "_metadata_path")


def storage_providers(workflow: Any) -> Collection[Any]:
    """The storage that the workflow uses: its settings name every plugin that is installed."""
    providers: Collection[Any] = workflow.storage_registry._storages.values()
    return providers


def around_commands(executable: str) -> tuple[str, str]:
    """What Snakemake puts before and after a shell command: strict mode, or what the Snakefile has set."""
    from snakemake.shell import shell

    return shell._get_process_prefix(executable), shell._process_suffix


@contextmanager
def changed(job: Any, *, resources: Any, params: Any) -> Iterator[None]:
    """Meanwhile, a job has these resources and params (None: they are made anew), which it keeps once it
    has made them."""
    before = job.resources, job.params
    job._resources, job._params = resources, params
    try:
        yield
    finally:
        job._resources, job._params = before


def workflow_of(api: Any) -> Any:
    """The workflow of Snakemake's API for one, which only runs it or shows it."""
    return api._workflow


def build_dag(workflow: Any, executor_plugin: Any) -> None:
    """What `Workflow.execute` does before it executes, and no method does alone."""
    workflow._executor_plugin = executor_plugin
    workflow._prepare_dag(
        forceall=workflow.dag_settings.forceall, ignore_incomplete=True, lock_warn_only=True, nolock=True
    )
    workflow._build_dag()


def jobs_at_a_time(workflow: Any) -> int:
    """`--jobs`."""
    nodes = workflow.global_resources["_nodes"]
    return int(getattr(nodes, "value", nodes) or 1)  # up to 9.14 a number, then an object that holds one


def limited_resources(workflow: Any) -> frozenset[str]:
    """The resources that `--resources` limits for all jobs together."""
    return frozenset(name for name in workflow.global_resources if not name.startswith("_"))
