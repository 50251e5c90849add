"""What a machine has enough of or not: one row for each resource that is a number. Pure.

A resource that sizes machines is added here; its name in rules is parsed in `requirements.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter

from snakemake_executor_ec2.model import InstanceType, Requirements
from snakemake_executor_ec2.sizing.memory import gpu_mb, job_mb

DEFAULT_MEM_MB = 1000
"""Of a job whose rule says nothing."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """A resource of a job beside what a type has of it."""

    resource: str
    """Its name in a rule."""
    needed: str
    """The field of `Requirements` that holds what a job needs."""
    offered: Callable[[InstanceType], float]
    unit: str
    """What the numbers count."""
    phrase: str
    """What a job needs, for people; `{}` is the number."""
    ordinary: float = 0
    """A job that needs no more has not asked for it, and every type that suits has it."""
    special: bool = False
    """Few types have it."""
    least: Mapping[str, object] = field(default_factory=dict)
    """Fields of requirements that do not ask for it."""

    def need(self, wanted: Requirements) -> float:
        need: float = getattr(wanted, self.needed)
        return need

    def is_asked_for(self, wanted: Requirements) -> bool:
        return self.need(wanted) > self.ordinary

    def without(self, wanted: Requirements) -> Requirements:
        """The same requirements but for this."""
        return replace(wanted, **self.least)  # type: ignore[arg-type]

    def setting(self, wanted: Requirements) -> str:
        """As a rule would have it: `mem_mb=8000`."""
        return f"{self.resource}={plain(self.need(wanted))}"


DIMENSIONS = (
    Dimension(
        resource="threads",
        needed="threads",
        offered=lambda each: each.vcpus,
        unit="vCPUs",
        phrase="{} threads",
        ordinary=1,
        least={"threads": 1},
    ),
    Dimension(
        resource="mem_mb",
        needed="mem_mb",
        offered=lambda each: job_mb(each.mem_mib),
        unit="MB that a job can use",
        phrase="{} MB",
        ordinary=DEFAULT_MEM_MB,
        least={"mem_mb": 1},
    ),
    Dimension(
        resource="gpu",
        needed="gpus",
        offered=lambda each: each.gpus,
        unit="GPUs",
        phrase="{} GPUs",
        special=True,
        least={"gpus": 0, "gpu_model": None, "gpu_mem_mb": 0},
    ),
    Dimension(
        resource="gpu_mem_mb",
        needed="gpu_mem_mb",
        offered=lambda each: gpu_mb(each.gpu_mem_mib, each.gpus),
        unit="MB on each GPU",
        phrase="{} MB on each GPU",
        special=True,
        least={"gpu_mem_mb": 0},
    ),
    Dimension(
        resource="ec2_nvme_gb",
        needed="nvme_gb",
        offered=lambda each: each.nvme_gb,
        unit="GB of local NVMe",
        phrase="{} GB of NVMe",
        special=True,
        least={"nvme_gb": 0},
    ),
    Dimension(
        resource="ec2_network_gbps",
        needed="network_gbps",
        offered=lambda each: each.network_gbps,
        unit="Gbit/s",
        phrase="{} Gbit/s",
        special=True,
        least={"network_gbps": 0.0},
    ),
    Dimension(
        resource="ec2_disk_mbps",
        needed="disk_mbps",
        # Of most types the most for half an hour a day at least, which is longer than most jobs read.
        offered=lambda each: int(each.ebs_mbps * 10**6 / 2**20) or math.inf,
        unit="MiB/s of EBS",
        phrase="{} MiB/s of disk",
        special=True,
        least={"disk_mbps": 0},
    ),
)

Figures = tuple[float, ...]
"""A number for each dimension, in their order."""

needed: Callable[[Requirements], Figures] = attrgetter(*(each.needed for each in DIMENSIONS))
"""What a job needs."""


def offered(instance_type: InstanceType) -> Figures:
    """What a type has."""
    return tuple(each.offered(instance_type) for each in DIMENSIONS)


def in_words(wanted: Requirements) -> str:
    """What a job needs, for people: `2 threads, 8000 MB, 1 GPU (L4)`."""
    parts = []
    for each in DIMENSIONS:
        number = each.need(wanted)
        if not number:
            continue
        text = each.phrase.format(plain(number))
        text = text.removesuffix("s") if number == 1 and text.endswith(("threads", "GPUs")) else text
        model = f" ({wanted.gpu_model})" if each.resource == "gpu" and wanted.gpu_model else ""
        parts.append(text + model)
    return ", ".join(parts)


def plain(number: float) -> str:
    """Without an exponent and without zeros that say nothing."""
    return str(number) if isinstance(number, int) else f"{number:.3f}".rstrip("0").rstrip(".")
