"""A shell in which `doctor` finds the embedded cloud."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud

from .rig import Doctor


@pytest.fixture(scope="module", autouse=True)
def one_loader() -> Iterator[None]:
    """botocore reads its descriptions of AWS's services once, and not again for each session."""
    made = botocore.session.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda *_: made)
        yield


@pytest.fixture
def doctor(
    ec2_cloud: EmbeddedCloud,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Iterator[Doctor]:
    """In an empty folder; afterwards nothing was changed on EC2, and all is allowed again."""
    for name in ec2_cloud.unset:
        monkeypatch.delenv(name, raising=False)
    for name, value in ec2_cloud.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    ec2_cloud.forget_calls()
    yield Doctor(ec2_cloud, capfd)
    ec2_cloud.allow(None)
    words = ("Describe", "Get", "Simulate")
    changes = [call for call in ec2_cloud.calls() if not call["action"].startswith(words)]
    assert {call["params"].get("DryRun") for call in changes} <= {"true"}
