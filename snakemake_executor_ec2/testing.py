"""pytest fixtures that run workflows on the embedded cloud: ours, and those of your own pipeline.

Installed with the package, nothing to import:

    def test_my_pipeline(run_workflow):
        run = run_workflow("path/to/pipeline", "--ec2-requirements", "requirements.txt")
        assert run.returncode == 0
        assert (run.folder / "results/table.csv").exists()

A machine that is left behind fails the test. `snakemake-executor-plugin-ec2[local]` is needed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from snakemake_executor_ec2.local.cloud import EmbeddedCloud

__all__ = ["WorkflowRun", "WorkflowRunner", "ec2_cloud", "run_workflow"]

_SETTLE_S = 15.0
"""How long machines may take from `shutting-down` to `terminated` after a test."""


@dataclass(frozen=True, kw_only=True)
class WorkflowRun:
    """A finished call of Snakemake's."""

    returncode: int
    output: str
    """What it printed, standard output and standard error together."""
    folder: Path
    """Its working directory."""


class WorkflowRunner:
    """Runs workflows on an embedded cloud, each in a folder of its own."""

    def __init__(self, cloud: EmbeddedCloud, folder: Path) -> None:
        self._cloud = cloud
        self.folder = folder

    def __call__(
        self,
        workflow: str | Path | Mapping[str, str],
        *arguments: str,
        jobs: int = 4,
        timeout_s: float = 300,
        env: Mapping[str, str] | None = None,
    ) -> WorkflowRun:
        """Run a workflow to its end.

        `workflow` is a folder, which is copied; or the files themselves, as names and contents.
        `arguments` go to `snakemake`; `env` is added to its environment.
        """
        self.place(workflow)
        process = self.start(*arguments, jobs=jobs, env=env)
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            pytest.fail(f"snakemake did not end within {timeout_s} s:\n{output}")
        return WorkflowRun(returncode=process.returncode, output=output, folder=self.folder)

    def place(self, workflow: str | Path | Mapping[str, str]) -> None:
        """Copy a workflow into `folder`, without running it."""
        if isinstance(workflow, Mapping):
            for name, content in workflow.items():
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
        else:
            shutil.copytree(workflow, self.folder, dirs_exist_ok=True, symlinks=True, ignore=_ignore_results)

    def start(
        self, *arguments: str, jobs: int = 4, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start Snakemake in `folder` and return at once; its output is a pipe."""
        command = [sys.executable, "-m", "snakemake", "--executor", "ec2", "--jobs", str(jobs), *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self._cloud.environment(), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def _ignore_results(folder: str, names: list[str]) -> list[str]:
    del folder
    return [name for name in names if name in {".snakemake", "__pycache__"}]


@pytest.fixture(scope="session")
def ec2_cloud_process() -> Iterator[EmbeddedCloud]:
    """One embedded cloud for the whole session; tests should use `ec2_cloud`, which checks for machines
    left behind."""
    from snakemake_executor_ec2.local.cloud import EmbeddedCloud

    with EmbeddedCloud() as cloud:
        yield cloud


@pytest.fixture
def ec2_cloud(ec2_cloud_process: EmbeddedCloud) -> Iterator[EmbeddedCloud]:
    """An embedded cloud without faults, on which no machine may be left at the end of the test."""
    cloud = ec2_cloud_process
    cloud.faults.clear()
    yield cloud
    cloud.faults.clear()
    left = _alive_after_settling(cloud)
    if left:
        _terminate(cloud, left)
        pytest.fail(f"machines were left behind: {', '.join(left)}")


@pytest.fixture
def run_workflow(ec2_cloud: EmbeddedCloud, tmp_path: Path) -> Callable[..., WorkflowRun]:
    """Runs a workflow with `--executor ec2` on the embedded cloud, in an empty folder."""
    folder = tmp_path / "workflow"
    folder.mkdir()
    return WorkflowRunner(ec2_cloud, folder)


def _alive_after_settling(cloud: EmbeddedCloud) -> list[str]:
    """Ids of machines that are not terminated; those on their way are waited for."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        alive = {name: state for name, state in cloud.machine_states().items() if state != "terminated"}
        if set(alive.values()) != {"shutting-down"} or time.monotonic() > deadline:
            return sorted(alive)
        time.sleep(0.1)


def _terminate(cloud: EmbeddedCloud, machines: list[str]) -> None:
    import boto3

    session = boto3.Session(
        aws_access_key_id=cloud.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=cloud.env["AWS_SECRET_ACCESS_KEY"],
        region_name=cloud.env["AWS_DEFAULT_REGION"],
    )
    session.client("ec2", endpoint_url=cloud.endpoint_url).terminate_instances(InstanceIds=machines)
