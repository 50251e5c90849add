"""What `snakemake-ec2 bake` has to put into images for a workflow: what its runs would install."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from snakemake.exceptions import InputFunctionException

from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Arch, Software
from snakemake_executor_ec2.plugin.job_plan import deployment_tools, resources
from snakemake_executor_ec2.plugin.run_config import run_config
from snakemake_executor_ec2.plugin.settings import ExecutorSettings
from snakemake_executor_ec2.plugin.software import software_for
from snakemake_executor_ec2.sizing.requirements import requirements


@dataclass(frozen=True, order=True)
class Base:
    """An image that machines of a workflow start from."""

    ami: str = ""
    """Empty: the newest of Amazon's."""
    arch: Arch = Arch.X86_64
    gpu: bool = False
    """Amazon's with the drivers of GPUs."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a workflow's runs would install, and on which images."""

    config: RunConfig
    software: Software
    """With the tools of all its jobs."""
    bases: tuple[Base, ...]


def wanted(dag: Any, settings: ExecutorSettings, warn: Callable[[str], None]) -> Wanted:
    """All jobs count, also those that need not be run now. Raises ConfigurationError."""
    config = run_config(settings)
    jobs = [job for job in dag.jobs if not job.is_local]
    software = replace(software_for(dag.workflow, warn), late=(), tools=deployment_tools(jobs))
    bases = {_base(job, config) for job in jobs} - {None}
    return Wanted(
        config=config,
        software=software,
        bases=tuple(sorted(filter(None, bases))) or (Base(config.ami or "", config.arch),),
    )


def _base(job: Any, config: RunConfig) -> Base | None:
    """None if that is not known before the job's inputs are there, or if no machine would be launched."""
    with suppress(ConfigurationError, InputFunctionException, TypeError, ValueError):
        needed = requirements(
            threads=job.threads,
            resources=resources(job),
            allowed_types=config.instance_types,
            default_arch=config.arch,
            default_spot=config.spot,
        )
        ami = needed.ami or config.ami or ""
        return Base(ami, needed.arch, needed.gpus > 0 and not ami)
    return None
