"""Failures are told apart: each has its own sentence, with the log's end, memory, cost and machine."""

from __future__ import annotations

import time

import pytest

from snakemake_executor_ec2.local import memory
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import WAYS, launched_since, watched

FAILURES = """
rule all:
    input: "exits", "dies", "fills", "stays", "grows"
rule exits:
    output: "exits"
    shell: "echo last words of exits; exit 3"
rule dies:
    output: "dies"
    shell: "echo last words of dies; kill -11 $$"
rule fills:
    output: "fills"
    resources: disk_mb=500, ec2_instance_type="c5.large"
    shell: "echo last words of fills; head -c 2G /dev/zero > {output}"
rule stays:
    output: "stays"
    resources: runtime=1
    shell: "echo last words of stays; sleep 600"
rule grows:
    output: "grows"
    resources: mem_mb=lambda wildcards, attempt: 1000 if attempt == 1 else 20000, ec2_instance_type="m5.*"
    retries: 1
    shell: "echo last words of grows; python3 -c 'bytearray(2500 << 20)'; touch {output}"
"""


RULES = ("exits", "dies", "fills", "stays", "grows")


def _paragraph(output: str, begin: str) -> str:
    """A line that contains some words, and the indented lines after it."""
    _, found, rest = output.partition(begin)
    lines = rest.splitlines()
    end = next((i for i, line in enumerate(lines[2:], 2) if not line.startswith("    ")), len(lines))
    return found + "\n".join(lines[:end])


@pytest.mark.root  # who may limit memory
@WAYS
def test_each_failure_has_its_own_sentence(
    direct: str, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """Cause, machine, cost, peak memory and the end of the log are in what the user reads; and after an
    out-of-memory the next attempt gets a bigger machine."""
    unlimited = memory.why_not()
    rules = RULES[:-1] if unlimited else RULES
    ec2_cloud.faults.small_disk(400, type="c5.large")
    if not unlimited:
        ec2_cloud.faults.small_memory(2000, type="m5.large")
        ec2_cloud.faults.small_memory(6000)  # one of its own for every machine: the computer's is shared
    before = list(ec2_cloud.machine_states())
    run = run_workflow({"Snakefile": FAILURES}, "--keep-going", "--ec2-direct", direct, *rules, jobs=5)

    assert run.returncode == 1
    told = {name: _paragraph(run.output, f"rule {name} failed on") for name in rules}
    for name, text in told.items():
        assert ", cost $" in text
        assert "(peak memory" in text
        assert f"last words of {name}" in text
    assert "exit code 3 (peak memory" in told["exits"]
    assert "killed by signal 11 (SIGSEGV) (peak memory" in told["dies"]
    assert "the disk is full (" in told["fills"]
    assert "raise its disk_mb (it is 500)" in told["fills"]
    assert "not finished after its runtime of 1 minute; raise runtime" in told["stays"]
    if unlimited:
        pytest.skip(f"the others are told apart; want of memory can't be had: {unlimited}")
    assert "out of memory (the kernel killed " in told["grows"]
    assert "raise its mem_mb (it is 1000)" in told["grows"]
    assert (run.folder / "grows").exists()
    types = {each["type"] for each in ec2_cloud.instances() if each["id"] not in before}
    assert {"m5.large", "m5.2xlarge"} <= types


def test_results_wait_for_room_on_this_computer(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """Where results cannot be written here the machine keeps them, it is said once, and then they come."""
    before = list(ec2_cloud.machine_states())
    run_workflow.place(
        {"Snakefile": "rule one:\n    output: 'out/o.txt'\n    shell: 'sleep 3; echo made > {output}'\n"}
    )
    run = watched(run_workflow)
    run.until("running rule one")
    folder = run_workflow.folder / "out"
    if folder.exists():
        folder.rmdir()
    folder.write_text("in the way: no directory can be made here")
    run.until("cannot be stored on your computer")
    time.sleep(3)
    folder.unlink()

    assert run.wait() == 0, run.output
    assert (folder / "o.txt").read_text() == "made\n"
    assert run.output.count("cannot be stored on your computer") == 1
    assert len(launched_since(ec2_cloud, before)) == 1


def test_a_crashed_machine_is_given_up_and_its_job_runs_again(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """EC2 goes on calling it running, but its checks fail: it is ended, and another one does the job."""
    before = list(ec2_cloud.machine_states())
    run_workflow.place(
        {"Snakefile": "rule one:\n    output: 'o.txt'\n    shell: 'sleep 6; echo made > o.txt'\n"}
    )
    run = watched(run_workflow, "--ec2-lost-after", "1")
    run.until("running rule one")
    (crashed,) = launched_since(ec2_cloud, before)
    ec2_cloud.faults.crash(crashed)
    ec2_cloud.faults.cut(crashed)  # spares the test the minute after which silence counts as a cut

    assert run.wait() == 0, run.output
    assert (run_workflow.folder / "o.txt").read_text() == "made\n"
    assert f"machine {crashed} has crashed: it does not answer, and EC2's own checks of it fail" in run.output
    assert "starting rule one again on another machine" in run.output
    assert len(launched_since(ec2_cloud, before)) == 2
    assert ec2_cloud.machine_states()[crashed] in ("shutting-down", "terminated")


def test_side_files_are_told_and_missed_by_name(run_workflow: WorkflowRunner) -> None:
    """What no rule declares ends with its machine: said at the end, and to the rule that looks for it."""
    run = run_workflow(
        {
            "Snakefile": """
rule all:
    input: "used.txt"

rule index:
    output: "x.bam"
    shell: "echo bam > {output}; echo index > {output}.bai; echo log > tool.log"

rule use:
    input: "x.bam"
    output: "used.txt"
    shell: "cat {input} {input}.bai > {output}"
"""
        }
    )
    assert run.returncode != 0
    assert (
        run.output.count("index left 2 files of 10 B that it does not declare: x.bam.bai 6 B, tool.log 4 B")
        == 1
    )
    assert "x.bam.bai was made by index and lost with its machine" in run.output
    assert "add it to the output of index, and to the input of use" in run.output


def test_a_checkpoint_that_does_not_declare_what_functions_look_for(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """Its function would find nothing here and go on with that: the checkpoint fails, once, and says why."""
    before = list(ec2_cloud.machine_states())
    run = run_workflow(
        {
            "Snakefile": """
from glob import glob

def parts(wildcards):
    checkpoints.split.get()
    return sorted(glob("part-*.txt"))

rule all:
    input: "all.txt"

checkpoint split:
    output: "split.done"
    shell: "for i in 1 2 3 4; do echo $i > part-$i.txt; done; echo x > tool.log; touch {output}"

rule join:
    input: parts
    output: "all.txt"
    shell: "cat {input} /dev/null > {output}"
"""
        },
        "--retries",
        "1",
    )

    assert run.returncode != 0
    assert "4 files that it does not declare (part-1.txt, part-2.txt, part-3.txt, …)" in run.output
    assert not (run.folder / "all.txt").exists()
    assert len(launched_since(ec2_cloud, before)) == 1


CHANGES = """
SURE = ["edited", "appended", "removed", "folder"]
HARMLESS = ["touched", "linked", "alone", "together"]

rule all:
    input: expand("{how}.txt", how=SURE + HARMLESS)

rule make:
    output: "made/{how}"
    shell: "echo 1 > {output}"

rule make_folder:
    output: directory("folder")
    shell: "mkdir {output}; echo 1 > {output}/first"

rule edit:
    input: "made/edited"
    output: touch("edited.ok")
    shell: "sed -i 's/^/more /' {input}"

rule append:
    input: "made/appended"
    output: touch("appended.ok")
    run:
        with open(input[0], "a") as file:
            file.write("more")

rule replace:
    input: "made/removed"
    output: touch("removed.ok")
    shell: "rm {input}; echo something else > {input}"

rule fill:
    input: "folder"
    output: touch("folder.ok")
    shell: "echo 2 > {input}/second; echo > {input}/tool.log"

rule touch:
    input: "made/touched"
    output: touch("touched.ok")
    shell: "sleep 1; touch {input}; chmod a+x {input}"

rule link:
    input: "made/linked"
    output: "linked.ok"
    shell: "ln {input} {output}"

rule alone:
    input: "made/alone"
    output: "alone.ok"
    shell: "wc -l < {input} > {output}; echo cache >> {input}"

rule together:
    input: "made/together"
    output: touch("together.ok")
    group: "together"
    shell: "echo more >> {input}"

rule use_together:
    input: "made/together", "together.ok"
    output: "together.txt"
    group: "together"
    shell: "cat {input} > {output}"

rule use_alone:
    input: "alone.ok"
    output: "alone.txt"
    shell: "cp {input} {output}"

rule use_folder:
    input: "folder", "folder.ok"
    output: "folder.txt"
    shell: "cat {input[0]}/* > {output}"

rule use:
    input: "made/{how}", "{how}.ok"
    output: "{how}.txt"
    wildcard_constraints: how="edited|appended|removed|touched|linked"
    shell: "cat {input} > {output}"
"""


def test_an_input_that_is_changed_in_its_place(run_workflow: WorkflowRunner) -> None:
    """Who counts on the change would compute with the file as it was: the job that made it fails, and says
    why. Not if nobody does, if only times and modes have changed, or within one group."""
    run = run_workflow({"Snakefile": CHANGES}, "--keep-going", jobs=2)
    assert run.returncode != 0
    made = {path.name for path in run.folder.glob("*.txt")}
    assert made == {"touched.txt", "linked.txt", "alone.txt", "together.txt"}
    assert (run.folder / "together.txt").read_text() == "1\nmore\n"
    for rule, name in (
        ("edit", "made/edited"),
        ("append", "made/appended"),
        ("replace", "made/removed"),
        ("fill", "folder/second"),
    ):
        (line,) = (each for each in run.output.splitlines() if each.startswith(f"rule {rule} failed on"))
        assert f"it changed its own input ({name}), and a job that waits for it reads that, too" in line


GOES_ON = """
rule all:
    input: "script.txt", "tolerant.txt", "python.txt", "fine.txt"

rule script:
    input: "parts/a.txt"
    output: "script.txt"
    shell: "bash merge.sh {output}"

rule tolerant:
    input: "parts/a.txt"
    output: "tolerant.txt"
    log: "tolerant.log"
    shell: "(cat parts/*.txt > {output} || true) 2> {log}"

rule python:
    input: "parts/a.txt"
    output: "python.txt"
    run:
        import subprocess
        subprocess.run(["sh", "-c", f"cat parts/*.txt > {output}"])

rule fine:
    input: "parts/a.txt"
    output: "fine.txt"
    shell: "echo 'Permission denied: nobody, parts/a.txt'; ls parts > {output}"
"""


def test_what_a_job_went_without(run_workflow: WorkflowRunner) -> None:
    """A job that cannot read what was not sent and ends well all the same: the end of the run says so."""
    files = {
        "Snakefile": GOES_ON,
        "parts/a.txt": "a\n",
        "parts/b.txt": "b\n",
        "merge.sh": "cat parts/*.txt | sort > $1\n",
    }
    run = run_workflow(files, jobs=2)
    assert run.returncode == 0, run.output
    for rule in ("script", "tolerant", "python"):
        assert f"{rule} could not read parts/b.txt, not sent because no rule declares it" in run.output
    assert "fine could not read" not in run.output
