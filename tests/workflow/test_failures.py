"""Failures are told apart: each has its own sentence, with the log's end, memory, cost and machine."""

from __future__ import annotations

import time

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import launched_since, wait_for, watched


@pytest.mark.parametrize(
    ("shell", "resources", "sentence"),
    [
        ("echo last words; exit 3", "", "exit code"),
        ("echo last words; kill -9 $PPID; sleep 9", "", "failed on"),
        (
            "echo last words; python -c 'import errno; raise MemoryError' ",
            "mem_mb=1000",
            "out of memory; raise its mem_mb (it is 1000)",
        ),
    ],
    ids=["exit", "signal", "memory"],
)
def test_each_failure_has_its_own_sentence(
    shell: str, resources: str, sentence: str, run_workflow: WorkflowRunner
) -> None:
    """Cause, machine, cost, peak memory and the end of the log are in what the user reads."""
    text = f'rule one:\n    output: "o"\n    resources: {resources}\n    shell: """{shell}"""\n'
    run = run_workflow({"Snakefile": text if resources else text.replace("    resources: \n", "")})

    assert run.returncode == 1
    assert sentence in run.output
    assert "cost $" in run.output
    assert "peak memory" in run.output
    assert "last words" in run.output


def test_a_full_disk_is_said_to_be_one(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """A job that fills the machine's disk reads which resource to raise, and to what it is now."""
    ec2_cloud.faults.small_disk(400)
    run = run_workflow(
        {
            "Snakefile": "rule one:\n    output: 'o'\n    resources: disk_mb=500\n"
            "    shell: 'echo last words; head -c 2G /dev/zero > {output}'\n"
        }
    )

    assert run.returncode == 1
    assert "the disk is full; raise its disk_mb (it is 500)" in run.output
    assert "cost $" in run.output


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
    run.until("cannot be stored here")
    time.sleep(3)
    folder.unlink()

    assert run.wait() == 0, run.output
    assert (folder / "o.txt").read_text() == "made\n"
    assert run.output.count("cannot be stored here") == 1
    assert len(launched_since(ec2_cloud, before)) == 1


@pytest.mark.parametrize("line", ["launched", "staged", "running", "finished"])
def test_a_cut_costs_no_more_than_its_length(
    line: str, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """In each phase: connections end, new ones are refused for 5 s, the same machine goes on."""
    before = list(ec2_cloud.machine_states())
    run_workflow.place(
        {"Snakefile": "rule one:\n    output: 'o.txt'\n    shell: 'sleep 2; echo made > {output}'\n"}
    )
    run = watched(run_workflow)
    run.until(line)
    wait_for(lambda: launched_since(ec2_cloud, before))
    (machine,) = launched_since(ec2_cloud, before)
    ec2_cloud.faults.refuse(machine, 5)
    ec2_cloud.faults.cut(machine)

    assert run.wait() == 0, run.output
    assert (run_workflow.folder / "o.txt").read_text() == "made\n"
    assert launched_since(ec2_cloud, before) == [machine]


def test_more_memory_is_a_bigger_machine(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """`--retries` with growing mem_mb: the second attempt's machine has more memory than the first's."""
    before = list(ec2_cloud.machine_states())
    run = run_workflow(
        {
            "Snakefile": "rule one:\n    output: 'o'\n"
            "    resources: mem_mb=lambda wildcards, attempt: 2000 if attempt == 1 else 60000\n"
            "    shell: 'test {resources.mem_mb} -gt 2000 && touch {output}'\n"
        },
        "--retries",
        "1",
    )

    assert run.returncode == 0, run.output
    new = [each for each in ec2_cloud.instances() if each["id"] not in before]
    assert len({each["type"] for each in new}) == 2
