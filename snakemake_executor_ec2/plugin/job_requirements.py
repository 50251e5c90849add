"""What a job of Snakemake's needs of a machine."""

from __future__ import annotations

from typing import Any

from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.machines.feasibility import Feasibility
from snakemake_executor_ec2.model import Requirements
from snakemake_executor_ec2.plugin.job_plan import label, resources
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
        )
        feasibility.check(needed)
    except ConfigurationError as error:
        raise type(error)(f"{label(job)}: {error.message}") from error
    return needed
