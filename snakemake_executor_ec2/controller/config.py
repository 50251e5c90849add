"""The options of a run, resolved once, times in seconds. A test compares the defaults with those that
`plugin/settings.py` shows to users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from snakemake_executor_ec2.model import Arch, SpotUse
from snakemake_executor_ec2.sizing import ceiling, lease
from snakemake_executor_ec2.sizing.reuse import Reuse

BOOT_TIMEOUT_S = 300.0
CAPACITY_TIMEOUT_S = 1800.0
IDLE_S = 60.0
LIFETIME_S = 7 * 24 * 3600
LOST_AFTER_S = 600.0


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The options of a run (`--ec2-…`), as its parts take them."""

    region: str | None = None
    """None: that of the user's AWS configuration."""
    profile: str | None = None
    subnets: tuple[str, ...] = ()
    ssh_from: str | None = None
    ssh_to: str = "auto"
    """`private`: machines are reached at their private addresses even if they have public ones."""
    ssh_proxy: str | None = None
    """The command through which they are reached (see `ssh/proxy.py`)."""
    public_ip: bool = True
    """Whether machines get public addresses in public subnets."""
    ssh_user: str = "ec2-user"
    ssh_port: int = 22
    ssh_key: Path | None = None
    """A private key that may log in beside the run's own."""
    allow_first_host_key: bool = False
    ami: str | None = None
    use_baked: bool = True
    """Whether machines start from an image of the account's that has the run's software."""
    requirements: str | None = None
    """A requirements file for the machines."""
    setup: str | None = None
    """A script that prepares them."""
    instance_types: tuple[str, ...] = ()
    """Patterns; empty: every type that suits."""
    exclude_types: tuple[str, ...] = ()
    free_tier: bool = False
    arch: Arch = Arch.X86_64
    spot: SpotUse = SpotUse.NEVER
    disk_speed: tuple[int, int] = (0, 0)
    """Throughput of disks in MiB/s, and IOPS; 0: what suits a job's inputs and its machine."""
    max_usd_per_hour: float | None = ceiling.DEFAULT_USD_PER_HOUR
    """None: no limit."""
    price_limit_is_default: bool = True
    max_cost_usd: float | None = None
    budget_period: str = "run"
    instance_profile: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    capacity_timeout_s: float = CAPACITY_TIMEOUT_S
    boot_timeout_s: float = BOOT_TIMEOUT_S
    lost_after_s: float = LOST_AFTER_S
    lease_s: float = lease.DEFAULT_S
    lease_usd: float | None = lease.DEFAULT_USD
    """What a machine may cost during its lease; None: whatever it costs."""
    lifetime_s: int = LIFETIME_S
    reuse: Reuse = Reuse.RULE
    idle_s: float = IDLE_S
    """How long a machine without a job waits for the next one."""
    look_ahead: bool = True
    """Whether machines are launched before their jobs are ready."""
    peers: bool = True
    """Whether machines get large files from each other."""
    keep_failed_s: float = 0.0
    local_disks: bool = True
    """Whether machines have local disks, if their type has: those of a rehearsal do not."""
    can_detach: bool = True
    """Whether machines may outlive the run: those of a rehearsal do not."""


@dataclass(frozen=True, kw_only=True)
class OwnCloud:
    """A cloud that lives as long as the run, and how it is reached; without values, there is none."""

    ssh_port: int | None = None
    ssh_proxy: str | None = None
    """Reaches machines that this computer does not; None: it reaches all."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By these other processes of this user find it."""

    def reached_by(self, config: RunConfig) -> RunConfig:
        """A run's options, with the ways that this cloud has."""
        if self.ssh_port is None:
            return config
        return replace(config, ssh_port=self.ssh_port, ssh_proxy=self.ssh_proxy)
