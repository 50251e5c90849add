"""How much of a machine's memory a job can use. Pure.

EC2 states nominal memory; firmware, the hypervisor and the kernel take their part before
anything runs: t3.micro loses 103 of its 1024 MiB, m5.large 559 of 8192, c5.18xlarge 6727 of
147456 (measured by Karpenter). The rule below stays under every figure of that table.
"""

from __future__ import annotations

USABLE_PERCENT = 95
BOOT_LOSS_MIB = 256
"""What the kernel and firmware take whatever the size."""
RESERVED_MIB = 300
"""For the operating system, the agent and Snakemake on the machine."""

_BYTES_PER_MIB = 2**20
_BYTES_PER_MB = 10**6


def usable_mib(nominal_mib: int) -> int:
    """What the machine's own `free` shows at the least, for EC2's nominal MiB. Never negative."""
    return max(0, nominal_mib * USABLE_PERCENT // 100 - BOOT_LOSS_MIB)


def job_mb(nominal_mib: int) -> int:
    """The largest `mem_mb` (10^6 bytes) of a job that fits a machine. Never negative."""
    return max(0, (usable_mib(nominal_mib) - RESERVED_MIB) * _BYTES_PER_MIB // _BYTES_PER_MB)


def gpu_mb(total_mib: int, gpus: int) -> int:
    """The memory (10^6 bytes) of each of a machine's GPUs. EC2 cuts fractions of a MiB off, which is
    put back: a GPU that is sold as 24 GB is listed as 22888 MiB and has 24000 MB."""
    return -(-total_mib // max(1, gpus) * _BYTES_PER_MIB // _BYTES_PER_MB)
