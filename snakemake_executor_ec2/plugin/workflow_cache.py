"""Snakemake's cache between workflows (`--cache`), a folder of this computer: it is asked and filled here."""

from __future__ import annotations

from typing import Any

from snakemake.exceptions import CacheMissException

from snakemake_executor_ec2.plugin.job_plan import is_storage


def is_cached(workflow: Any, job: Any) -> bool:
    """Whether a job's outputs are kept in it: what machines put into buckets is not."""
    if workflow.workflow_settings.cache is None or job.is_group():
        return False
    return bool(job.rule.cache and job.rule.cache.output) and not any(map(is_storage, job.output))


def taken(workflow: Any, job: Any) -> bool:
    """Take a job's outputs from it: then the job needs no machine."""
    if not is_cached(workflow, job):
        return False
    try:
        workflow.async_run(job.rule.cache.fetch(job))
    except CacheMissException:
        return False
    return True
