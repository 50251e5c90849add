"""`Ec2Images`: the port `ImageStore`, over boto3. It sees only images that carry our tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from snakemake_executor_ec2.aws.errors import AWS_ERRORS, code_of, translate
from snakemake_executor_ec2.aws.images import image_of
from snakemake_executor_ec2.errors import CloudError, ConfigurationError
from snakemake_executor_ec2.ports import BakedImage, Clock
from snakemake_executor_ec2.tags import BASE_TAG, HOLDS_TAG, OWNER_TAG, SOFTWARE_TAG
from snakemake_executor_ec2.timing import Backoff

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import ImageTypeDef

    from snakemake_executor_ec2.aws.clients import Clients

SNAPSHOT_S = 60.0
"""How long EC2 may say that a snapshot is in use, after its image is gone."""
_ARCHES = ("x86_64", "arm64")
_ALLOWED = "DryRunOperation"
_NAME_TAKEN = "InvalidAMIName.Duplicate"
_NO_SUCH_IMAGE = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable")
_NO_SUCH_SNAPSHOT = "InvalidSnapshot.NotFound"
_IN_USE = "InvalidSnapshot.InUse"
_DESCRIBE = "ec2:DescribeImages"
_CREATE = "ec2:CreateImage"


class Ec2Images:
    """Made without any I/O; threads may share it."""

    def __init__(self, clients: Clients, clock: Clock) -> None:
        self._clients = clients
        self._clock = clock

    @property
    def region(self) -> str:
        """See `Clients.region`."""
        return self._clients.region

    def find(self, digest: str | None = None) -> tuple[BakedImage, ...]:
        """See `ImageStore.find`."""
        if digest is None:
            return self._find({"Name": "tag-key", "Values": [SOFTWARE_TAG]})
        return self._find({"Name": f"tag:{SOFTWARE_TAG}", "Values": [digest]})

    def check(self, machine_id: str, *, name: str, tags: Mapping[str, str]) -> None:
        """See `ImageStore.check`."""
        try:
            self._clients.ec2.create_image(**_request(machine_id, name, tags), DryRun=True)
        except AWS_ERRORS as error:
            if code_of(error) != _ALLOWED:
                raise translate(error, _CREATE) from error

    def make(self, machine_id: str, *, name: str, tags: Mapping[str, str]) -> str:
        """See `ImageStore.make`."""
        try:
            return self._clients.ec2.create_image(**_request(machine_id, name, tags))["ImageId"]
        except AWS_ERRORS as error:
            if code_of(error) == _NAME_TAKEN:
                # An answer that was lost, perhaps: botocore has asked again.
                for each in self._find({"Name": "name", "Values": [name]}):
                    return each.image.ami
            raise translate(error, _CREATE) from error

    def state(self, ami: str) -> tuple[str, str]:
        """See `ImageStore.state`."""
        try:
            found = self._clients.ec2.describe_images(ImageIds=[ami])["Images"]
        except ClientError as error:
            if code_of(error) not in _NO_SUCH_IMAGE:
                raise translate(error, _DESCRIBE) from error
            found = []
        except AWS_ERRORS as error:
            raise translate(error, _DESCRIBE) from error
        if not found:
            return "unknown", ""
        return found[0]["State"], found[0].get("StateReason", {}).get("Message", "")

    def delete(self, ami: str) -> None:
        """See `ImageStore.delete`. Machines that started from it are not concerned."""
        found = self._find({"Name": "image-id", "Values": [ami]})
        if not found:
            raise ConfigurationError(
                f"{ami} is no image of `snakemake-ec2 bake` in {self.region} that your account has"
            )
        try:
            self._clients.ec2.deregister_image(ImageId=ami)
        except AWS_ERRORS as error:
            if code_of(error) not in _NO_SUCH_IMAGE:
                raise translate(error, "ec2:DeregisterImage") from error
        refusals = {name: self._delete_snapshot(name) for name in found[0].snapshots}
        left = {name: refusal for name, refusal in refusals.items() if refusal}
        if left:
            first = next(iter(left.values()))
            raise CloudError(
                f"the image {ami} is deleted, but not its snapshot, which still costs money: "
                f"{', '.join(left)} ({first.message})",
                code=first.code,
            )

    # --- helpers ------------------------------------------------------------------------------

    def _find(self, filter_: Mapping[str, Any]) -> tuple[BakedImage, ...]:
        ours = {"Name": "tag-key", "Values": [SOFTWARE_TAG]}
        filters: list[Any] = [filter_] if filter_ == ours else [filter_, ours]
        try:
            pages = self._clients.ec2.get_paginator("describe_images").paginate(
                Owners=["self"], Filters=filters
            )
            rows = [row for page in pages for row in page["Images"]]
        except AWS_ERRORS as error:
            raise translate(error, _DESCRIBE) from error
        found = [_baked(row) for row in rows if row.get("Architecture") in _ARCHES]
        return tuple(sorted(found, key=lambda each: (-each.made_at, each.image.ami)))

    def _delete_snapshot(self, name: str) -> CloudError | None:
        """Delete a snapshot; why it could not be."""
        patience = Backoff(self._clock, total_s=SNAPSHOT_S, first_s=1.0, most_s=5.0)
        while True:
            try:
                self._clients.ec2.delete_snapshot(SnapshotId=name)
            except AWS_ERRORS as error:
                if code_of(error) == _NO_SUCH_SNAPSHOT:
                    return None
                if code_of(error) == _IN_USE and patience.pause():
                    continue
                told = translate(error, "ec2:DeleteSnapshot")
                return told if isinstance(told, CloudError) else CloudError(told.message)
            return None


def _request(machine_id: str, name: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Keyword arguments for boto3's `create_image`. With a reboot, which is its default: of a running system
    EC2 does not promise a file system that is whole."""
    rows = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
    return {
        "InstanceId": machine_id,
        "Name": name,
        "TagSpecifications": [{"ResourceType": what, "Tags": rows} for what in ("image", "snapshot")],
    }


def _baked(row: ImageTypeDef) -> BakedImage:
    tags = {each.get("Key", ""): each.get("Value", "") for each in row.get("Tags", ())}
    base, _, base_name = tags.get(BASE_TAG, "").partition(" ")
    volumes: Sequence[Any] = [each["Ebs"] for each in row.get("BlockDeviceMappings", ()) if "Ebs" in each]
    return BakedImage(
        image=image_of(row),
        digest=tags.get(SOFTWARE_TAG, ""),
        state=row.get("State", ""),
        base=base,
        base_name=base_name,
        holds=tags.get(HOLDS_TAG, ""),
        owner=tags.get(OWNER_TAG, ""),
        made_at=datetime.fromisoformat(row["CreationDate"]).timestamp(),
        gib=sum(each.get("VolumeSize", 0) for each in volumes),
        snapshots=tuple(each["SnapshotId"] for each in volumes if each.get("SnapshotId")),
    )
