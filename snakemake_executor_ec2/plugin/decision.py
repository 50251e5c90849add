"""What the controller decided of a job, as the document that travels to its machine.

The runner there (`runner/run.py`) holds Snakemake to it. Each value is read from the job object when
the job is handed over: then everything is settled that this computer settles.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from snakemake_executor_ec2.runner import decided, values


def decision(
    jobs: Iterable[Any],
    *,
    argv: list[str],
    unneeded_temp_files: Iterable[str],
    label: Callable[[Any], str],
    with_globals: bool = True,
) -> dict[str, Any]:
    """The document for the jobs of one submission (a job alone, or a group's).

    `argv` are Snakemake's options, without the targets; `label` tells a job to people. Globals may be large,
    and a shell command holds what it takes of them: of a job that will hardly need them they are left out.
    """
    configs: dict[str, Any] = {}
    jobs = list(jobs)
    made: dict[int, set[str]] = {}
    told = [
        _of_job(job, label(job), configs, with_globals=with_globals, made=_made_beside(job, made))
        for job in jobs
    ]
    began_in = str(jobs[0].dag.workflow.workdir_init)
    workdir = os.getcwd()  # noqa: PTH109
    return {
        "argv": argv,
        "targets": [[job["rule"], job["wildcards"]] for job in told],
        "unneeded_temp_files": [str(file) for file in unneeded_temp_files],
        # `python -m snakemake` looks for modules in the working directory, `snakemake` does not.
        "imports_from_workdir": sys.path[0] in ("", workdir, began_in),
        "snakefile": str(next(iter(jobs[0].dag.workflow.included)).get_path_or_uri(secret_free=True)),
        "home": os.path.expanduser("~"),  # noqa: PTH111
        # From where a `workdir:` has led here; paths before it count from there.
        "began_in": None if began_in == workdir else began_in,
        "configs": configs,
        "jobs": told,
    }


def uncompared(document: Mapping[str, Any]) -> dict[str, str]:
    """What `run:` bodies read that nothing can compare, by name, with the rule that reads it first."""
    found: dict[str, str] = {}
    for job in document["jobs"]:
        if job["code"]["run"] is not None:
            doubtful = (path for path, value in job["globals"] if not values.is_compared(value))
            for path in doubtful:
                name = ".".join(step for step in path if step != "__globals__")
                found.setdefault(name, job["rule"])
    return found


def _made_beside(job: Any, known: dict[int, set[str]]) -> set[str]:
    """What the jobs of a job's group make; `known` keeps it by group."""
    group = job.dag.get_job_group(job)
    if group is None:
        return set()
    if id(group) not in known:
        known[id(group)] = {str(file) for each in group.jobs for file in each.output}
    return known[id(group)]


def _of_job(
    job: Any, label: str, configs: dict[str, Any], *, with_globals: bool, made: set[str]
) -> dict[str, Any]:
    rule, params, resources = job.rule, job.params, job.resources
    if not made.isdisjoint(map(str, job.input)):
        params, resources = decided.without_inputs(job)
    return {
        "label": label,
        "rule": str(rule.name),
        "wildcards": {str(name): str(value) for name, value in (job.wildcards_dict or {}).items()},
        "jobid": job.jobid,
        "input": decided.files(job.input),
        "output": decided.files(job.output),
        "log": decided.files(job.log),
        "benchmark": None if job.benchmark is None else str(job.benchmark),
        "params": values.named(params),
        "resources": values.named(resources),
        "code": decided.code_of(rule),
        "shell": _shell_text(job, params, resources),
        "globals": decided.globals_of(rule) if with_globals else [],
        "config": _config(rule, configs),
    }


def _shell_text(job: Any, params: Any, resources: Any) -> str | None:
    """The command as it would run; None if Snakemake itself could not format it yet."""
    try:
        return decided.shell_text(job, params=params, resources=resources, jobid=job.jobid)
    except Exception:  # whatever the workflow's code does; the machine's Snakemake will report it
        return None


def _config(rule: Any, configs: dict[str, Any]) -> str | None:
    """The key in `configs` of the config that the rule's code sees: a module has one of its own."""
    config = rule.run_func.__globals__.get("config") if rule.run_func else None
    if config is None:
        return None
    encoded = values.encode(config)
    key = hashlib.sha256(json.dumps(encoded).encode()).hexdigest()[:16]
    configs[key] = encoded
    return key
