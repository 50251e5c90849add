"""What a workflow reads of the environment is on a machine as it is here."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.trees import snakemake, tree

SNAKEFILE = """
import os
from helper import LEVEL, late

MODE = os.environ.get("RUN_MODE", "test")
NAMES = {"alpha", "beta", "gamma", "delta"}
os.environ["OWN"] = os.environ.get("OWN", "") + "+"
SECRET = os.environ.get("MY_TOKEN", "none")

rule all:
    input: expand("{how}.txt", how=["shell", "params", "run", "late", "order"])

rule shell:
    output: "shell.txt"
    shell: "echo {MODE} {LEVEL:q} $OWN > {output}"

rule params:
    output: "params.txt"
    params: lambda wildcards: os.getenv("IN_PARAMS", "unset")
    shell: "echo {params[0]} > {output}"

rule run:
    output: "run.txt"
    run:
        with open(output[0], "w") as file:
            file.write(f"{MODE} {os.environ.get('IN_BODY')} {late()}")

rule late:
    output: "late.txt"
    resources: seen=lambda wildcards: late()
    shell: "echo {resources.seen} {resources.tmpdir} > {output}"

rule order:
    output: "order.txt"
    run:
        with open(output[0], "w") as file:
            file.write(" ".join(NAMES))
"""
HELPER = """
import os
LEVEL = os.environ["LEVEL"]

def late():
    return os.environ.get("LATE", "no")
"""
ENVIRONMENT = {
    "RUN_MODE": "full",
    "LEVEL": 'it\'s "3"',
    "IN_PARAMS": "p",
    "IN_BODY": "b",
    "LATE": "l",
    "IN_TMPDIR": "below",
    "OWN": "mine",
    "MY_TOKEN": "s3cret",
    "PYTHONHASHSEED": "7",
}


def test_variables_that_snakefiles_read_travel(
    run_workflow: WorkflowRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read at parse, in modules, functions, bodies, resources; a secret is declared; sets have one order."""
    here = tmp_path / "here"
    for folder in (here, run_workflow.folder):
        folder.mkdir(exist_ok=True)
        (folder / "Snakefile").write_text(SNAKEFILE)
        (folder / "helper.py").write_text(HELPER)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    tmpdir = ("--set-resources", "late:tmpdir=/tmp/$IN_TMPDIR")
    local = snakemake(here, "-c2", *tmpdir)
    assert local.returncode == 0, local.stderr

    run = run_workflow({}, *tmpdir)

    assert run.returncode == 0, run.output
    assert tree(run.folder) == tree(here)
    assert run.output.count("reads the environment variable MY_TOKEN") == 1
    assert "s3cret" not in run.output
