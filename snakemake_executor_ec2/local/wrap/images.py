"""Images: the root volume that Amazon Linux 2023 has, where moto's are of another size and type; and those
that are made of instances: they hold the instance's files."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moto.ec2.models.amis import Ami

from .backend import LOCK, backend, instances
from .calls import ApiError, Call, Response
from .patch import replace

if TYPE_CHECKING:
    from ..fleet import Fleet

AskMoto = Callable[[Call], Response]

_ROOT_GIB = 8
_NAME = re.compile(r"[A-Za-z0-9()\[\] ./'@_-]{3,128}")
_OF_THESE = ("running", "stopping", "stopped")


def install() -> None:
    """Correct moto."""
    replace(Ami, "block_device_mappings", property(_mappings))


def _mappings(self: Any) -> list[dict[str, Any]]:
    ebs = {
        "SnapshotId": self.ebs_snapshot.id,
        "VolumeSize": root_gib(self),
        "DeleteOnTermination": True,
        "VolumeType": "gp3",
        "Encrypted": self.ebs_snapshot.encrypted,
    }
    return [{"DeviceName": self.root_device_name, "Ebs": ebs}]


def root_gib(image: Any) -> int:
    """The size of the volume that its snapshot was made of: a machine's is no smaller."""
    return int(getattr(image, "own_root_gib", _ROOT_GIB))


class Images:
    """CreateImage and DeleteSnapshot, around moto's. Callers hold the backend's lock."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def create(self, call: Call, ask_moto: AskMoto) -> Response:
        """An image that is `pending` until the instance's disk is copied."""
        ec2 = backend(call.region)
        instance = _instance(call, ec2)
        _check_name(call, ec2)
        tags = {kind: dict(pairs) for kind, pairs in call.tag_specifications()}
        if set(tags) - {"image", "snapshot"}:
            raise ApiError("InvalidParameterValue", f"{[*tags]} is not a valid taggable resource type")
        reboots = not call.flag("NoReboot")
        # moto has none for snapshots.
        call.params = {
            name: value for name, value in call.params.items() if not name.startswith("TagSpecification.")
        }
        answer = ask_moto(call)
        found = re.search(r"<imageId>(ami-\w+)</imageId>", answer.body.decode())
        if answer.status != 200 or found is None:
            return answer
        image = ec2.amis[found[1]]
        _complete(image, instance, ec2)
        for resource, kind in ((image, "image"), (image.ebs_snapshot, "snapshot")):
            resource.add_tags(tags.get(kind, {}))
        self._fleet.make_image(
            instance.id, image.id, reboot=reboots, done=lambda wrong: _settle(image, wrong)
        )
        return answer

    def delete_snapshot(self, call: Call, ask_moto: AskMoto) -> Response:
        """The end of what an image held."""
        ec2 = backend(call.region)
        snapshot = ec2.snapshots.get(str(call.params.get("SnapshotId")))
        answer = ask_moto(call)
        if answer.status == 200 and snapshot is not None and snapshot.from_ami:
            self._fleet.forget_image(snapshot.from_ami)
        return answer


def check_launch(call: Call, image: Any) -> None:
    """Raises ApiError for an image that is not available, or that needs a larger volume."""
    if image.state != "available":
        raise ApiError("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is not available")
    number = 1
    while device := call.params.get(f"BlockDeviceMapping.{number}.DeviceName"):
        size = call.params.get(f"BlockDeviceMapping.{number}.Ebs.VolumeSize")
        if device == image.root_device_name and size is not None and int(size) < root_gib(image):
            raise ApiError(
                "InvalidBlockDeviceMapping",
                f"Volume of size {size}GB is smaller than snapshot '{image.ebs_snapshot.id}', expect size >= "
                f"{root_gib(image)}GB",
            )
        number += 1


def _instance(call: Call, ec2: Any) -> Any:
    name = str(call.params.get("InstanceId", ""))
    for each in instances(ec2):
        if each.id == name:
            if each.state not in _OF_THESE:
                raise ApiError(
                    "InvalidParameterValue",
                    f"Invalid value '{name}' for instanceId. Instance is not in state 'running' or "
                    "'stopping' or 'stopped'",
                )
            return each
    raise ApiError("InvalidInstanceID.NotFound", f"The instance ID '{name}' does not exist")


def _check_name(call: Call, ec2: Any) -> None:
    name = str(call.params.get("Name", ""))
    if not _NAME.fullmatch(name):
        raise ApiError(
            "InvalidAMIName.Malformed", f"AMI name {name!r} has characters or a length that are not"
        )
    for each in ec2.amis.values():
        if each.name == name and each.owner_id == ec2.account_id:
            raise ApiError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {each.id}")


def _complete(image: Any, instance: Any, ec2: Any) -> None:
    """What moto does not take from the instance."""
    source = ec2.amis.get(instance.image_id)
    image.root_device_type = "ebs"
    if source is not None:
        image.root_device_name = source.root_device_name
        image.hypervisor = source.hypervisor
    root = instance.block_device_mapping.get(image.root_device_name)
    volume = ec2.volumes.get(root.volume_id) if root is not None else None
    if volume is not None:
        image.own_root_gib = int(volume.size)
        image.ebs_snapshot.encrypted = bool(volume.encrypted)
    image.state, image.ebs_snapshot.status = "pending", "pending"


def _settle(image: Any, wrong: str) -> None:
    with LOCK:
        image.state, image.ebs_snapshot.status = ("failed", "error") if wrong else ("available", "completed")
        if wrong:
            image.description = wrong
