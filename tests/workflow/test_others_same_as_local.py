"""Workflows that were not written for these tests leave on EC2 what they leave here. Takes minutes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.trees import order, snakemake, tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

WORKFLOWS = Path(__file__).parents[2] / "workflows"

SNAKEMAKES = {
    "test05": [],
    "test_bash": [],
    "test_checkpoints": [],
    "test_deferred_func_eval": [],
    "test_directory": ["downstream"],
    "test_group_jobs": [],
    "test_input_generator": [],
    "test_local_import": [],
    "test_multiext": [],
    "test_params": [],
    "test_pathlib": [],
    "test_pipes": [],
    "test_run_namedlist": [],
    "test_shadowed_log": [],
    "test_spaces_in_fnames": ["test bam file realigned.bam"],
    "test_subpath": [],
    "test_temp": ["test.realigned.bam"],
    "test_touch": [],
    "test_unpack_dict": [],
    "test_unpack_list": [],
}
"""Folders of Snakemake's own tests whose results do not differ from run to run, and their targets."""


@pytest.mark.parametrize("name", ["fertility", "variants"])
def test_the_example_workflows(name: str, run_workflow: WorkflowRunner, tmp_path: Path) -> None:
    """Names, contents, modes and order of times are as after a local run, and nothing is left to do."""
    here = tmp_path / "here"
    for folder in (here, run_workflow.folder):
        shutil.copytree(WORKFLOWS / name, folder, dirs_exist_ok=True, ignore=_made)
    local = subprocess.run(
        [_python_with(here / "requirements.txt", tmp_path / "venv"), "-m", "snakemake", "-c2"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert local.returncode == 0, local.stderr

    run = run_workflow({}, "--ec2-requirements", "requirements.txt", timeout_s=3000)

    assert run.returncode == 0, run.output
    _assert_same(run.folder, here)


@pytest.mark.parametrize("name", SNAKEMAKES)
def test_snakemakes_own_workflows(name: str, run_workflow: WorkflowRunner, tmp_path: Path) -> None:
    """Names, contents, modes and order of times are as after a local run, and nothing is left to do."""
    here = tmp_path / "here"
    for folder in (here, run_workflow.folder):
        shutil.copytree(_sources(tmp_path) / "tests" / name, folder, dirs_exist_ok=True, ignore=_made)
    local = snakemake(here, "-c3", *SNAKEMAKES[name])
    assert local.returncode == 0, local.stderr

    run = run_workflow({}, *SNAKEMAKES[name], timeout_s=600)

    assert run.returncode == 0, run.output
    _assert_same(run.folder, here, *SNAKEMAKES[name])


def _assert_same(there: Path, here: Path, *targets: str) -> None:
    assert tree(there) == tree(here)
    assert order(there) == order(here)
    again = snakemake(there, "-n", "-c3", *targets)
    assert "Nothing to be done" in again.stdout + again.stderr


def _made(folder: str, names: list[str]) -> list[str]:
    """What earlier runs may have left in a workflow's folder."""
    del folder
    made = {".snakemake", "__pycache__", "results", "logs", "benchmarks", "expected-results"}
    return [name for name in names if name in made]


def _python_with(requirements: Path, folder: Path) -> Path:
    """A Python that has Snakemake and what a workflow needs, for running it here."""
    python = folder / "bin" / "python"
    installing = ["pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)]
    for command in (["venv", "--quiet", str(folder)], [*installing, f"snakemake=={version('snakemake')}"]):
        subprocess.run([sys.executable, "-m", "uv", *command], check=True)
    return python


def _sources(scratch: Path) -> Path:
    from tests.conformance.suite import Suite

    return Suite.downloaded(scratch=scratch, logs=scratch / "logs", jobs=1).sources
