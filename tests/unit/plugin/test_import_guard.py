"""What the plugin needs of Snakemake at import: as little as it can, in both shapes that are known."""

from __future__ import annotations

import subprocess
import sys
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from snakemake_executor_ec2.plugin.snakemake_private import deploying_only, deployment_methods

_COMING = """
import enum, sys
import snakemake_interface_executor_plugins.settings as shape

del shape.DeploymentMethod
shape.SharedFSUsage = enum.Enum("SharedFSUsage", [*shape.SharedFSUsage.__members__, "THAT_COMES_LATER"])

class DeploymentSettings:
    @property
    def deployment_methods(self): ...

shape.DeploymentSettingsExecutorInterface = DeploymentSettings
"""
"""Makes an interface of the coming major version out of the installed one (its commit 965c74f)."""

_BROKEN = """
import pkgutil, sys

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"boto3", "botocore", "paramiko", "moto", "asyncssh", "cryptography"}:
            raise ImportError(name + " is broken here")

sys.meta_path.insert(0, Broken())

# Snakemake's own plugin for S3 needs boto3 at import: without boto3 nobody has it.
every = pkgutil.iter_modules
pkgutil.iter_modules = lambda *args: (m for m in every(*args) if m.name != "snakemake_storage_plugin_s3")
"""
"""Every library of ours that Snakemake does not have itself is broken here."""


class Method(Enum):
    """As Snakemake 9 has them."""

    CONDA = 0
    APPTAINER = 1
    ENV_MODULES = 2


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_plugin_is_imported_with_the_coming_interface() -> None:
    """Without `DeploymentMethod` and with usages of shared file systems that are new, the plugin's
    package and what it imports when jobs come can be imported."""
    done = run_python(
        _COMING
        + "import snakemake_executor_plugin_ec2, snakemake_executor_ec2.plugin.job_plan; print('fine')"
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


@pytest.mark.parametrize(
    ("attribute", "given"),
    [
        ("deployment_method", frozenset(Method)),
        ("deployment_methods", {"conda", "apptainer", "env-modules"}),
        ("deployment_methods", {"conda", "container", "envmodules"}),
    ],
)
def test_both_shapes_of_deployment_methods(attribute: str, given: Any) -> None:
    """Members of an enumeration and names are read alike, and are set in the shape that they had."""
    settings = SimpleNamespace(**{attribute: given})
    workflow = SimpleNamespace(deployment_settings=settings)

    assert deployment_methods(workflow) == {"conda", "apptainer", "env-modules"}
    with deploying_only(workflow, ("conda",)):
        assert deployment_methods(workflow) == {"conda"}
        assert set(getattr(settings, attribute)) < set(given)
    assert getattr(settings, attribute) == given


def test_another_executor_starts_while_our_libraries_are_broken(tmp_path: Path) -> None:
    """A start of Snakemake that has nothing to do with EC2 does not need boto3, nor paramiko."""
    (tmp_path / "Snakefile").write_text("rule one:\n    output: 'o'\n    shell: 'echo made > {output}'\n")
    code = _BROKEN + (
        "try:\n    import boto3\nexcept ImportError:\n    pass\nelse:\n    raise SystemExit('not broken')\n"
        "import runpy\n"
        "sys.argv[1:] = ['--cores', '1', '--quiet', 'all']\n"
        "runpy.run_module('snakemake', run_name='__main__')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o").read_text() == "made\n"
