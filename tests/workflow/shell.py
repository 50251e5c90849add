"""What a user does in a shell beside Snakemake: `snakemake-ec2`, and AWS's own client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest

from snakemake_executor_ec2.cli import main
from snakemake_executor_ec2.local.cloud import EmbeddedCloud


class Shell:
    """A shell whose environment points at the embedded cloud."""

    def __init__(
        self, cloud: EmbeddedCloud, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        for name in cloud.unset:
            monkeypatch.delenv(name, raising=False)
        for name, value in cloud.env.items():
            monkeypatch.setenv(name, value)
        self._capfd = capfd
        # Not boto3's own session, which keeps the credentials of the first cloud that it saw.
        session = boto3.Session(
            aws_access_key_id=cloud.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=cloud.env["AWS_SECRET_ACCESS_KEY"],
            region_name=cloud.env["AWS_DEFAULT_REGION"],
        )
        self.ec2: Any = session.client("ec2", endpoint_url=cloud.endpoint_url)

    def __call__(self, folder: Path, command: str, *arguments: str, status: int = 0) -> str:
        """What `snakemake-ec2` printed to standard output; it has to end with a status."""
        self._capfd.readouterr()
        ended = main([command, "--directory", str(folder), *arguments])
        printed = self._capfd.readouterr()
        assert ended == status, printed
        return printed.out

    def described(self, machine: str) -> dict[str, Any]:
        """What EC2 says of a machine."""
        answer = self.ec2.describe_instances(InstanceIds=[machine])
        found: dict[str, Any] = answer["Reservations"][0]["Instances"][0]
        return found

    def groups(self) -> dict[str, str]:
        """The security groups of this tool: id → run."""
        filters = [{"Name": "tag-key", "Values": ["snakemake-ec2:run"]}]
        rows = self.ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
        return {
            row["GroupId"]: tag["Value"]
            for row in rows
            for tag in row["Tags"]
            if tag["Key"] == filters[0]["Values"][0]
        }
