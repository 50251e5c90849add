"""A Snakefile in `code/`, with `../data` and `../results`: jobs that list them find what they find here."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.trees import snakemake, tree

PARTS = """
NAMES = sorted(glob_wildcards("../data/{n}.csv").n)
OUT = config["out"]

rule part:
    input: "../data/{n}.csv"
    output: OUT + "/parts/{n}.csv"
    log: "../logs/{n}.log"
    shell: "cp {input} {output}; echo {wildcards.n} > {log}"

rule parts:
    input: expand(OUT + "/parts/{n}.csv", n=NAMES)
    output: touch(OUT + "/parts.done")
"""
LISTING = f"""
rule all:
    input: expand(config["out"] + "/{{how}}.txt", how=["shell", "run", "script"])
{PARTS}
rule shell:
    input: "../data/a.csv", OUT + "/parts.done"
    output: OUT + "/shell.txt"
    params: out=OUT
    shell: "(ls ../data; ls ../logs; ls {{params.out}}/parts) > {{output}}"

rule run:
    input: OUT + "/parts.done"
    output: OUT + "/run.txt"
    run:
        import glob
        names = glob.glob("../data/*") + glob.glob(OUT + "/parts/*") + glob.glob("../logs/*.log")
        open(output[0], "w").write(f"{{len(names)}}")

rule script:
    input: OUT + "/parts.done"
    output: OUT + "/script.txt"
    script: "count.py"
"""
COUNT = """
from pathlib import Path
sizes = [path.stat().st_size for path in sorted(Path(snakemake.input[0]).parent.glob("*/*.csv"))]
Path(snakemake.output[0]).write_text(str(sizes))
"""
MERGE = f"""
rule all:
    input: config["out"] + "/merged.csv"
{PARTS}
rule merge:
    input: OUT + "/parts/a.csv", OUT + "/parts.done"
    output: OUT + "/merged.csv"
    run:
        import glob
        with open(output[0], "w") as merged:
            for name in sorted(glob.glob(OUT + "/parts/*.csv")):
                merged.write(open(name).read())
"""


def place(folder: Path, snakefile: str) -> Path:
    """A project; the folder of its code."""
    for name in "abc":
        (folder / "data").mkdir(parents=True, exist_ok=True)
        (folder / "data" / f"{name}.csv").write_text(name * ord(name))
    (folder / "code").mkdir()
    (folder / "code" / "Snakefile").write_text(snakefile)
    (folder / "code" / "count.py").write_text(COUNT)
    return folder / "code"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["beside", "elsewhere"])
def test_listing_them(run_workflow: WorkflowRunner, tmp_path: Path, elsewhere: bool) -> None:
    """In a command, a `run:` body and a script; results in the project, or somewhere else."""

    def config(folder: Path) -> str:
        return f"out={tmp_path / 'away' / folder.name if elsewhere else '../results'}"

    here, there = tmp_path / "here", tmp_path / "there"
    code, run_workflow.folder = place(here, LISTING), place(there, LISTING)
    local = snakemake(code, "-c2", "--config", config(here))
    assert local.returncode == 0, local.stderr
    run = run_workflow({}, "--config", config(there))
    assert run.returncode == 0, run.output
    assert tree(there) == tree(here)
    if elsewhere:
        assert tree(tmp_path / "away" / "there") == tree(tmp_path / "away" / "here")


def test_reading_what_no_rule_declares(run_workflow: WorkflowRunner, tmp_path: Path) -> None:
    """A job that globs merges no fewer files than here: it fails, and the file is named."""
    run_workflow.folder = place(tmp_path / "there", MERGE)
    run = run_workflow({}, "--config", "out=../results")
    assert run.returncode != 0
    assert not (tmp_path / "there" / "results" / "merged.csv").exists()
    assert "../results/parts/b.csv exists on your computer but was not sent to the machine" in run.output
