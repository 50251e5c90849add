"""moto's instance types, with what the other corrections want to know of them."""

from __future__ import annotations

from functools import cache
from typing import Any

from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES


def type_info(name: str) -> dict[str, Any] | None:
    """What DescribeInstanceTypes says of a type; None for one that there is not."""
    found: dict[str, Any] | None = INSTANCE_TYPES.get(name)
    return found


def vcpus(name: str) -> int:
    """0 for a type that there is not."""
    info = type_info(name)
    return int(info["VCpuInfo"]["DefaultVCpus"]) if info else 0


def architectures(name: str) -> list[str]:
    info = type_info(name)
    return list(info["ProcessorInfo"]["SupportedArchitectures"]) if info else []


@cache
def zones_of(region: str) -> dict[str, frozenset[str]]:
    """Type → the zones of the region that offer it."""
    found: dict[str, set[str]] = {}
    for offering in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, []):
        found.setdefault(offering["InstanceType"], set()).add(offering["Location"])
    return {name: frozenset(zones) for name, zones in found.items()}


def is_spot_offered(name: str) -> bool:
    info = type_info(name)
    return info is not None and "spot" in info.get("SupportedUsageClasses", [])
