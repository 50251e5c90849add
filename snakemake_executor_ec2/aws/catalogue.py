"""EC2's catalogue: instance types and the zones that offer them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from snakemake_executor_ec2.model import Arch, InstanceType, Market

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import GpuInfoTypeDef, InstanceStorageInfoTypeDef, InstanceTypeInfoTypeDef

LocationKind = Literal["availability-zone", "availability-zone-id"]

_ACCELERATORS = (
    "FpgaInfo",
    "InferenceAcceleratorInfo",
    "NeuronInfo",
    "MediaAcceleratorInfo",
)
_ARCHES = {each.value: each for each in Arch}
_MARKETS = {each.value: each for each in Market}


def fetch_instance_types(ec2: EC2Client) -> tuple[InstanceType, ...]:
    """Every type of the region that Linux machines with EBS root volumes can be made of."""
    pages = ec2.get_paginator("describe_instance_types").paginate()
    rows = (instance_type(row) for page in pages for row in page["InstanceTypes"])
    return tuple(sorted((row for row in rows if row is not None), key=lambda row: row.name))


def fetch_offerings(ec2: EC2Client, kind: LocationKind) -> dict[str, tuple[str, ...]]:
    """For each type's name, the zones (names or ids) that offer it.

    Zone ids are the same for every account, which zone names are not.
    """
    found: dict[str, list[str]] = {}
    pages = ec2.get_paginator("describe_instance_type_offerings").paginate(LocationType=kind)
    for page in pages:
        for row in page["InstanceTypeOfferings"]:
            found.setdefault(row["InstanceType"], []).append(row["Location"])
    return {name: tuple(sorted(zones)) for name, zones in found.items()}


def instance_type(row: InstanceTypeInfoTypeDef) -> InstanceType | None:
    """One row of DescribeInstanceTypes; None if our images could not run on it (32 bit, macOS,
    no EBS root volume, paravirtual only)."""
    arches = frozenset(
        _ARCHES[each]
        for each in row.get("ProcessorInfo", {}).get("SupportedArchitectures", [])
        if each in _ARCHES
    )
    roots = row.get("SupportedRootDeviceTypes", ["ebs"])
    virtualization = row.get("SupportedVirtualizationTypes", ["hvm"])
    if not arches or "ebs" not in roots or "hvm" not in virtualization:
        return None
    gpus, gpu_model, gpu_fraction = _gpus(row.get("GpuInfo", {}))
    return InstanceType(
        name=row["InstanceType"],
        vcpus=row["VCpuInfo"]["DefaultVCpus"],
        mem_mib=row["MemoryInfo"]["SizeInMiB"],
        arches=arches,
        gpus=gpus,
        gpu_model=gpu_model,
        gpu_mem_mib=row.get("GpuInfo", {}).get("TotalGpuMemoryInMiB", 0),
        gpu_fraction=gpu_fraction,
        nvme_gb=_nvme_gb(row.get("InstanceStorageInfo", {})),
        network_gbps=sum(
            card.get("BaselineBandwidthInGbps", 0.0)
            for card in row.get("NetworkInfo", {}).get("NetworkCards", [])
        ),
        ebs_mbps=float(row.get("EbsInfo", {}).get("EbsOptimizedInfo", {}).get("MaximumThroughputInMBps", 0)),
        burstable=row.get("BurstablePerformanceSupported", False),
        bare_metal=row.get("BareMetal", False),
        current_generation=row.get("CurrentGeneration", True),
        free_tier=row.get("FreeTierEligible", False),
        markets=frozenset(
            _MARKETS[each] for each in row.get("SupportedUsageClasses", ["on-demand"]) if each in _MARKETS
        ),
        accelerators=any(row.get(each) for each in _ACCELERATORS),
    )


def _gpus(info: GpuInfoTypeDef) -> tuple[int, str, float]:
    """Count, model and fraction. A part of a GPU has Count=0 and a LogicalGpuCount: g6f, gr6f."""
    count, fraction, models = 0, 1.0, []
    for each in info.get("Gpus", []):
        here = each.get("Count", 0) or int(each.get("LogicalGpuCount", 0))
        if here:
            count += here
            fraction = min(fraction, each.get("GpuPartitionSize", 1.0) or 1.0)
            models.append(each.get("Name", ""))
    return count, ", ".join(dict.fromkeys(model for model in models if model)), fraction


def _nvme_gb(info: InstanceStorageInfoTypeDef) -> int:
    """Solid-state NVMe disks only: d3's are NVMe and spin, m3's are solid-state and no NVMe."""
    if info.get("NvmeSupport", "unsupported") == "unsupported":
        return 0
    disks = info.get("Disks", [])
    return sum(each.get("Count", 1) * each.get("SizeInGB", 0) for each in disks if each.get("Type") == "ssd")


def to_json(types: Iterable[InstanceType]) -> list[dict[str, Any]]:
    """For the disk cache."""
    return [{**vars(each), "arches": sorted(each.arches), "markets": sorted(each.markets)} for each in types]


def from_json(rows: Iterable[Mapping[str, Any]]) -> tuple[InstanceType, ...]:
    """What `to_json` wrote. Raises TypeError, KeyError or ValueError for anything else."""
    return tuple(
        InstanceType(
            **{
                **row,
                "arches": frozenset(Arch(each) for each in row["arches"]),
                "markets": frozenset(Market(each) for each in row["markets"]),
            }
        )
        for row in rows
    )
