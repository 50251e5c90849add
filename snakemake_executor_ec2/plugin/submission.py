"""How a job goes to its machine: as its own command, or with a Snakemake that is held to what was decided."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import JobPlan, Requirements
from snakemake_executor_ec2.plugin.decision import decision
from snakemake_executor_ec2.plugin.direct import NotDirect, direct_request
from snakemake_executor_ec2.plugin.job_plan import inner_jobs, label, plan_job
from snakemake_executor_ec2.plugin.readers import read_again
from snakemake_executor_ec2.plugin.surroundings import Surroundings
from snakemake_executor_ec2.runner.arguments import exact_arguments
from snakemake_executor_ec2.staging.sources import Sources


def submission(
    executor: Any, job: Any, *, key: str, requirements: Requirements, sources: Sources
) -> tuple[JobPlan, str]:
    """The plan for a job of Snakemake's, and a sentence on the way that it takes. Raises
    ConfigurationError."""
    before, argv = exact_arguments(executor, job)
    direct, way = _direct(job)
    held_to = decision(
        inner_jobs(job),
        argv=argv,
        unneeded_temp_files=executor.dag.get_unneeded_temp_files(job),
        label=label,
        with_globals=direct is None,
    )
    plan = plan_job(
        job,
        key=key,
        command=before,
        decision=held_to,
        direct=direct,
        env=executor.envvars(),
        requirements=requirements,
        sources=sources.files,
        keep_incomplete=executor.workflow.execution_settings.keep_incomplete,
    )
    _refuse_unreadable(plan)
    return replace(plan, read_again=read_again(executor.dag, job)), way


def preflight(executor: Any, jobs: Iterable[Any], surroundings: Surroundings) -> None:
    """Before anything is launched: have a job of each rule that needs Snakemake on its machine resolved once
    more, on this computer, from what would travel. Raises ConfigurationError with what differs."""
    told: dict[str, Any] = {}
    seen: set[str] = set()
    for each in (inner for job in jobs for inner in inner_jobs(job)):
        if each.rule.name in seen:
            continue
        # What looks at files that are not there yet cannot be decided yet.
        with suppress(Exception):
            if own_command(each.dag.get_job_group(each) or each) is None:
                argv = exact_arguments(executor, each)[1]
                told[each.rule.name] = decision([each], argv=argv, unneeded_temp_files=(), label=label)
            seen.add(each.rule.name)
    if not told:
        return
    first = next(iter(told.values()))
    document = {
        **first,
        "argv": _without_option(first["argv"], "--allowed-rules"),
        "targets": [target for each in told.values() for target in each["targets"]],
        "jobs": [job for each in told.values() for job in each["jobs"]],
        "configs": {key: value for each in told.values() for key, value in each["configs"].items()},
    }
    surroundings.check(document, declared=executor.envvars())


def own_command(job: Any) -> Mapping[str, Any] | None:
    """What the agent needs to run a job itself, if it runs without Snakemake as far as is known by now."""
    return _direct(job)[0]


def _refuse_unreadable(plan: JobPlan) -> None:
    """Raises ConfigurationError for an input that can't be sent, before a machine is launched for it."""
    for path in plan.inputs:
        wanted = os.R_OK | os.X_OK if path.is_dir() else os.R_OK
        if path.exists() and not os.access(path, wanted):
            raise ConfigurationError(
                f"{plan.label} was not run: you do not have the permission to read its input {path}"
            )


def _without_option(argv: list[str], name: str) -> list[str]:
    """Options for Snakemake without one that takes a list."""
    begin = argv.index(name) if name in argv else len(argv)
    end = next((i for i in range(begin + 1, len(argv)) if argv[i].startswith("--")), len(argv))
    return argv[:begin] + argv[end:]


def _direct(job: Any) -> tuple[dict[str, Any] | None, str]:
    """The job's own command, if it needs no Snakemake; and a sentence about that."""
    try:
        request = direct_request(job)
    except NotDirect as why:
        return None, f"{label(job)} runs with Snakemake on its machine, because {why}"
    what = "their own commands" if job.is_group() else "its own command"
    return request, f"{label(job)} runs {what}, without Snakemake on its machine"
