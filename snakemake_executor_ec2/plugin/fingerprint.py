"""What makes one submission the same as another: rule, code and what it sees, parameters, files, software.

A job that an earlier run left on a machine is only taken over by one with the same fingerprint.
Left out on purpose: what does not change the result (memory, threads, options of Snakemake, the
number of the attempt), so that another `--jobs` or a retry does not throw days of work away.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.model import Software
from snakemake_executor_ec2.plugin.job_plan import (
    container_images,
    deployment_tools,
    environment_files,
    wrapper_files,
    wrapper_of,
)
from snakemake_executor_ec2.runner import values
from snakemake_executor_ec2.runner.decided import globals_of, shell_text
from snakemake_executor_ec2.staging.file_stats import sizes_and_times


def fingerprint(jobs: Iterable[Any], software: Software) -> str:
    """Of the jobs of one submission (a job alone, or a group's), as Snakemake has them, and of what
    the user has machines prepared with."""
    facts = sorted(json.dumps(_facts(job), sort_keys=True, default=str) for job in jobs)
    prepared = json.dumps([software.requirements, software.setup])
    return hashlib.sha256("\n".join([*facts, prepared]).encode("utf-8", "surrogateescape")).hexdigest()


def _facts(job: Any) -> dict[str, Any]:
    rule = job.rule
    script = rule.script or rule.notebook
    return {
        "rule": rule.name,
        "wildcards": dict(job.wildcards_dict),
        "shell": _shell_text(job),
        "script": _content(script, job),
        "run": rule.run_func_src if rule.is_run else None,
        "params": [repr(value) for value in job.params],
        "output": [str(file) for file in job.output],
        "input": sizes_and_times(Path(str(file)) for file in job.input),
        "wrapper": rule.wrapper and [wrapper_of(rule), *map(_sum, wrapper_files(rule))],
        **_software(job),
        **_seen_by_code(rule),
    }


def _seen_by_code(rule: Any) -> dict[str, Any]:
    """What scripts and `run:` bodies may read beside their own; a shell command is decided as a text."""
    if rule.is_shell or not rule.run_func:
        return {}
    config = values.encode(rule.run_func.__globals__.get("config"))
    named = globals_of(rule) if rule.is_run else []
    return {
        "config": values.lasting(config),
        "globals": [[path, values.lasting(value)] for path, value in named],
    }


def _shell_text(job: Any) -> str | None:
    """The command as it would run; without the job's number, which another run may give to another job."""
    try:
        return shell_text(job, params=job.params, resources=job.resources, jobid=0)
    except Exception:  # what it names is not there yet: then its code tells
        return str(job.rule.shellcmd)


def _software(job: Any) -> dict[str, Any]:
    """What a job's rule wants it to run in, where Snakemake was told to see to that."""
    tools = deployment_tools([job])
    facts: dict[str, Any] = {}
    if "conda" in tools:
        facts["conda"] = [vars(job.conda_env_spec), *map(_sum, sorted(environment_files(job)))]
    if "apptainer" in tools:
        facts["image"] = [job.container_img_url, sizes_and_times(map(Path, container_images([job])))]
    return facts


def _content(script: Any, job: Any) -> str | None:
    """A script's text, whose name may hold wildcards and params, as in `snakemake.script.get_source`."""
    from snakemake.utils import format as format_path

    if not script:
        return None
    try:
        named = format_path(str(script), wildcards=job.wildcards, params=job.params)
        path = job.rule.basedir.join(named).get_path_or_uri(secret_free=True)
        return _sum(Path(str(path).removeprefix("file://")))
    except (OSError, AttributeError, NameError):
        return str(script)  # from somewhere else, or named by what is not there yet


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
