"""The workflows that Snakemake ships for testing executors."""

from __future__ import annotations

import pytest
import snakemake.common.tests

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.settings import ExecutorSettings


class TestWorkflows(snakemake.common.tests.TestWorkflowsLocalStorageBase):
    """Snakemake's `simple` and `groups`, without a shared file system."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def on_the_embedded_cloud(self, ec2_cloud: EmbeddedCloud, monkeypatch: pytest.MonkeyPatch) -> None:
        """Snakemake runs in this process, and finds the cloud where it would find AWS."""
        for name, value in ec2_cloud.env.items():
            monkeypatch.setenv(name, value)
        for name in ec2_cloud.unset:
            monkeypatch.delenv(name, raising=False)

    def get_executor(self) -> str:
        return "ec2"

    def get_executor_settings(self) -> ExecutorSettings:
        return ExecutorSettings()

    def get_assume_shared_fs(self) -> bool:
        return False
