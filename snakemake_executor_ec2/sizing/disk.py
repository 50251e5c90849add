"""How large a machine's root volume is made."""

from __future__ import annotations

import math

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Image, Requirements

SOFTWARE_GIB = 4
"""Room on the root volume for Snakemake, a Python and what a job's environment adds."""
MIN_ROOT_GIB = 8
MAX_ROOT_GIB = 65_536
"""gp3's largest volume: 64 TiB (AWS, since September 2025; 16 TiB before)."""


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
