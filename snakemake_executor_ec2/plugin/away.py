"""What of a workflow goes to the machine that runs the whole of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.away.project import Project, note_of
from snakemake_executor_ec2.away.wheel import OWN, Wheel, pins
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Software
from snakemake_executor_ec2.plugin import environment, parse_reads, snakemake_private
from snakemake_executor_ec2.plugin.away_profiles import profiles
from snakemake_executor_ec2.plugin.job_plan import (
    container_images,
    indexes_beside,
    inner_jobs,
    is_storage,
    workflow_data,
)
from snakemake_executor_ec2.plugin.notify import VARIABLE, Receiver, receiver
from snakemake_executor_ec2.plugin.settings import ExecutorSettings
from snakemake_executor_ec2.plugin.software import software_for
from snakemake_executor_ec2.plugin.surroundings import Surroundings
from snakemake_executor_ec2.staging.private import private_in
from snakemake_executor_ec2.staging.sources import Reason

_OF_THIS_COMPUTER = {
    "--profile": "copy what it says into the folder's own profile, profiles/default/config.yaml (a profile "
    "of AWS: --ec2-profile)",
    "--ec2-ssh-key": "a private key stays on your computer",
    "--directory": "start it in that folder",
    "-d": "start it in that folder",
}
"""Options that name what the machine has not, and what to do instead."""
_ITS_OWN = (
    *("--ec2-ssh-from", "--ec2-ssh-to", "--ec2-ssh-proxy"),
    *("--ec2-region", "--ec2-profile", "--ec2-max-cost", "--ec2-detach", "--ec2-notify"),
)
"""Options that the machine's Snakemake gets otherwise, or not at all: it is in the network of its jobs. Also
where the workflow's own profile has them."""
_WITHOUT_VALUE = ("--ec2-detach",)


def project(
    dag: Any,
    settings: ExecutorSettings,
    arguments: Sequence[str],
    wheel: Wheel | None,
    warn: Callable[[str], None],
) -> Project:
    """The project of a DAG of Snakemake's; `arguments` are those that were given for Snakemake. Raises
    ConfigurationError for what cannot be run away from here."""
    from snakemake.logging import logger

    workflow = dag.workflow
    refuse(workflow, settings, arguments)
    caches = workflow.sourcecache
    read = parse_reads.stop(
        outside=map(Path, (sys.prefix, sys.base_prefix, caches.cache_path, caches.runtime_cache_path))
    )
    sources = Surroundings(workflow, read_by_parse=read, fetched=None, logger=logger).sources
    tracked = [path for path, reason in sources.reasons.items() if reason is Reason.TRACKED]
    inputs, made, also = _files(dag)
    env, unset = _variables(workflow)
    told = receiver(settings.notify)
    own = profiles(_snakefile(workflow), arguments, _ITS_OWN)
    return Project(
        workdir=Path.cwd(),
        sources=tuple(dict.fromkeys((*sources.files, *own.files, *notifying(told, Path.cwd())))),
        written=own.written,
        inputs=inputs,
        made=made,
        tracked=tuple(sorted(_relative(tracked))) if tracked else None,
        # On no command line there: it may be a secret.
        env={**env, VARIABLE: settings.notify} if told and settings.notify else env,
        unset=unset,
        arguments=_arguments(arguments),
        software=_software(workflow, wheel, warn),
        also=also,
        told=told.command[0] if told and told.command else "",
        patterns=tuple(dict.fromkeys(_patterns(workflow.rules))),
    )


def refuse(workflow: Any, settings: ExecutorSettings, arguments: Sequence[str]) -> None:
    """Raise ConfigurationError for what would lead to something else on the machine."""
    if settings.cloud == "local":
        raise ConfigurationError(
            "the embedded cloud of --ec2-cloud local ends with this command: `snakemake-ec2 cloud` serves "
            "one that stays"
        )
    for option, instead in _OF_THIS_COMPUTER.items():
        if any(each == option or each.startswith(f"{option}=") for each in arguments):
            raise ConfigurationError(f"{option} names what is only on your computer: {instead}")
    if workflow.resource_settings.nodes is None:
        raise ConfigurationError("--jobs N is missing: how many jobs may run at the same time")
    if settings.ssh_key:
        raise ConfigurationError(f"ec2-ssh-key, of a profile: {_OF_THIS_COMPUTER['--ec2-ssh-key']}")
    if os.environ.get("SNAKEMAKE_PROFILE"):
        raise ConfigurationError(f"SNAKEMAKE_PROFILE is set: {_OF_THIS_COMPUTER['--profile']}, and unset it")
    if Path(workflow.workdir_init) != Path.cwd():
        raise ConfigurationError(
            f"the workflow changes its folder to {Path.cwd()} (workdir:, --directory): start it there"
        )
    if not snakemake_private.notes_are_files(workflow.persistence):
        raise ConfigurationError("--persistence-backend: only files can be brought home, its default")
    declared = [name for name in sorted(workflow.envvars) if name.startswith("AWS_")]
    if declared:
        raise ConfigurationError(
            f"the workflow declares {', '.join(declared)} (envvars:): your AWS credentials stay on your "
            "computer. Give the permission to the role of `snakemake-ec2 away setup` instead, or to an "
            "instance profile of the jobs' machines (--ec2-instance-profile)"
        )


def notifying(told: Receiver | None, folder: Path) -> tuple[Path, ...]:
    """Files of the folder that the command of `--ec2-notify` names: no job needs them, the message does."""
    files = [Path(os.path.normpath(folder / word)) for word in (told.command or ()) if word] if told else []
    return tuple(f for f in files if folder in f.parents and f.is_file() and not private_in(f, folder))


def _files(dag: Any) -> tuple[tuple[Path, ...], tuple[Path, ...], tuple[str, ...]]:
    """Inputs that no job makes; outputs that are here, with what Snakemake has noted of them; names of logs
    and benchmarks."""
    jobs = [each for job in dag.jobs for each in inner_jobs(job)]
    _, outputs = workflow_data(dag)
    read = [f for job in jobs for f in job.input if not is_storage(f)]
    needed = [*_absolute([*read, *container_images(jobs)]), *(p for job in jobs for p in indexes_beside(job))]
    inputs = [path for path in dict.fromkeys(needed) if path not in outputs and os.path.lexists(path)]
    for path in inputs:
        if private := private_in(path, Path.cwd()):
            raise ConfigurationError(f"the workflow reads {path}, but {private} is never sent to a machine")
    names = dict.fromkeys(str(f) for job in jobs for f in job.output if not is_storage(f))
    made = [name for name in names if os.path.lexists(name)]
    notes = [note for name in made if (note := note_of(name)).is_file()]
    also = (f for job in jobs for f in (*job.log, job.benchmark) if f and not is_storage(f))
    return tuple(inputs), tuple(_absolute([*made, *notes])), tuple(dict.fromkeys(map(str, also)))


def _snakefile(workflow: Any) -> Path:
    return Path(str(next(iter(workflow.included)).get_path_or_uri(secret_free=True)))


def _patterns(rules: Iterable[Any]) -> Iterable[str]:
    for rule in rules:
        for file in (*rule.output, *rule.log, rule.benchmark):
            if hasattr(file, "regex") and not is_storage(file):
                yield file.regex().pattern


def _variables(workflow: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """What Snakefiles have read of the environment, but no credentials; and what they declare."""
    found = {
        name: value
        for name, value in environment.read().items()
        if not environment.is_the_machines(name) and not environment.may_be_secret(name)
    }
    declared = {name: os.environ.get(name) for name in workflow.envvars}
    both = {**found, **declared}
    unset = tuple(sorted(name for name, value in both.items() if value is None))
    return {name: value for name, value in both.items() if value is not None}, unset


def _arguments(given: Sequence[str]) -> tuple[str, ...]:
    """For the machine's Snakemake: it reaches its jobs' machines from within their network."""
    always = ("--ec2-ssh-to", "private", "--rerun-incomplete", "--nocolor")
    return ("--executor", "ec2", *without(given, _ITS_OWN), *always)


def without(arguments: Sequence[str], options: Collection[str]) -> list[str]:
    """Arguments without some options, and their values."""
    kept, skips = [], False
    for each in arguments:
        name, sign, _ = each.partition("=")
        if name in options:
            skips = not sign and name not in _WITHOUT_VALUE
        elif skips:
            skips = False
        else:
            kept.append(each)
    return kept


def _software(workflow: Any, wheel: Wheel | None, warn: Callable[[str], None]) -> Software:
    """What is installed here, of Snakemake; and what the workflow's code imports."""
    from importlib.metadata import version

    pinned, elsewhere = pins()
    if elsewhere:
        warn(f"the machine lacks {', '.join(elsewhere)}: no package index has what is installed here")
    plain = software_for(workflow, warn)
    own = wheel.path if wheel is not None else f"{OWN}=={version(OWN)}"
    packages = tuple(dict.fromkeys([own, *pinned, *plain.packages]))
    return replace(plain, packages=packages, setup="", tools=(), late=())


def _absolute(names: Iterable[Any]) -> list[Path]:
    return [Path(os.path.normpath(Path.cwd() / str(name))) for name in names]


def _relative(paths: Iterable[Path]) -> list[str]:
    return [str(path.relative_to(Path.cwd())) for path in paths if Path.cwd() in path.parents]
