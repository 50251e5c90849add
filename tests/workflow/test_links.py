"""Links among results: the same as locally, and nothing here is read or written through one."""

from __future__ import annotations

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import launched_since

LINKS = """
rule all:
    input: "seen.txt"
rule linked:
    input: "FAR/ref.txt"
    output: "linked.txt"
    shell: "ln -s {input} {output}"
rule environment:
    output: directory("env")
    shell: "python3 -m venv --without-pip {output} && ln -s /nowhere/at/all {output}/dangling"
rule thesis:
    output: "thesis.txt"
    shell: "ln -s FAR/thesis.docx {output}"
rule seen:
    input: "linked.txt", "env", ancient("thesis.txt")
    output: "seen.txt"
    shell: "cat linked.txt > {output}; readlink linked.txt thesis.txt env/dangling >> {output}; "
           "! cat thesis.txt 2> /dev/null"
"""


def test_links_come_home_as_links(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """To a declared input outside of the working directory, out of an environment, to a document of the
    user's: the next job can read the first, and of the last it gets no more than the link."""
    far = run_workflow.folder.parent / "far"
    far.mkdir()
    (far / "ref.txt").write_text("reference\n")
    (far / "thesis.docx").write_text("private\n")
    run = run_workflow({"Snakefile": LINKS.replace("FAR", str(far))}, jobs=3)
    assert run.returncode == 0, run.output
    seen = (run_workflow.folder / "seen.txt").read_text().splitlines()
    assert seen == ["reference", f"{far}/ref.txt", f"{far}/thesis.docx", "/nowhere/at/all"]
    assert (run_workflow.folder / "env" / "bin" / "python3").is_symlink()
    assert (far / "thesis.docx").read_text() == "private\n"


REFUSED = """
rule journal:
    output: "journal"
    shell: "ln -s .snakemake/ec2/journal.sqlite {output}"
rule hook:
    output: directory("hook")
    shell: "mkdir {output}; ln -s ../.git/hooks/pre-commit {output}/x"
rule code:
    output: "code"
    shell: "ln -s Snakefile {output}"
rule pipe:
    output: "pipe"
    shell: "mkfifo {output}"
"""


def test_what_is_for_good_keeps_no_machine(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """Links into hidden folders or onto code, and pipes: each job fails once, its machine ends at once, and
    the sentence names what it is."""
    before = list(ec2_cloud.machine_states())
    names = ("journal", "hook", "code", "pipe")
    run = run_workflow({"Snakefile": REFUSED}, "--keep-going", *names, jobs=4)
    assert run.returncode == 1
    folder = run_workflow.folder
    assert f"{folder}/journal is a link that leads to {folder}/.snakemake/ec2/journal.sqlite" in run.output
    assert f"{folder}/hook/x is a link that leads to {folder}/.git/hooks/pre-commit" in run.output
    assert f"{folder}/code is a link that leads to {folder}/Snakefile, which would be code" in run.output
    assert f"{folder}/pipe is a pipe (FIFO)" in run.output
    assert "keeps the results" not in run.output
    assert len(launched_since(ec2_cloud, before)) == 4
    assert not any((folder / name).is_symlink() for name in names)
