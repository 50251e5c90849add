"""Machines that are launched before their jobs are ready, in whole runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import Watched, alive, launched_since, wait_for, watched

_CHAIN = {
    "Snakefile": "rule b:\n    input: 'a.txt'\n    output: 'b.txt'\n    shell: 'cat {input} > {output}'\n"
    "rule a:\n    input: 'seconds'\n    output: 'a.txt'\n"
    "    shell: 'sleep $(cat {input}); date > {output}'\n",
    "seconds": "1\n",
}
_OPTIONS = ("--ec2-reuse", "never", "--rerun-incomplete")


def is_ready(runner: WorkflowRunner) -> bool:
    """Whether a machine waits that was launched ahead."""
    with closing(sqlite3.connect(runner.folder / ".snakemake/ec2/journal.sqlite")) as journal:
        (number,) = journal.execute("SELECT count(*) FROM attempts WHERE end_reason='not used'").fetchone()
    return bool(number)


def kill_when_booting(call: Watched, _: WorkflowRunner) -> None:
    call.until("for rule b, ahead")
    call.kill()


def kill_when_ready(call: Watched, runner: WorkflowRunner) -> None:
    wait_for(lambda: is_ready(runner))
    call.kill()


def kill_when_used(call: Watched, _: WorkflowRunner) -> None:
    call.until("running rule b")  # on the machine that was launched ahead of it, as no other one is there
    call.kill()


@pytest.mark.parametrize(
    "kill",
    [
        kill_when_ready,
        pytest.param(kill_when_booting, marks=pytest.mark.slow),
        pytest.param(kill_when_used, marks=pytest.mark.slow),
    ],
)
def test_a_second_run(kill: object, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """It knows how long rules take, and launches the next one's machine in time. If it is killed then, the
    next call ends what it has left; in the end nothing is."""
    before = list(ec2_cloud.machine_states())
    first = run_workflow(_CHAIN, *_OPTIONS)
    assert first.returncode == 0, first.output
    assert "ahead of their jobs: 1, used: 1, cost of waiting: $0.0" in first.output
    assert len(launched_since(ec2_cloud, before)) == 2

    run_workflow.place({"seconds": "8\n"})
    second = watched(run_workflow, *_OPTIONS, "--forceall")
    second.until("running rule a")
    assert callable(kill)
    kill(second, run_workflow)
    third = watched(run_workflow, *_OPTIONS)
    assert third.wait() == 0, third.output
    wait_for(lambda: not alive(ec2_cloud))
    left = "ending 1 machine that run" in third.output
    assert left == (kill is not kill_when_used)
    assert f"resuming rule {'a' if left else 'b'}" in third.output
    assert (run_workflow.folder / "b.txt").read_text() == (run_workflow.folder / "a.txt").read_text()
