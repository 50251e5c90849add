"""What other command lines, and failures, mean to Snakemake here they mean on EC2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.trees import records, snakemake, tree

FAILING = """
rule all:
    input: "good.txt", "logged.txt", "empty.txt", "sum.txt", "updated.txt", "grouped.txt"

rule good:
    output: "good.txt"
    shell: "echo good > {output}"

rule logged:
    output: "logged.txt", directory("made")
    log: "logs/logged.log"
    benchmark: "benchmarks/logged.tsv"
    shell: "mkdir {output[1]}; echo half | tee {output[0]} > {output[1]}/half; echo why > {log}; exit 3"

rule empty:
    output: ensure("empty.txt", non_empty=True)
    shell: "touch {output}"

rule sum:
    output: ensure("sum.txt", sha256="0" * 64)
    shell: "echo other > {output}"

rule updated:
    input: "Snakefile"
    output: update("updated.txt")
    shell: "echo spoilt >> {output}; exit 1"

rule first:
    output: temp("work/first.txt")
    log: "logs/first.log"
    benchmark: "benchmarks/first.tsv"
    group: "g"
    shell: "echo first | tee {output} > {log}"

rule grouped:
    input: "work/first.txt"
    output: "grouped.txt"
    log: "logs/grouped.log"
    group: "g"
    shell: "cat {input} > {log}; exit 1"
"""

PROJECT = {
    "workflow/Snakefile": """
configfile: "config/config.yaml"

include: "rules/parts.smk"

rule all:
    input: expand("results/{sample}.txt", sample=config["samples"])
""",
    "workflow/rules/parts.smk": """
rule begin:
    output: temp("work/{sample}.begun"), temp("work/{sample}.beside")
    group: "chain"
    shell: "echo {wildcards.sample} {config[word]} | tee {output}"

rule go_on:
    input: "work/{sample}.begun"
    output: temp("work/{sample}.gone_on")
    group: "chain"
    script: "../scripts/again.py"

rule end:
    input: "work/{sample}.gone_on"
    output: "results/{sample}.txt"
    params: word=lambda wildcards: config["word"]
    shell: "(cat {input}; echo {params.word}) > {output}"
""",
    "workflow/scripts/again.py": "text = open(snakemake.input[0]).read()\n"
    "open(snakemake.output[0], 'w').write(2 * text)\n",
    "workflow/profiles/default/config.yaml": "config: ['word=profile']\nquiet: []\nec2-show-staging: true\n",
    "elsewhere/config/config.yaml": "samples: [a, b]\nword: file\n",
}

_CELL: dict[str, object] = {
    "cell_type": "code",
    "execution_count": None,
    "id": "only",
    "metadata": {},
    "outputs": [],
    "source": "import pathlib\nword = pathlib.Path('notebooks/word.txt').read_text()\n"
    "pathlib.Path(snakemake.output[0]).write_text(word + ' by a notebook')\nprint('noted', 'by a notebook')",
}
NOTED = {
    "Snakefile": """
import pandas
from snakemake.utils import Paramspace

space = Paramspace(pandas.read_csv("params.tsv", sep="\\t"))

rule all:
    input: expand("out/{params}.txt", params=space.instance_patterns), "out/noted.txt"

rule simulate:
    output: f"out/{space.wildcard_pattern}.txt"
    params: of=space.instance
    shell: "echo {params.of[alpha]} {params.of[beta]} > {output}"

rule noted:
    output: "out/noted.txt"
    log: notebook="logs/noted.ipynb"
    notebook: "notebooks/note.py.ipynb"
""",
    "params.tsv": "alpha\tbeta\n1\tx\n2\ty\n",
    "requirements.txt": "pandas\nnbconvert\nipykernel\n",
    "notebooks/word.txt": "noted",
    "notebooks/note.py.ipynb": json.dumps(
        {
            "cells": [_CELL],
            "metadata": {"language_info": {"name": "python"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    ),
}


def test_failures_leave_what_they_leave_here(run_workflow: WorkflowRunner, tmp_path: Path) -> None:
    """Logs stay, of groups too; what failed or is not as ensured goes, what was updated is restored."""
    here = tmp_path / "here"
    here.mkdir()
    for folder in (here, run_workflow.folder):
        (folder / "Snakefile").write_text(FAILING)
        (folder / "updated.txt").write_text("before\n")
    local = snakemake(here, "-c2", "--keep-going", "--force", "all", "updated")

    run = run_workflow({}, "--keep-going", "--force", "all", "updated")

    assert local.returncode == run.returncode == 1
    # Without an executor a group is so many single jobs; with one it fails as a whole.
    shutil.rmtree(here / "work")
    assert tree(run.folder) == tree(here)
    assert (run.folder / "logs/logged.log").read_text() == "why\n"
    assert (run.folder / "updated.txt").read_text() == "before\n"
    assert not {"empty.txt", "sum.txt"}.intersection(tree(run.folder))
    assert set(records(run.folder)) == set(records(here))


def test_keep_incomplete_keeps_what_there_is(run_workflow: WorkflowRunner, tmp_path: Path) -> None:
    """With --keep-incomplete a failed job's outputs come home, directories as well."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "Snakefile").write_text(FAILING)
    local = snakemake(here, "-c2", "--keep-incomplete", "logged.txt")

    run = run_workflow({"Snakefile": FAILING}, "--keep-incomplete", "logged.txt")

    assert local.returncode == run.returncode == 1
    assert (run.folder / "made" / "half").read_text() == "half\n"
    assert tree(run.folder) == tree(here)


def test_a_project_and_its_command_lines(run_workflow: WorkflowRunner, tmp_path: Path) -> None:
    """Snakefile in workflow/, its profile, --directory, --batch, --notemp and --until, as here."""
    here = tmp_path / "here"
    run_workflow.place(PROJECT)
    shutil.copytree(run_workflow.folder, here)
    for arguments in (
        ["--batch", "all=1/2", "--notemp"],
        ["--until", "go_on"],
        ["--config", "word=typed", "--rerun-triggers", "mtime"],
    ):
        words = ["--directory", "elsewhere", *arguments]
        local = snakemake(here, "-c2", *words)
        run = run_workflow({}, *words)

        assert local.returncode == 0, local.stderr
        assert run.returncode == 0, run.output
        assert "sent with every job: " in run.output
        assert tree(run.folder) == tree(here)
    assert (run.folder / "elsewhere/results/a.txt").read_text().endswith("profile\n")
    assert (run.folder / "elsewhere/results/b.txt").read_text() == "b profile\n" * 2 + "typed\n"
    assert (run.folder / "elsewhere/work/a.beside").exists()
    assert not (run.folder / "elsewhere/work/b.beside").exists()


IN_R = {
    "Snakefile": """
rule shouted:
    input: "data/said.txt"
    output: "out/shouted.txt"
    params: times=lambda wildcards, input: len(input) + 1
    script: "scripts/shout.R"
""",
    "data/said.txt": "louder",
    "scripts/shout.R": """
snakemake@source("helper.R")
mark <- readLines(file.path(snakemake@scriptdir, "mark.txt"))
text <- strrep(loud(readLines(snakemake@input[[1]], warn = FALSE)), snakemake@params[["times"]])
writeLines(paste0(text, mark), snakemake@output[[1]])
""",
    "scripts/helper.R": "loud <- function(text) toupper(text)\n",
    "scripts/mark.txt": "!\n",
}


@pytest.mark.skipif(not shutil.which("Rscript"), reason="Rscript is not installed")
def test_a_script_in_r(run_workflow: WorkflowRunner) -> None:
    """A script in R gets its params, and finds what is beside it."""
    run = run_workflow(IN_R)

    assert run.returncode == 0, run.output
    assert (run.folder / "out/shouted.txt").read_text() == "LOUDERLOUDER!\n"


CLEANING = """
rule clean:
    shell: "rm -r results"

rule announce:
    resources: mem_mb=500
    shell: "mkdir -p results; touch results/announced"
"""


def test_a_rule_that_declares_nothing_runs_here(run_workflow: WorkflowRunner) -> None:
    """`rule clean` cleans this computer, without a machine; with resources of its own it means one."""
    run = run_workflow({"Snakefile": CLEANING, "results/old.txt": ""}, "clean", "announce")

    assert run.returncode == 0, run.output
    assert "rule clean declares neither input nor output: it runs on your computer" in run.output
    assert not (run.folder / "results").exists()
    assert "for rule announce" in run.output
    assert "for rule clean" not in run.output


@pytest.mark.slow
def test_notebooks_and_parameter_spaces(run_workflow: WorkflowRunner) -> None:
    """A notebook runs on the machine and comes home as it ran; instances of a parameter space as well."""
    run = run_workflow(NOTED, "--ec2-requirements", "requirements.txt", timeout_s=900)

    assert run.returncode == 0, run.output
    assert (run.folder / "out/alpha~1/beta~x.txt").read_text() == "1 x\n"
    assert (run.folder / "out/alpha~2/beta~y.txt").read_text() == "2 y\n"
    assert (run.folder / "out/noted.txt").read_text() == "noted by a notebook"
    assert "noted by a notebook" in (run.folder / "logs/noted.ipynb").read_text()


@pytest.mark.parametrize("direct", ["auto", "never"])
def test_code_with_a_place_in_memory_is_the_same_code(run_workflow: WorkflowRunner, direct: str) -> None:
    """An f-string takes `output` for Snakemake's function of that name: its place differs in each process."""
    rule = "rule a:\n    output: touch('a.txt')\n    shell: f\"echo '{output}' | tee /dev/stderr\"\n"
    run = run_workflow({"Snakefile": rule}, "--ec2-direct", direct)
    assert run.returncode == 0, run.output
    assert (run.folder / "a.txt").exists()
