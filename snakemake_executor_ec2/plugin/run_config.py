"""From the options as Snakemake gives them to a `RunConfig`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Arch, SpotUse
from snakemake_executor_ec2.plugin.settings import ExecutorSettings, listed
from snakemake_executor_ec2.sizing.ceiling import DEFAULT_USD_PER_HOUR
from snakemake_executor_ec2.sizing.requirements import allowed_patterns
from snakemake_executor_ec2.tags import check_tags

SSH_PORT_VARIABLE = "SNAKEMAKE_EC2_SSH_PORT"


def run_config(settings: ExecutorSettings) -> RunConfig:
    """The options of a run. Raises ConfigurationError for a value that could not work."""
    _check_times(settings)
    defaults = RunConfig()
    rehearsal = settings.cloud == "local"
    return RunConfig(
        region=settings.region,
        profile=settings.profile,
        subnets=listed(settings.subnets),
        ssh_from=settings.ssh_from,
        ssh_user=settings.ssh_user or defaults.ssh_user,
        # Also for a program that makes the settings itself, and asks no environment.
        ssh_port=int(os.environ.get(SSH_PORT_VARIABLE) or settings.ssh_port or defaults.ssh_port),
        ssh_key=Path(settings.ssh_key).expanduser() if settings.ssh_key else None,
        allow_first_host_key=settings.allow_first_host_key,
        ami=settings.ami,
        requirements=settings.requirements,
        setup=settings.setup,
        instance_types=allowed_patterns(listed(settings.instance_types)),
        exclude_types=allowed_patterns(listed(settings.exclude_types)),
        free_tier=bool(settings.free_tier),
        arch=Arch(settings.arch or defaults.arch),
        spot=SpotUse(settings.spot or defaults.spot),
        max_usd_per_hour=_most_per_hour(settings.max_price),
        price_limit_is_default=settings.max_price is None,
        max_cost_usd=settings.max_cost,
        budget_period=settings.budget_period or defaults.budget_period,
        instance_profile=settings.instance_profile,
        tags=_tags(listed(settings.tags)),
        capacity_timeout_s=_or(settings.capacity_timeout, defaults.capacity_timeout_s),
        boot_timeout_s=_or(settings.boot_timeout, defaults.boot_timeout_s),
        lost_after_s=_or(settings.lost_after, defaults.lost_after_s),
        lease_s=defaults.lease_s if settings.lease is None else settings.lease * 60.0,
        lease_usd=defaults.lease_usd if settings.lease is None else None,
        lifetime_s=defaults.lifetime_s if settings.lifetime is None else settings.lifetime * 60,
        keep_failed_s=0.0 if rehearsal else (settings.keep_failed or 0) * 60.0,
        can_detach=not rehearsal,
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else float(value)


def _most_per_hour(max_price: float | None) -> float | None:
    """`--ec2-max-price`, whose infinity (`inf`) means no limit; without it, the ceiling for slips."""
    most = DEFAULT_USD_PER_HOUR if max_price is None else max_price
    return None if most == math.inf else most


def _check_times(settings: ExecutorSettings) -> None:
    """Raise ConfigurationError for a time in which nothing could be done."""
    for name in ("lease", "lifetime", "boot_timeout"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ConfigurationError(f"--ec2-{name.replace('_', '-')} {value}: must be at least 1")


def _tags(items: Iterable[str]) -> dict[str, str]:
    tags = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise ConfigurationError(f"--ec2-tags {item!r}: a tag is written as name=value")
        tags[key] = value
    return check_tags(tags)
