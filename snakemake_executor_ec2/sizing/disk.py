"""How large and how fast a machine's root volume is made."""

from __future__ import annotations

import math

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import BASE_IOPS, BASE_MBPS, Image, Offer, Requirements, WithDisk
from snakemake_executor_ec2.sizing.cost import GP3_USD_PER_MBPS_MONTH, HOURS_PER_MONTH

SOFTWARE_GIB = 4
"""Room on the root volume for Snakemake, a Python and what a job's environment adds."""
MIN_ROOT_GIB = 8
MAX_ROOT_GIB = 65_536
"""gp3's largest volume: 64 TiB (AWS, since September 2025; 16 TiB before)."""
MOST_MBPS, MOST_IOPS = 2000, 80_000
"""gp3's limits (EC2's API, since September 2025; 1,000 and 16,000 before)."""
IOPS_PER_MBPS = 4
"""EC2 gives at most 0.25 MiB/s for each IOPS."""
IOPS_PER_GIB = 500

READ_WITHIN_S = 60.0
"""Unless somebody says otherwise, a volume is fast enough to read a job's inputs in this time,"""
MOST_BY_ITSELF_MBPS = 750
"""but no faster than the IOPS allow that are in its price,"""
MOST_OF_THE_PRICE = 0.1
"""and for at most this part of what its machine costs, …"""
STEP_MBPS = 125
"""… in so large steps that jobs with inputs of about the same size want the same machine."""
_MIB_PER_MB = 10**6 / 2**20


def check_speed(mbps: int, iops: int) -> None:
    """Raise ConfigurationError for a throughput and IOPS that EC2 gives no volume; 0: nobody asks for any."""
    for name, value, least, most in (
        ("ec2_disk_mbps", mbps, BASE_MBPS, MOST_MBPS),
        ("ec2_disk_iops", iops, BASE_IOPS, MOST_IOPS),
    ):
        if value and not least <= value <= most:
            raise ConfigurationError(f"{name}={value}: EC2's gp3 volumes have {least} to {most}")
    if mbps and iops and mbps * IOPS_PER_MBPS > iops:
        raise ConfigurationError(
            f"ec2_disk_mbps={mbps} needs ec2_disk_iops={mbps * IOPS_PER_MBPS} or more, not {iops}: "
            f"EC2 gives at most 1 MiB/s for every {IOPS_PER_MBPS} IOPS"
        )


def disk_gib(requirements: Requirements, image: Image) -> int:
    """The root volume's size in GiB: the image, the software, and the job's `disk_mb`."""
    job_gib = requirements.disk_mb * 10**6 / 2**30
    software_gib = 0 if image.has_software else SOFTWARE_GIB
    size = max(MIN_ROOT_GIB, math.ceil(image.root_gib + software_gib + job_gib))
    if size > MAX_ROOT_GIB:
        raise ConfigurationError(
            f"needs disk_mb={requirements.disk_mb}; the largest EBS volume has "
            f"{MAX_ROOT_GIB} GiB, the image and its software included"
        )
    return size


def volume(requirements: Requirements, image: Image, offer: Offer) -> WithDisk:
    """The root volume of a machine for a job. Raises ConfigurationError for one that EC2 would refuse."""
    gib = disk_gib(requirements, image)
    mbps = requirements.disk_mbps or _mbps_for(requirements, offer)
    iops = requirements.disk_iops or max(BASE_IOPS, IOPS_PER_MBPS * mbps)
    if iops > IOPS_PER_GIB * gib:
        more_mb = math.ceil((iops / IOPS_PER_GIB - gib) * 2**30 / 10**6)
        raise ConfigurationError(
            f"needs a disk with {iops} IOPS, and its disk has {gib} GiB: EC2 gives at most {IOPS_PER_GIB} "
            f"IOPS a GiB; ask for disk_mb={requirements.disk_mb + more_mb} or more"
        )
    return WithDisk(disk_gib=gib, disk_mbps=mbps, disk_iops=iops)


def _mbps_for(requirements: Requirements, offer: Offer) -> int:
    """What suits a job's inputs and its machine if nobody asks for a throughput, in MiB/s."""
    if offer.price is None or requirements.nvme_gb:  # then its files are on the local disks
        return BASE_MBPS
    paid_usd_per_month = MOST_OF_THE_PRICE * offer.price.usd_per_hour * HOURS_PER_MONTH
    wanted = math.ceil(requirements.staged_mib / READ_WITHIN_S / STEP_MBPS) * STEP_MBPS
    usable = offer.instance_type.ebs_mbps * _MIB_PER_MB
    affordable = BASE_MBPS + paid_usd_per_month / GP3_USD_PER_MBPS_MONTH
    most = min(wanted, usable, affordable, MOST_BY_ITSELF_MBPS)
    return max(BASE_MBPS, int(most // STEP_MBPS) * STEP_MBPS)
