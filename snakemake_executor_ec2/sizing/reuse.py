"""Whether a machine that has done one job is used for another one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from snakemake_executor_ec2.model import InstanceType, Machine, Market, Offer, Requirements, SpotUse
from snakemake_executor_ec2.sizing import expected
from snakemake_executor_ec2.sizing.dimensions import needed, offered

NEW_MACHINE_S = 75.0
"""What a new machine costs beyond its job: a boot of 25 s and 49 s of software on Amazon Linux 2023, measured
in virtual machines. A machine that is dearer by no more than that is not wasted on a job."""
MARGIN_S = 3600.0
"""How long a machine must live on beyond its next job's `runtime`, for software and files; half of its
lifetime if that is shorter."""


class Reuse(StrEnum):
    """For how long a machine gets one job after the other."""

    NEVER = "never"
    """It ends with its first job."""
    RULE = "rule"
    """While there are jobs of its rule."""
    RUN = "run"
    """While there are jobs that fit on it."""


@dataclass(frozen=True, kw_only=True)
class Used:
    """A machine that has done a job, and is clean."""

    machine: Machine
    type: InstanceType
    launched_for: Requirements
    rule: str
    """Of its last job."""
    free_mib: int
    """Of its disk."""
    ends_at: float
    """When it ends in any case, in seconds since the epoch."""
    ahead: bool = False
    """It has done no job yet: it was launched ahead of one."""


def fits(used: Used, wanted: Requirements, fresh: Offer, now: float) -> bool:
    """Whether a job may run there. `fresh` is the best offer for it: a machine that costs much more is not
    used, however idle it is."""
    first = used.launched_for
    same_image = (wanted.ami, wanted.arch, wanted.gpus > 0) == (first.ami, first.arch, first.gpus > 0)
    # The files of a machine's first job are where those of the others will be.
    same_image = same_image and not (wanted.nvme_gb and not first.nvme_gb)
    same_gpu = wanted.gpu_model in (None, first.gpu_model)
    large = all(have >= need for have, need in zip(offered(used.type), needed(wanted), strict=True))
    quick = used.machine.disk_mbps >= wanted.disk_mbps and used.machine.disk_iops >= wanted.disk_iops
    room = used.free_mib * 2**20 >= wanted.disk_mb * 10**6
    margin_s = min(MARGIN_S, (used.ends_at - used.machine.launched_at) / 2)
    time = used.ends_at - now >= (wanted.runtime_min or 0) * 60 + margin_s
    market = wanted.spot is not (SpotUse.NEVER if used.machine.market is Market.SPOT else SpotUse.ONLY)
    usual = same_image and same_gpu and large and quick and room and time and market
    # EC2 had none that is cheaper when it was launched for just such a job.
    is_made_for_it = used.ahead and wanted == first
    return usual and _is_allowed(used, wanted) and (is_made_for_it or _is_worth_it(used, wanted, fresh))


def _is_allowed(used: Used, wanted: Requirements) -> bool:
    """The rule's own choice of types; without one, that of all rules, which its own launch has kept to."""
    if wanted.instance_types == used.launched_for.instance_types:
        return True
    return any(fnmatchcase(used.type.name, pattern) for pattern in wanted.instance_types)


def _is_worth_it(used: Used, wanted: Requirements, fresh: Offer) -> bool:
    price = used.machine.price
    if price is None or fresh.price is None:
        return used.type.name == fresh.instance_type.name
    hours = expected.hours(wanted.runtime_min)
    new_usd = fresh.price.usd_per_hour * (hours + NEW_MACHINE_S / 3600)
    return price.usd_per_hour * hours <= new_usd
