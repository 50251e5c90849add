"""Images that are made of instances, as EC2 has them: what they hold, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.unit.local.conftest import Machine, Rig, wait_for

_TAGS = [{"Key": "made-by", "Value": "a test"}]
_SPECIFICATIONS: Any = [{"ResourceType": kind, "Tags": _TAGS} for kind in ("image", "snapshot")]


def _image(rig: Rig, machine: Machine, name: str, **options: Any) -> str:
    made = rig.ec2.create_image(
        InstanceId=machine.id, Name=name, TagSpecifications=_SPECIFICATIONS, **options
    )
    return made["ImageId"]


def _described(rig: Rig, image: str) -> Any:
    return rig.ec2.describe_images(ImageIds=[image])["Images"][0]


def _available(rig: Rig, image: str) -> Any:
    wait_for(lambda: _described(rig, image)["State"] == "available")
    return _described(rig, image)


def _delete(rig: Rig, row: Any) -> None:
    rig.ec2.deregister_image(ImageId=row["ImageId"])
    for each in row["BlockDeviceMappings"]:
        rig.ec2.delete_snapshot(SnapshotId=each["Ebs"]["SnapshotId"])


def _code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_a_machine_of_an_image_has_the_files_of_the_instance(rig: Rig) -> None:
    """Those of its user and of the system, what was deleted and whom it lets in; its first boot is a first
    boot all the same. The image is pending for a while, and the instance is rebooted."""
    machine = rig.launch()
    machine.run("echo mine > ~/file; mkdir ~/folder; ln -s ../file ~/folder/link")
    machine.run("sudo sh -c 'echo a > /usr/local/file; echo b > /etc/file; echo c > /var/lib/file'")
    machine.run("sudo rm /etc/group; (sleep 60 & echo $! > ~/pid) > /dev/null 2>&1; touch ~/ready")

    image = _image(rig, machine, "holds files")
    assert _described(rig, image)["State"] == "pending"
    with pytest.raises(ClientError) as unavailable:
        rig.launch(ImageId=image)
    row = _available(rig, image)

    assert row["Tags"] == _TAGS
    (volume,) = row["BlockDeviceMappings"]
    (snapshot,) = rig.ec2.describe_snapshots(SnapshotIds=[volume["Ebs"]["SnapshotId"]])["Snapshots"]
    assert (snapshot["State"], snapshot["Tags"]) == ("completed", _TAGS)
    assert _code(unavailable) == "InvalidAMIID.Unavailable"
    machine.login()
    assert "rebooted" in machine.run("kill -0 $(cat ~/pid) || echo rebooted", check=False)
    rig.ec2.terminate_instances(InstanceIds=[machine.id])
    machine.wait_until("terminated")
    other = rig.launch(ImageId=image)
    assert other.run("cat ~/file ~/folder/link /usr/local/file /etc/file /var/lib/file").split() == [
        "mine", "mine", "a", "b", "c",
    ]  # fmt: skip
    assert other.run("test -e /etc/group || echo gone").strip() == "gone"
    keys = other.run("cat ~/.ssh/authorized_keys")
    assert machine.login_key.public in keys
    assert other.login_key.public in keys
    _delete(rig, row)


def test_what_ec2_refuses(rig: Rig) -> None:
    """An image of a terminated instance, one with a name that is taken, a volume smaller than the image's,
    and the end of a snapshot that an image needs."""
    machine = rig.launch()
    machine.login()
    image = _image(rig, machine, "taken", NoReboot=True)
    row = _available(rig, image)
    assert machine.run("echo still here").strip() == "still here"
    (volume,) = row["BlockDeviceMappings"]
    with pytest.raises(ClientError) as duplicate:
        _image(rig, machine, "taken")
    with pytest.raises(ClientError) as in_use:
        rig.ec2.delete_snapshot(SnapshotId=volume["Ebs"]["SnapshotId"])
    small = [{"DeviceName": volume["DeviceName"], "Ebs": {"VolumeSize": volume["Ebs"]["VolumeSize"] - 1}}]
    with pytest.raises(ClientError) as too_small:
        rig.launch(ImageId=image, BlockDeviceMappings=small)
    _delete(rig, row)
    with pytest.raises(ClientError) as deleted:
        rig.launch(ImageId=image)
    rig.ec2.terminate_instances(InstanceIds=[machine.id])
    machine.wait_until("terminated")
    with pytest.raises(ClientError) as ended:
        _image(rig, machine, "too late")

    assert [_code(each) for each in (duplicate, in_use, too_small, ended)] == [
        "InvalidAMIName.Duplicate",
        "InvalidSnapshot.InUse",
        "InvalidBlockDeviceMapping",
        "InvalidParameterValue",
    ]
    assert _code(deleted).startswith("InvalidAMIID")
