"""What the user's options make of EC2: which cloud, which types, what a job asks for."""

from __future__ import annotations

import math
from typing import Any

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Arch, Market, Requirements, SpotUse
from snakemake_executor_ec2.plugin.job_plan import label, resources
from snakemake_executor_ec2.plugin.settings import ExecutorSettings, listed
from snakemake_executor_ec2.ports import Cloud
from snakemake_executor_ec2.sizing.catalogue import Catalogue, Limits
from snakemake_executor_ec2.sizing.ceiling import DEFAULT_USD_PER_HOUR
from snakemake_executor_ec2.sizing.requirements import allowed_patterns, requirements


def catalogue_of(cloud: Cloud, settings: ExecutorSettings) -> Catalogue:
    """The region's types and prices within the user's limits. Raises Ec2ExecutorError."""
    return Catalogue(
        cloud.instance_types(),
        zones=cloud.zones,
        prices=cloud.prices(Market.ON_DEMAND),
        spot_prices=lambda: cloud.prices(Market.SPOT),
        limits=Limits(
            exclude=allowed_patterns(listed(settings.exclude_types)),
            free_tier=bool(settings.free_tier),
            max_usd_per_hour=_most_per_hour(settings.max_price),
            by_default=settings.max_price is None,
        ),
        region=cloud.region,
    )


def _most_per_hour(max_price: float | None) -> float | None:
    """`--ec2-max-price`, whose infinity (`inf`) means no limit; without it, the ceiling for slips."""
    most = DEFAULT_USD_PER_HOUR if max_price is None else max_price
    return None if most == math.inf else most


def requirements_of(job: Any, settings: ExecutorSettings) -> Requirements:
    """What a job of Snakemake's needs. Raises ConfigurationError, which names the rule."""
    try:
        return requirements(
            threads=job.threads,
            resources=resources(job),
            allowed_types=listed(settings.instance_types),
            default_arch=Arch(settings.arch or Arch.X86_64),
            default_spot=SpotUse(settings.spot or SpotUse.NEVER),
        )
    except ConfigurationError as error:
        raise type(error)(f"{label(job)}: {error.message}") from error
