"""From Snakemake's options to a `RunConfig`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.formatting import seconds
from snakemake_executor_ec2.model import Arch, SpotUse
from snakemake_executor_ec2.plugin.notify import receiver
from snakemake_executor_ec2.plugin.settings import ExecutorSettings, listed
from snakemake_executor_ec2.sizing.ceiling import DEFAULT_USD_PER_HOUR
from snakemake_executor_ec2.sizing.disk import check_speed
from snakemake_executor_ec2.sizing.requirements import allowed_patterns
from snakemake_executor_ec2.sizing.reuse import Reuse
from snakemake_executor_ec2.ssh.proxy import proxy_command
from snakemake_executor_ec2.tags import check_tags

SSH_PORT_VARIABLE = "SNAKEMAKE_EC2_SSH_PORT"
_TIMES = {
    "capacity_timeout": ("s", "0s"),
    "idle": ("s", "0s"),
    "boot_timeout": ("s", "1s"),
    "lost_after": ("s", "0s"),
    "lease": ("m", "1m"),
    "lifetime": ("m", "1m"),
    "keep_failed": ("m", "0m"),
}
"""Options that are times: the unit of a number without one, and the least that makes sense."""


def run_config(settings: ExecutorSettings) -> RunConfig:
    """The options of a run. Raises ConfigurationError for a value that could not work."""
    receiver(settings.notify)  # refuses what nobody could be told by
    return _values(settings, RunConfig(), _times(settings), rehearsal=settings.cloud == "local")


def _values(
    settings: ExecutorSettings, defaults: RunConfig, times: Mapping[str, float], *, rehearsal: bool
) -> RunConfig:
    return RunConfig(
        region=settings.region,
        profile=settings.profile,
        subnets=listed(settings.subnets),
        ssh_from=settings.ssh_from,
        ssh_to=settings.ssh_to or defaults.ssh_to,
        ssh_proxy=_proxy(settings.ssh_proxy, rehearsal=rehearsal),
        public_ip=settings.public_ip != "never",
        ssh_user=settings.ssh_user or defaults.ssh_user,
        ssh_port=_ssh_port(settings.ssh_port or defaults.ssh_port),
        ssh_key=Path(settings.ssh_key).expanduser() if settings.ssh_key else None,
        allow_first_host_key=settings.allow_first_host_key,
        ami=settings.ami,
        use_baked=settings.baked != "never",
        peers=settings.peers != "never",
        requirements=settings.requirements,
        setup=settings.setup,
        instance_types=allowed_patterns(listed(settings.instance_types)),
        exclude_types=allowed_patterns(listed(settings.exclude_types)),
        free_tier=bool(settings.free_tier),
        arch=Arch(settings.arch or defaults.arch),
        spot=SpotUse(settings.spot or defaults.spot),
        disk_speed=_disk_speed(settings.disk_mbps or 0, settings.disk_iops or 0),
        max_usd_per_hour=_most_per_hour(settings.max_price),
        price_limit_is_default=settings.max_price is None,
        max_cost_usd=settings.max_cost,
        budget_period=settings.budget_period or defaults.budget_period,
        instance_profile=settings.instance_profile,
        tags=_tags(listed(settings.tags)),
        capacity_timeout_s=times.get("capacity_timeout", defaults.capacity_timeout_s),
        boot_timeout_s=times.get("boot_timeout", defaults.boot_timeout_s),
        lost_after_s=times.get("lost_after", defaults.lost_after_s),
        lease_s=times.get("lease", defaults.lease_s),
        lease_usd=None if "lease" in times else defaults.lease_usd,
        lifetime_s=round(times.get("lifetime", defaults.lifetime_s)),
        reuse=Reuse(settings.reuse or defaults.reuse),
        idle_s=times.get("idle", defaults.idle_s),
        look_ahead=settings.look_ahead != "off",
        keep_failed_s=0.0 if rehearsal else times.get("keep_failed", defaults.keep_failed_s),
        local_disks=not rehearsal,
        can_detach=not rehearsal,
    )


def _ssh_port(port: int) -> int:
    """Also for a program that makes the settings itself, and asks no environment."""
    return int(os.environ.get(SSH_PORT_VARIABLE) or port)


def _proxy(text: str | None, *, rehearsal: bool) -> str | None:
    """`--ec2-ssh-proxy`, checked. A rehearsal does not call its program."""
    proxy = proxy_command(text)
    if proxy is not None and not rehearsal:
        proxy.require_programs()
    return text if proxy else None


def _disk_speed(mbps: int, iops: int) -> tuple[int, int]:
    """`--ec2-disk-mbps` and `--ec2-disk-iops`, checked; 0: what suits a job."""
    try:
        check_speed(mbps, iops)
    except ConfigurationError as error:
        raise ConfigurationError(error.message.replace("ec2_disk_", "--ec2-disk-")) from error
    return mbps, iops


def _most_per_hour(max_price: float | None) -> float | None:
    """`--ec2-max-price`, whose infinity (`inf`) means no limit; without it, the ceiling for slips."""
    most = DEFAULT_USD_PER_HOUR if max_price is None else max_price
    return None if most == math.inf else most


def _times(settings: ExecutorSettings) -> dict[str, float]:
    """The times that are set, in seconds. Raises ConfigurationError, also for one in which nothing could
    be done."""
    times = {}
    for name, (bare, least) in _TIMES.items():
        value = getattr(settings, name)
        if value is None or value == "":
            continue
        option = f"--ec2-{name.replace('_', '-')}"
        try:
            times[name] = seconds(value, bare=bare)
        except ValueError as error:
            raise ConfigurationError(f"{option}: {error}") from error
        if times[name] < seconds(least, bare="s"):
            raise ConfigurationError(f"{option} {value}: must be at least {least}")
    return times


def _tags(items: Iterable[str]) -> dict[str, str]:
    tags = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise ConfigurationError(f"--ec2-tags {item!r}: a tag is written as name=value")
        tags[key] = value
    return check_tags(tags)
