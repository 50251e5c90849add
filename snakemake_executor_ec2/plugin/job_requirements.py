"""What a job of Snakemake's needs of a machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.machines.feasibility import Feasibility
from snakemake_executor_ec2.model import Requirements
from snakemake_executor_ec2.plugin.job_plan import inner_jobs, is_storage, label, resources
from snakemake_executor_ec2.plugin.shared_folders import refuse_shared_folders
from snakemake_executor_ec2.sizing.requirements import requirements


def requirements_of(job: Any, config: RunConfig, feasibility: Feasibility) -> Requirements:
    """What a job needs. Raises ConfigurationError, naming the rule, if no allowed machine has it."""
    refuse_shared_folders(job, config)
    try:
        needed = requirements(
            threads=job.threads,
            resources=resources(job),
            allowed_types=config.instance_types,
            default_arch=config.arch,
            default_spot=config.spot,
            default_speed=config.disk_speed,
            staged_mib=_staged_mib(job),
        )
        feasibility.check(needed)
    except ConfigurationError as error:
        raise type(error)(f"{label(job)}: {error.message}") from error
    return needed


def _staged_mib(job: Any) -> int:
    """Of a job's inputs that are here, without what is in folders: a few large files are what counts."""
    paths = {str(f) for each in inner_jobs(job) for f in each.input if not is_storage(f)}
    size = 0
    for path in paths:
        with suppress(OSError):
            size += Path(path).stat().st_size
    return size >> 20
