"""Images: the root volume that Amazon Linux 2023 has, where moto's are of another size and type."""

from __future__ import annotations

from typing import Any

from moto.ec2.models.amis import Ami

from .patch import replace

_ROOT_GIB = 8


def install() -> None:
    """Correct moto."""
    replace(Ami, "block_device_mappings", property(_mappings))


def _mappings(self: Any) -> list[dict[str, Any]]:
    ebs = {
        "SnapshotId": self.ebs_snapshot.id,
        "VolumeSize": _ROOT_GIB,
        "DeleteOnTermination": True,
        "VolumeType": "gp3",
        "Encrypted": False,
    }
    return [{"DeviceName": self.root_device_name, "Ebs": ebs}]
