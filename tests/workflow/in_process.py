"""What Snakemake's own test classes for executors need to run on the embedded cloud."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.plugin.settings import ExecutorSettings

# Snakemake does not close all that it opens, and here it lives in the tests' own process.
LEAVES_FILES_OPEN = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


class OnTheEmbeddedCloud:
    """Snakemake runs in this process, and finds the cloud where it would find AWS."""

    __test__ = True
    cloud: EmbeddedCloud

    @pytest.fixture(autouse=True)
    def on_the_embedded_cloud(
        self, ec2_cloud: EmbeddedCloud, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[None]:
        for name, value in ec2_cloud.env.items():
            monkeypatch.setenv(name, value)
        for name in ec2_cloud.unset:
            monkeypatch.delenv(name, raising=False)
        self.cloud = ec2_cloud
        yield
        gc.collect()  # while its warnings are ignored

    def get_executor(self) -> str:
        return "ec2"

    def get_executor_settings(self) -> ExecutorSettings:
        return ExecutorSettings()

    def get_assume_shared_fs(self) -> bool:
        return False
