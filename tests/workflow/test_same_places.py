"""A workflow's code finds itself where it does here: `~`, and relative paths before `workdir:`."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import WAYS
from tests.workflow.trees import snakemake, tree

SNAKEFILE = """
import os
from pathlib import Path

configfile: "conf/base.yaml"
SHEET = [line.strip() for line in open("conf/sheet.txt")]
FOUND = sorted(glob_wildcards("data/{n}.txt").n)

workdir: config["place"]

REF = os.path.expanduser("~/refs/x.fa")

rule all:
    input: "out/ref.txt", expand("out/{name}.txt", name=SHEET), "out/body.txt"

rule ref:
    input: REF
    output: "out/ref.txt"
    shell: "cp {input} {output}"

rule name:
    output: "out/{name}.txt"
    params: size=lambda wildcards: os.path.getsize(Path.home() / "refs" / "x.fa")
    shell: "echo {wildcards.name} {FOUND} {params.size} > {output}"

rule body:
    input: Path("~/refs/x.fa").expanduser()
    output: "out/body.txt"
    run:
        with open(os.path.expanduser("~/refs/x.fa")) as ref, open(output[0], "w") as file:
            print(*FOUND, *SHEET, ref.read(), os.path.relpath(os.getcwd(), workflow.basedir), file=file)
"""


@WAYS
def test_home_and_paths_before_workdir(
    direct: str, run_workflow: WorkflowRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read before `workdir:` from where Snakemake was started, and below the home that is here."""
    home, here = tmp_path / "home", tmp_path / "here"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "x.fa").write_text("ACGT\n")
    monkeypatch.setenv("HOME", str(home))
    for folder in (here, run_workflow.folder):
        for name, content in {
            "Snakefile": SNAKEFILE,
            "conf/base.yaml": "place: runs/one\n",
            "conf/sheet.txt": "alpha\nbeta\n",
            "data/a.txt": "a",
            "data/b.txt": "b",
        }.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    local = snakemake(here, "-c2")
    assert local.returncode == 0, local.stderr

    run = run_workflow({}, "--ec2-direct", direct)

    assert run.returncode == 0, run.output
    assert tree(run.folder) == tree(here)
