"""However a run ends, no machine is left: the fixture `ec2_cloud` looks after every test."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import WAYS, alive

WORKFLOW = {
    "Snakefile": "rule one:\n    input: 'in.txt'\n    output: 'o.txt'\n"
    "    shell: 'sleep 3; cp {input} {output}'\n",
    "in.txt": "data",
    "setup.sh": "sleep 3\n",
}


def test_a_failing_job_ends_its_machine_and_keeps_its_log(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """A job's own failure is told with exit code, machine, cost and the end of what it printed."""
    run = run_workflow(
        {
            "Snakefile": "rule one:\n    output: 'o'\n    log: 'l.log'\n"
            "    shell: 'echo before; echo kept > {log}; exit 3'\n"
        }
    )

    assert run.returncode == 1
    assert "rule one failed on" in run.output
    assert "cost $" in run.output
    assert "before" in run.output
    assert (run.folder / "l.log").read_text() == "kept\n"
    assert len(ec2_cloud.machine_states()) >= 1


@WAYS
@pytest.mark.parametrize("line", ["Select jobs", "launched", "staged", "running", "finished"])
def test_ctrl_c_ends_the_machine_in_every_phase(line: str, direct: str, run_workflow: WorkflowRunner) -> None:
    """After Ctrl-C, whatever was under way, Snakemake ends soon with its own exit status."""
    more = ["--verbose"] if line == "staged" else []
    process = _started_until(run_workflow, line, "--ec2-direct", direct, *more)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)

    assert process.returncode == 1, output
    assert more or "Traceback" not in output  # `--verbose` has Snakemake print its own
    assert "Error in rule" not in output, "nothing failed"


@pytest.mark.parametrize("line", ["Select jobs", "launched", "running"])
def test_sigterm_ends_the_run_as_ctrl_c_does(line: str, run_workflow: WorkflowRunner) -> None:
    """Whatever is under way, scheduling as well: the machines end, and what ended the run is said."""
    process = _started_until(run_workflow, line)
    process.terminate()
    output, _ = process.communicate(timeout=60)

    assert process.returncode == 1, output
    assert "SIGTERM: it was told to end; the run ends as with Ctrl-C" in output
    assert "Traceback" not in output
    assert not (run_workflow.folder / "o.txt").exists()


def test_a_closed_window_ends_the_run(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """The terminal is gone: SIGHUP comes, and each write fails. The machine ends nevertheless, and
    Snakemake's log says why."""
    run_workflow.place(WORKFLOW)
    terminal, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--executor", "ec2", "--jobs", "4"],
        cwd=run_workflow.folder,
        env=ec2_cloud.environment(),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    seen = b""
    while b"running rule one" not in seen:
        seen += os.read(terminal, 65536)
    os.close(terminal)

    assert process.wait(60) == 1
    assert not alive(ec2_cloud)
    (log,) = (run_workflow.folder / ".snakemake/log").glob("*.log")
    assert "SIGHUP: its terminal was closed; the run ends as with Ctrl-C" in log.read_text()


def test_nohup_outlives_its_terminal(run_workflow: WorkflowRunner) -> None:
    """A SIGHUP that was ignored at the start ends nothing: the job is finished and fetched."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = _started_until(run_workflow, "running")
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    output, _ = process.communicate(timeout=60)

    assert process.returncode == 0, output
    assert (run_workflow.folder / "o.txt").read_text() == "data"


def test_a_killed_job_leaves_the_others_to_finish(run_workflow: WorkflowRunner) -> None:
    """One failing job does not take the machines of the others away before they are done, nor does
    one whose next attempt asks for what no machine has."""
    snakefile = (
        "rule all:\n    input: 'good.txt', 'bad.txt'\n"
        "rule good:\n    output: 'good.txt'\n    shell: 'sleep 6; touch {output}'\n"
        "rule bad:\n    output: 'bad.txt'\n    retries: 1\n"
        "    resources: mem_mb=lambda wildcards, attempt: 1000 if attempt == 1 else 10**9\n"
        "    shell: 'kill -9 $$'\n"
    )

    run = run_workflow({"Snakefile": snakefile})

    assert run.returncode == 1
    assert "rule bad failed on" in run.output
    assert "rule bad: needs mem_mb=1000000000" in run.output
    assert (run.folder / "good.txt").exists()


def _started_until(runner: WorkflowRunner, line: str, *arguments: str) -> subprocess.Popen[str]:
    """Snakemake, started and running up to a line of its output that contains some words."""
    runner.place(WORKFLOW)
    process = runner.start("--ec2-setup", "setup.sh", *arguments)
    assert process.stdout is not None
    seen = []
    for text in process.stdout:
        seen.append(text)
        if line in text:
            return process
    pytest.fail(f"{line!r} never came:\n{''.join(seen)}")


def test_nobody_has_to_read_what_is_told(run_workflow: WorkflowRunner) -> None:
    """`| head`: where the reader of the output leaves, the run goes on to its end, and succeeds."""
    process = _started_until(run_workflow, "running")
    assert process.stdout is not None
    process.stdout.close()

    assert process.wait(120) == 0
    assert (run_workflow.folder / "o.txt").read_text() == "data"


def test_the_folder_of_the_run_holds_the_job_s_output(run_workflow: WorkflowRunner) -> None:
    """What a job prints is kept on this computer, under .snakemake/ec2/logs."""
    run = run_workflow({"Snakefile": "rule one:\n    output: 'o'\n    shell: 'echo printed; touch o'\n"})

    logs = list(Path(run.folder, ".snakemake/ec2/logs").rglob("*.log"))
    assert len(logs) == 1
    assert "printed" in logs[0].read_text()


def test_a_deleted_folder_is_told_at_once(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """`rm -rf` of a live run's folder is no full disk: the run ends, and its machines with it."""
    process = _started_until(run_workflow, "running")
    shutil.rmtree(run_workflow.folder)
    output, _ = process.communicate(timeout=100)

    assert process.returncode == 1, output
    assert "was deleted during the run: no results can be stored there any more" in output
    assert not alive(ec2_cloud)


def test_a_journal_that_is_removed_keeps_nothing_waiting(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """`rm -rf .snakemake` under a live run: it is said, what runs ends, and no machine stays."""
    process = _started_until(run_workflow, "running")
    shutil.rmtree(run_workflow.folder / ".snakemake")
    output, _ = process.communicate(timeout=100)

    assert "was removed during the run" in output
    assert not alive(ec2_cloud), output
    assert (run_workflow.folder / "o.txt").read_text() == "data"
