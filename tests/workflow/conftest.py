"""Fixtures of the workflow tests, beside those that are installed with the package."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from tests.workflow.shell import Shell


@pytest.fixture
def shell(
    ec2_cloud: EmbeddedCloud, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Shell:
    """`snakemake-ec2` and boto3, pointed at the embedded cloud."""
    return Shell(ec2_cloud, monkeypatch, capfd)


@pytest.fixture
def no_groups_of_others(shell: Shell) -> None:
    """A run that a test has killed leaves its security group, and the tests of one worker share a cloud."""
    for group in shell.groups():
        shell.ec2.delete_security_group(GroupId=group)
