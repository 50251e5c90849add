"""Machine images: the newest Amazon Linux 2023, for GPUs with their drivers, or one that the user names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from snakemake_executor_ec2.aws.errors import AWS_ERRORS, code_of, is_denied, translate
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Arch, Image

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import ImageTypeDef

    from snakemake_executor_ec2.aws.clients import Clients

NEWEST_PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{arch}"
"""Amazon's public parameter with the id of its newest image."""
_NAME = "al2023-ami-2023.*"
"""Standard images only: `al2023-ami-minimal-…` and `al2023-ami-ecs-…` are others."""
_GPU_NAMES = {
    Arch.X86_64: "Deep Learning Base OSS Nvidia Driver GPU AMI (Amazon Linux 2023) *",
    Arch.ARM64: "Deep Learning ARM64 Base OSS Nvidia Driver GPU AMI (Amazon Linux 2023) *",
}
"""AWS's own: Amazon Linux 2023 with NVIDIA's driver and CUDA (release notes of its Deep Learning AMIs)."""


def find_image(clients: Clients, ami: str | None, arch: Arch, warn: Callable[[str], None]) -> Image:
    """The given image, or the newest Amazon Linux 2023 for an architecture.

    `warn` reports that Amazon's own parameter for the newest may not be read. Raises ConfigurationError if
    there is no image, or if it can't be used.
    """
    if ami is not None:
        return _usable(_described(clients, ami), arch)
    newest = _newest_parameter(clients, arch, warn)
    row = _described(clients, newest) if newest else _newest_named(clients, arch, _NAME)
    if row is None:
        raise ConfigurationError(
            f"no Amazon Linux 2023 image for {arch} was found in this region; --ec2-ami names an image"
        )
    return _usable(row, arch)


def find_gpu_image(clients: Clients, arch: Arch) -> Image | None:
    """The newest Amazon Linux 2023 that has the drivers of NVIDIA's GPUs; None if there is none."""
    row = _newest_named(clients, arch, _GPU_NAMES[arch])
    return _usable(row, arch) if row else None


def _newest_parameter(clients: Clients, arch: Arch, warn: Callable[[str], None]) -> str | None:
    """The AMI id in Amazon's public parameter; None if SSM can't be asked or has none."""
    try:
        found = clients.ssm.get_parameter(Name=NEWEST_PARAMETER.format(arch=arch.value))
    except AWS_ERRORS as error:
        if is_denied(error):
            told = translate(error, "ssm:GetParameter")
            warn(f"the newest Amazon Linux 2023 for {arch} is found by its image's name: {told}")
        # Whatever is wrong with SSM (no permission, no endpoint), EC2 itself knows the image;
        # DescribeImages reports the same problems of credentials.
        return None
    return found["Parameter"]["Value"]


def _newest_named(clients: Clients, arch: Arch, name: str) -> ImageTypeDef | None:
    try:
        found = clients.ec2.describe_images(
            Owners=["amazon"],
            Filters=[
                {"Name": "name", "Values": [name]},
                {"Name": "architecture", "Values": [arch.value]},
                {"Name": "state", "Values": ["available"]},
            ],
        )["Images"]
    except AWS_ERRORS as error:
        raise translate(error, "ec2:DescribeImages") from error
    return max(found, key=lambda each: each["CreationDate"], default=None)


def _described(clients: Clients, ami: str) -> ImageTypeDef:
    try:
        found = clients.ec2.describe_images(ImageIds=[ami])["Images"]
    except ClientError as error:
        if not code_of(error).startswith("InvalidAMIID"):
            raise translate(error, "ec2:DescribeImages") from error
        found = []
        cause: ClientError | None = error
    except AWS_ERRORS as error:
        raise translate(error, "ec2:DescribeImages") from error
    else:
        cause = None
    if not found:
        raise ConfigurationError(
            f"there is no machine image {ami!r} in {clients.region} that this account may use (--ec2-ami)"
        ) from cause
    return found[0]


def _usable(row: ImageTypeDef, arch: Arch) -> Image:
    """Raises ConfigurationError for an image that no job's machine can start from."""
    ami = row["ImageId"]
    if row.get("State", "available") != "available":
        raise ConfigurationError(f"the machine image {ami} is not available: its state is {row['State']}")
    if row["Architecture"] != arch.value:
        raise ConfigurationError(
            f"the machine image {ami} is for {row['Architecture']}, the job for {arch}; "
            "ec2_arch or --ec2-ami chooses another one"
        )
    if row.get("Platform", "").lower() == "windows":
        raise ConfigurationError(f"the machine image {ami} is Windows; Snakemake's jobs need Linux")
    if row.get("RootDeviceType", "ebs") != "ebs" or not row.get("RootDeviceName"):
        raise ConfigurationError(f"the machine image {ami} has no EBS root volume, which EC2 needs today")
    return image_of(row)


def image_of(row: ImageTypeDef) -> Image:
    """An image as EC2 describes it."""
    root = row.get("RootDeviceName", "")
    volumes = {
        each["DeviceName"]: each["Ebs"].get("VolumeSize", 0)
        for each in row.get("BlockDeviceMappings", [])
        if "Ebs" in each and "DeviceName" in each
    }
    return Image(
        ami=row["ImageId"],
        name=row.get("Name", row["ImageId"]),
        arch=Arch(row["Architecture"]),
        root_device=root,
        root_gib=volumes.get(root, 0),
        other_devices=tuple(sorted(name for name in volumes if name != root)),
    )
