"""What a machine costs with its disk and address, and each of its jobs' share of that: estimates."""

from __future__ import annotations

from collections.abc import Sequence

from snakemake_executor_ec2.model import BASE_IOPS, BASE_MBPS, Machine, Price, WithDisk

MINIMUM_BILLED_S = 60.0
"""EC2 bills Linux machines by the second, the first minute in full."""
IPV4_USD_PER_HOUR = 0.005
"""Public IPv4 address. AWS, since February 2024, the same in all regions."""
GP3_USD_PER_GB_MONTH = 0.08
"""gp3 volume in us-east-1; other regions differ by up to a half."""
GP3_USD_PER_MBPS_MONTH = 0.04
"""For each MiB/s beyond the 125 that it has in its price, there."""
GP3_USD_PER_IOPS_MONTH = 0.005
"""For each operation a second beyond 3,000, there."""
SNAPSHOT_USD_PER_GB_MONTH = 0.05
"""EBS snapshot, standard tier, in us-east-1 (AWS's page of EBS prices); other regions differ."""
HOURS_PER_MONTH = 730.0


def cost_usd(machine: Machine, seconds: float) -> float | None:
    """Estimated cost of a machine with its disk and address for a time; None without a price.

    The time counts from the launch call: `pending` is not billed, so this is an upper bound.
    Traffic out of EC2 ($0.09 per GB after the 100 GB a month that are free) is not included.
    """
    if machine.price is None:
        return None
    return max(seconds, MINIMUM_BILLED_S) / 3600 * usd_per_hour(machine.price, machine)


def usd_per_hour(price: Price, disk: WithDisk) -> float:
    """What an hour of a machine costs with its disk and address."""
    return price.usd_per_hour + IPV4_USD_PER_HOUR + disk_usd_per_hour(disk)


def disk_usd_per_hour(disk: WithDisk) -> float:
    """What an hour of a volume costs with its throughput and IOPS."""
    size = disk.disk_gib * GP3_USD_PER_GB_MONTH
    throughput = (disk.disk_mbps - BASE_MBPS) * GP3_USD_PER_MBPS_MONTH
    operations = (disk.disk_iops - BASE_IOPS) * GP3_USD_PER_IOPS_MONTH
    return (size + throughput + operations) / HOURS_PER_MONTH


def image_usd_per_month(gib: float) -> float:
    """The most that an image's snapshots cost a month: only blocks that hold data are billed, and what a
    later snapshot of the same volume shares with an earlier one is billed once."""
    return gib * SNAPSHOT_USD_PER_GB_MONTH


def shares(total_s: float, own_s: Sequence[float]) -> list[float]:
    """Which part of a machine's cost is each of its jobs', of one in all; none without a job.

    To a job belongs the time in which the machine worked for it. All else (its boot, waiting, its end) is
    split evenly.
    """
    rest_s = max(0.0, total_s - sum(own_s))
    parts = [each + rest_s / len(own_s) for each in own_s]
    together = sum(parts)
    return [each / together if together else 1 / len(parts) for each in parts]
