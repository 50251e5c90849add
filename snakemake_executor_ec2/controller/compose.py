"""Puts the parts of a run together, from its configuration. Each part is made here and nowhere else."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from snakemake_executor_ec2.agent.client import Installed
from snakemake_executor_ec2.aws.cache import default_directory
from snakemake_executor_ec2.aws.cloud import Ec2Cloud, Reached
from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.controller.lingering import Lingering
from snakemake_executor_ec2.machines.baked import BakedChoice
from snakemake_executor_ec2.machines.budget import Budget
from snakemake_executor_ec2.machines.connection import Connection
from snakemake_executor_ec2.machines.failure_detector import Reachability
from snakemake_executor_ec2.machines.feasibility import Feasibility
from snakemake_executor_ec2.machines.host_keys import FirstKeys, HostKeys
from snakemake_executor_ec2.machines.launcher import Launcher
from snakemake_executor_ec2.machines.peers import Peers
from snakemake_executor_ec2.machines.session import MachineSession
from snakemake_executor_ec2.model import JobPlan, KeyPair, Market, Software
from snakemake_executor_ec2.ports import Clock, Cloud, ImageStore, Launches, LaunchRecords
from snakemake_executor_ec2.records.ledger import Ledger
from snakemake_executor_ec2.records.live import Live
from snakemake_executor_ec2.records.rows import RunRecord
from snakemake_executor_ec2.report import messages
from snakemake_executor_ec2.report.transfers import told_if_slow
from snakemake_executor_ec2.sizing.catalogue import Catalogue, Limits
from snakemake_executor_ec2.sizing.quotas import QuotaLimiter
from snakemake_executor_ec2.sizing.reuse import Reuse
from snakemake_executor_ec2.ssh.certificates import authority_line
from snakemake_executor_ec2.ssh.connector import SshConnector
from snakemake_executor_ec2.ssh.keys import load_key_pair, new_key_pair
from snakemake_executor_ec2.ssh.proxy import proxy_command


@dataclass(frozen=True, kw_only=True)
class Logins:
    """Keys that may log in to a run's machines: one that is made for it, and perhaps the user's own."""

    own: KeyPair = field(default_factory=new_key_pair)
    users: tuple[KeyPair, ...] = ()
    peers: KeyPair | None = None
    """Certifies keys by which machines log in to each other, for files. On no disk. None: they do not."""

    @classmethod
    def of(cls, config: RunConfig) -> Logins:
        """Raises ConfigurationError if the user's key cannot be read."""
        users = (load_key_pair(config.ssh_key),) if config.ssh_key else ()
        return cls(users=users, peers=new_key_pair() if config.peers else None)

    @property
    def authorized(self) -> tuple[str, ...]:
        """Their public halves."""
        return tuple(key.public for key in (self.own, *self.users, *([self.peers] if self.peers else [])))

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines of `authorized_keys`, for the machines."""
        peers = [authority_line(self.peers.public)] if self.peers else []
        return (*(key.public for key in (self.own, *self.users)), *peers)

    def connector(self, config: RunConfig) -> SshConnector:
        """The way to this run's machines."""
        return SshConnector(
            user=config.ssh_user,
            port=config.ssh_port,
            login_keys=(self.own, *self.users),
            proxy=proxy_command(config.ssh_proxy),
        )

    def connector_of(self, run: RunRecord, config: RunConfig) -> SshConnector:
        """The way to the machines of an earlier run, whose key the journal has kept: through this run's
        proxy command, if there is one, else through that run's."""
        kept = (run.login,) if run.login else ()
        return SshConnector(
            user=run.ssh_user,
            port=run.ssh_port,
            login_keys=(*kept, *self.users),
            proxy=proxy_command(config.ssh_proxy or run.ssh_proxy),
        )


def cloud(config: RunConfig, run_id: str, clock: Clock, warn: Callable[[str], None]) -> Ec2Cloud:
    """EC2 for a run, not asked for anything yet."""
    return Ec2Cloud(
        run_id=run_id,
        region=config.region,
        profile=config.profile,
        subnets=config.subnets,
        ssh_from=config.ssh_from,
        ssh_port=config.ssh_port,
        reached=Reached(
            private=config.ssh_to == "private", proxied=bool(config.ssh_proxy), public_ip=config.public_ip
        ),
        allowed_types=config.instance_types,
        cache_dir=default_directory(),
        clock=clock,
        warn=warn,
    )


def catalogue(config: RunConfig, cloud: Cloud) -> Catalogue:
    """The region's types and prices within the user's limits. Raises Ec2ExecutorError."""
    return Catalogue(
        cloud.instance_types(),
        zones=cloud.zones,
        prices=cloud.prices(Market.ON_DEMAND),
        spot_prices=lambda: cloud.prices(Market.SPOT),
        limits=Limits(
            exclude=config.exclude_types,
            free_tier=config.free_tier,
            max_usd_per_hour=config.max_usd_per_hour,
            by_default=config.price_limit_is_default,
        ),
        region=cloud.region,
    )


def feasibility(
    config: RunConfig,
    cloud: Cloud,
    clock: Clock,
    *,
    costs_usd: Callable[[], Mapping[str, float]] = dict,
    before_usd: Mapping[str, float],
    baked: BakedChoice | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Feasibility:
    """What may be launched: by the catalogue, the account's limits and the budget.

    `costs_usd` is what each of the run's machines has cost up to now, `before_usd` that of earlier
    runs which count towards the budget. Raises Ec2ExecutorError.
    """
    with told_if_slow(tell, messages.ASKING_FOR_TYPES):
        known = catalogue(config, cloud)
    return Feasibility(
        cloud=cloud,
        catalogue=known,
        budget=Budget(config.max_cost_usd, costs_usd, before_usd),
        limiter=QuotaLimiter(clock),
        ami=config.ami,
        baked=baked,
    )


def baked_choice(
    config: RunConfig, images: ImageStore, software: Software, clock: Clock, tell: Callable[[str], None]
) -> BakedChoice | None:
    """What looks for images that have a run's software; None if the user does not want them."""
    if not config.use_baked:
        return None
    return BakedChoice(
        find=images.find, software=software, ssh_user=config.ssh_user, now=clock.now, tell=tell
    )


def launcher(
    config: RunConfig,
    feasibility: Feasibility,
    logins: Logins,
    clock: Clock,
    *,
    records: LaunchRecords,
    run_id: str,
    folder: str,
    may_launch: Callable[[], None],
    make_room: Callable[[JobPlan], bool],
    tell: Callable[[str], None],
) -> Launcher:
    """What gets machines for a run; `folder` names its working directory in their tags."""
    return Launcher(
        feasibility=feasibility,
        records=records,
        clock=clock,
        run_id=run_id,
        owner=getpass.getuser(),
        ssh_user=config.ssh_user,
        authorized_keys=logins.lines,
        user_tags=config.tags,
        instance_profile=config.instance_profile,
        lifetime_s=config.lifetime_s,
        # The lease begins when the agent comes. A machine that boots slowly is waited for.
        claim_s=int(max(config.lease_s, config.boot_timeout_s)),
        lease_usd=config.lease_usd,
        folder=folder,
        tell=tell,
        capacity_timeout_s=config.capacity_timeout_s,
        may_launch=may_launch,
        make_room=make_room,
    )


def sessions(
    config: RunConfig,
    clock: Clock,
    host_keys: HostKeys,
    tell: Callable[[str], None],
    install_s: list[float],
    peers: Peers | None = None,
    live: Live | None = None,
) -> Callable[[Connection], MachineSession]:
    """Makes the session on each machine of a run; what one has worked out, the others know. `install_s` gets
    how long software took on each."""
    locks: dict[Software, Installed] = {}
    reuse = config.reuse is not Reuse.NEVER
    return lambda connection: MachineSession(
        connection,
        clock,
        tell,
        locks,
        host_keys,
        install_s,
        reuse=reuse,
        peers=peers,
        live=live,
        local_disks=config.local_disks,
    )


def peers(
    config: RunConfig, logins: Logins, cloud: Cloud, clock: Clock, tell: Callable[[str], None]
) -> Peers | None:
    """What lets a run's machines pass on large files; None if the user does not want it."""
    if logins.peers is None:
        return None
    return Peers(
        cloud=cloud,
        clock=clock,
        authority=logins.peers,
        user=config.ssh_user,
        port=config.ssh_port,
        tell=tell,
    )


def first_keys(config: RunConfig, clock: Clock, make: Callable[[], KeyPair]) -> Callable[[], KeyPair]:
    """Gives each new machine of a run the host key that is in its user-data."""
    return FirstKeys(first_is_enough=config.allow_first_host_key, clock=clock, make=make).take


def launch_guard(reachability: Reachability, host_keys: HostKeys) -> Callable[[], None]:
    """Raises an Ec2ExecutorError if another machine would be of no use."""

    def check() -> None:
        reachability.check()
        host_keys.check()

    return check


def lingering(
    config: RunConfig,
    logins: Logins,
    cloud: Cloud,
    clock: Clock,
    ledger: Ledger,
    launcher: Callable[[], Launches],
    tell: Callable[[str], None],
) -> Lingering:
    """The machines that stay for others, and what lets them pass on files."""
    passing = peers(config, logins, cloud, clock, tell)
    return Lingering(passing, config.idle_s, clock, ledger, launcher=launcher, tell=tell)
