"""EC2's rows as our `InstanceType`s."""

from __future__ import annotations

import json
from typing import Any

import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES

from snakemake_executor_ec2.aws.catalogue import from_json, instance_type, to_json
from snakemake_executor_ec2.model import Arch, InstanceType, Market


def of(name: str) -> InstanceType:
    found = instance_type(INSTANCE_TYPES[name])
    assert found is not None
    return found


def test_plain_type() -> None:
    """A plain type's figures are EC2's nominal ones."""
    assert of("m7i.large") == InstanceType(
        name="m7i.large",
        vcpus=2,
        mem_mib=8192,
        arches=frozenset({Arch.X86_64}),
        network_gbps=0.781,
        ebs_mbps=1250.0,
        markets=frozenset(Market),
    )


def test_a_part_of_a_gpu_counts_as_a_part() -> None:
    """g6f reports no GPU but a logical one: an eighth of an L4."""
    found = of("g6f.large")
    assert (found.gpus, found.gpu_model, found.gpu_fraction) == (1, "L4", 0.125)


def test_gpus() -> None:
    """Whole GPUs are counted, with their model and all their memory together."""
    found = of("g4dn.metal")
    assert (found.gpus, found.gpu_model, found.gpu_fraction, found.gpu_mem_mib) == (8, "T4", 1.0, 8 * 16384)
    assert found.bare_metal
    assert found.nvme_gb == 1800


@pytest.mark.parametrize(
    ("name", "gb"),
    [("m6id.large", 118), ("d3.xlarge", 0), ("c3.large", 0), ("m7i.large", 0), ("h1.2xlarge", 0)],
)
def test_local_disks(name: str, gb: int) -> None:
    """Solid-state NVMe disks count, not disks that spin and not the SCSI ones of old."""
    assert of(name).nvme_gb == gb


@pytest.mark.parametrize(
    "name", ["inf2.xlarge", "trn1.2xlarge", "vt1.3xlarge", "dl2q.24xlarge", "f2.6xlarge"]
)
def test_accelerators(name: str) -> None:
    """FPGAs, Inferentia, Trainium and media cards are accelerators, not GPUs."""
    assert of(name).accelerators
    assert of(name).gpus == 0


def test_burstable_free_tier_old_and_32_bit() -> None:
    """What AWS says of a type's kind is kept; 32 bits beside 64 don't matter."""
    assert of("t3.micro").burstable
    assert of("t3.micro").free_tier
    assert of("t2.micro").arches == {Arch.X86_64}
    assert not of("m3.large").current_generation


@pytest.mark.parametrize(
    "change",
    [
        {"ProcessorInfo": {"SupportedArchitectures": ["arm64_mac"]}},
        {"SupportedRootDeviceTypes": ["instance-store"]},
        {"SupportedVirtualizationTypes": ["paravirtual"]},
    ],
)
def test_what_cannot_run_our_images_is_left_out(change: dict[str, Any]) -> None:
    """macOS, instance-store-only and paravirtual types are not in the catalogue."""
    row: Any = {**INSTANCE_TYPES["m7i.large"], **change}
    assert instance_type(row) is None


def test_json_keeps_everything() -> None:
    """The disk cache gives back exactly what was stored."""
    types = tuple(row for row in map(instance_type, INSTANCE_TYPES.values()) if row is not None)
    assert len(types) > 1300
    assert from_json(json.loads(json.dumps(to_json(types)))) == types
