"""Whatever a workflow asks of its folder has the answer on a machine that it has here."""

from __future__ import annotations

import os
from pathlib import Path

from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.trees import order, snakemake, tree

QUESTIONS = {
    "glob_wildcards": 'glob_wildcards("reads/{n}.txt").n',
    "glob_wildcards deep": 'list(zip(*glob_wildcards("{place}/{n}.txt", followlinks=True)))',
    "listdir": 'os.listdir("reads")',
    "scandir": '[(e.name, e.is_file(), e.is_dir(), e.is_symlink()) for e in os.scandir(".")]',
    "walk": '[[a, sorted(b), sorted(c)] for a, b, c in os.walk("reads")]',
    "glob": 'glob.glob("reads/*.txt")',
    "glob **": 'glob.glob("**/*.txt", recursive=True)',
    "iterdir": '[str(p) for p in Path("reads").iterdir()]',
    "Path.glob": '[str(p) for p in Path(".").glob("reads/**/*.txt")]',
    "rglob": '[str(p) for p in Path(".").rglob("*.txt")]',
    "exists": '[os.path.exists(p) for p in ("opt/x.bed", "opt/no.bed", "opt", "reads/link.txt", "/nowhere")]',
    "kinds": '[(p, os.path.isdir(p), os.path.isfile(p), os.path.islink(p)) for p in os.listdir(".")]',
    "sizes": '[os.path.getsize(p) for p in sorted(glob.glob("re*/*.txt"))]',
    "times": '[os.stat(p).st_mtime_ns for p in sorted(glob.glob("reads/*"))] + [os.stat("reads").st_mtime]',
    "empty": '[os.listdir("hollow"), os.path.isdir("hollow")]',
    "results": '[os.path.exists("results/old.txt"), os.listdir("results/other")]',
}
"""What a Snakefile may ask, in Python."""

HEAD = """
import glob, json, os
from pathlib import Path

def told(value):
    return json.dumps(ordered(value), sort_keys=True)

NOT = ("out", ".snakemake", "('out", "('.snakemake")

def ordered(value):
    if isinstance(value, dict):
        return {name: ordered(each) for name, each in value.items()}
    if isinstance(value, list | tuple):  # what is made meanwhile, here or there, is left out
        kept = [ordered(each) for each in value if not str(each).startswith(NOT)]
        return sorted(kept, key=json.dumps)
    return value

"""
RULES = """
QUESTION = told({question})

rule all:
    input: expand("out/{{how}}.txt", how=["parse", "params", "run", "resources", "input", "inner"])

rule parse:
    output: "out/parse.txt"
    params: lambda wildcards: QUESTION
    shell: "echo {{params[0]:q}} > {{output}}"

rule params:
    output: "out/params.txt"
    params: lambda wildcards: told({question})
    shell: "echo {{params[0]:q}} > {{output}}"

rule run:
    output: "out/run.txt"
    run:
        with open(output[0], "w") as file:
            file.write(QUESTION)

rule inner:
    output: "out/inner.txt"
    run:
        with open(output[0], "w") as file:
            file.write(told({question}))

rule resources:
    output: "out/resources.txt"
    resources: asked=lambda wildcards: told({question})
    shell: "echo {{resources.asked:q}} > {{output}}"

def chosen(wildcards):
    return "reads/a.txt" if len(told({question})) % 2 else "reads/b.txt"

rule input_function:
    input: chosen
    output: "out/input.txt"
    shell: "cp {{input}} {{output}}"
"""


def asking(*names: str) -> str:
    """Questions as one, whose answer is a dictionary."""
    return "{" + ", ".join(f"{name!r}: {QUESTIONS[name]}" for name in names) + "}"


def prepared(folder: Path) -> Path:
    """A folder with something of every kind, in which nothing is declared but two files."""
    for name in ("reads/a.txt", "reads/b.txt", "reads/deep/c.txt", "opt/x.bed", "results/other/o.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n" * 3)
    for name in ("results/old.txt", "out/earlier.txt", ".hidden/h", "empty.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / "hollow").mkdir()
    (folder / "reads" / "link.txt").symlink_to("a.txt")
    (folder / "turned").symlink_to("reads")
    (folder / "out" / "earlier.txt").rename(folder / "results" / "moved")
    for number, (parent, folders, files) in enumerate(os.walk(folder, topdown=False)):
        for name in (*folders, *files):
            os.utime(Path(parent, name), ns=(0, 1_600_000_000_000_000_000 + number * 10**9 + 7))
    return folder


def same_as_local(
    run_workflow: WorkflowRunner, here: Path, snakefile: str, *arguments: str, again: bool = True
) -> str:
    """Run a workflow here and on EC2 in folders that are alike, and compare what it left."""
    for folder in (here, run_workflow.folder):
        folder.mkdir(exist_ok=True)
        prepared(folder)
        (folder / "Snakefile").write_text(snakefile)
        os.utime(folder / "Snakefile", (1_600_000_000, 1_600_000_000))
    local = snakemake(here, "-c2", *arguments)
    assert local.returncode == 0, local.stderr
    run = run_workflow({}, *arguments)
    assert run.returncode == 0, run.output
    assert tree(run.folder) == tree(here)
    assert order(run.folder) == order(here)
    if again:
        second = snakemake(run.folder, "-n", "-c2", *arguments)
        assert "Nothing to be done" in second.stdout + second.stderr
    return run.output


def test_every_question_has_the_answer_that_it_has_here(run_workflow: WorkflowRunner, tmp_path: Path) -> None:
    """Listing, globs, walks, existence, kinds, sizes and times: at parse, in functions, in `run:` bodies.

    Of everything but what is made meanwhile.
    """
    snakefile = HEAD + RULES.format(question=asking(*QUESTIONS))
    same_as_local(run_workflow, tmp_path / "here", snakefile)


def test_what_no_rule_declares_fails_loudly(run_workflow: WorkflowRunner) -> None:
    """A command that globs computes with no fewer files than here: it fails, and the file is named."""
    prepared(run_workflow.folder)
    run = run_workflow(
        {
            "Snakefile": """
rule all:
    input: "merged.txt"

rule merge:
    input: "reads/a.txt"
    output: "merged.txt"
    shell: "cat reads/*.txt > {output}"
"""
        }
    )
    assert run.returncode != 0
    assert not (run.folder / "merged.txt").exists()
    assert "reads/b.txt exists on your computer but was not sent to the machine" in run.output
    assert "reads/a.txt exists on your computer" not in run.output


KINDS = """
import glob, os

NAMES = sorted(glob_wildcards("reads/{n}.txt").n)

module other:
    snakefile: "other.smk"

use rule * from other as other_*

rule all:
    input:
        "out/one.txt", "out/two.txt", "out/shadow.txt", "out/full.txt", "out/gathered.txt", "out/module.txt",
        "out/folder", "out/pipe.txt", "out/kept.txt"

rule one:
    input: "reads/a.txt"
    output: "out/one.txt"
    group: "both"
    params: names=lambda wildcards: sorted(os.listdir("reads"))
    shell: "echo {params.names} {NAMES} > {output}"

rule two:
    input: "out/one.txt"
    output: "out/two.txt"
    group: "both"
    run:
        with open(output[0], "w") as file:
            print(*NAMES, os.path.exists("opt/x.bed"), os.path.getsize("opt/x.bed"), file=file)

rule shadow:
    input: "reads/a.txt"
    output: "out/shadow.txt"
    shadow: "shallow"
    shell: "ls reads opt > {output}; echo > side.txt"

rule full:
    input: "reads/a.txt"
    output: "out/full.txt"
    shadow: "minimal"
    run:
        with open(output[0], "w") as file:
            print(*NAMES, file=file)

checkpoint split:
    input: "reads/b.txt"
    output: directory("split")
    shell: "mkdir {output}; for n in 1 2 3; do cp {input} {output}/$n.txt; done"

def parts(wildcards):
    folder = checkpoints.split.get().output[0]
    return sorted(glob.glob(f"{folder}/*.txt"))

rule gathered:
    input: parts
    output: "out/gathered.txt"
    params: sizes=lambda wildcards, input: [os.path.getsize(name) for name in input]
    shell: "cat {input} > {output}; echo {params.sizes} >> {output}"

rule folder:
    output: directory("out/folder")
    shell: "mkdir {output}; echo new > {output}/new.txt; ls reads > {output}/names.txt"

rule kept:
    output: "out/kept.txt"
    log: "results/old.txt"
    shell: "echo kept > {output}; echo log > {log}"

rule to_pipe:
    output: pipe("out/pipe")
    shell: "ls reads > {output}"

rule from_pipe:
    input: "out/pipe"
    output: "out/pipe.txt"
    shell: "cat {input} > {output}"
"""
OTHER = """
import os
SEEN = sorted(os.listdir("opt"))

rule see:
    output: "out/module.txt"
    run:
        with open(output[0], "w") as file:
            print(*SEEN, file=file)
"""


SUMMARY = """
rule summary:
    input: expand("star/{s}/a.bam", s=["A", "B"])
    output: "summary.txt"
    shell: "for f in {input}; do cat $(dirname $f)/*.final.out 2>/dev/null || true; done > {output}"

rule star:
    output: bam="star/{s}/a.bam", log="star/{s}/Log.final.out"
    shell: "touch {output.bam}; echo {wildcards.s} > {output.log}"
"""
"""As MultiQC does: it is given folders, and passes over what it cannot read."""


def test_what_lies_beside_an_input_is_read(run_workflow: WorkflowRunner) -> None:
    """Though only its own rule declares it."""
    run = run_workflow({"Snakefile": SUMMARY})
    assert run.returncode == 0, run.output
    assert (run.folder / "summary.txt").read_text() == "A\nB\n"


def test_every_kind_of_job_sees_the_same(run_workflow: WorkflowRunner, tmp_path: Path) -> None:
    """Groups, shadows, checkpoints, modules, pipes; outputs and logs that exist here already are free."""
    for folder in (tmp_path / "here", run_workflow.folder):
        (folder / "out" / "folder").mkdir(parents=True)
        (folder / "out" / "folder" / "old.txt").write_text("old")
        (folder / "other.smk").write_text(OTHER)
        os.utime(folder / "other.smk", (1_600_000_000, 1_600_000_000))
    same_as_local(run_workflow, tmp_path / "here", KINDS, "--forceall", again=False)
