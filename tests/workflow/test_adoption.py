"""A controller that is killed loses nothing: the next call goes on, and exactly one machine works."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from snakemake_executor_ec2.local.client import ControlError
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.chaos.witness import END, WAIT, Witness
from tests.workflow.killing import (
    COUNTED,
    WAYS,
    alive,
    launched_since,
    most_at_a_time,
    starts,
    wait_for,
    watched,
)

AGAIN = "--rerun-incomplete"


@WAYS
@pytest.mark.parametrize(
    ("line", "machines"),
    [
        ("Select jobs", 2),  # launching
        pytest.param("launched", 2, marks=pytest.mark.slow),  # booting
        ("unpack", 2),  # staging in
        ("staged", 2),  # preparing
        ("running", 1),
        pytest.param("finished", 1, marks=pytest.mark.slow),  # staging out
        ("retrieved", 1),  # terminating: the results are here
    ],
)
def test_sigkill_in_every_phase(
    line: str, machines: int, direct: str, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """The second call of the same command adopts what runs or has finished, and ends the rest: the job
    is completed once, and never are there two machines for it at a time."""
    before = list(ec2_cloud.machine_states())
    ec2_cloud.forget_calls()
    with Witness() as seen:
        run_workflow.place(
            {
                "Snakefile": "rule one:\n    input: 'in.txt'\n    output: 'o.txt'\n"
                f"    shell: '{seen.begin('one')}; sleep 4; cp {{input}} {{output}}; {END}'\n"
            }
        )
        with (run_workflow.folder / "in.txt").open("wb") as file:
            file.truncate(100_000_000)  # takes a moment to be staged in
        first = watched(run_workflow, AGAIN, "--ec2-direct", direct, "--verbose")
        if line == "unpack":
            first.until("launched")
            (machine,) = launched_since(ec2_cloud, before)
            wait_for(lambda: _unpacks(ec2_cloud, machine))
        else:
            first.until(line)
        first.kill()

        second = watched(run_workflow, AGAIN, "--ec2-direct", direct)
        assert second.wait() == 0, second.output

    assert seen.done() == ["one"]
    assert not seen.overlaps()
    assert (run_workflow.folder / "o.txt").stat().st_size == 100_000_000
    assert len(launched_since(ec2_cloud, before)) <= machines, second.output
    assert most_at_a_time(ec2_cloud) == 1
    wait_for(lambda: not alive(ec2_cloud))
    assert "LockException" not in second.output


def _unpacks(cloud: EmbeddedCloud, machine: str) -> bool:
    """Whether files arrive on a machine right now."""
    try:
        return cloud.faults.shell(machine, "pgrep -f '[a]gent.pyz unpack'")[0] == 0
    except ControlError:  # it has no host yet
        return False


def test_a_running_job_is_adopted_without_any_option(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """After a SIGKILL the very same command goes on, also where the Snakefile names the folder that it
    works in: no --unlock, nothing is launched."""
    before = list(ec2_cloud.machine_states())
    run_workflow.place(
        {"Snakefile": "workdir: 'below'\n" + COUNTED["Snakefile"], "below/in.txt": COUNTED["in.txt"]}
    )
    first = watched(run_workflow)
    first.until("running rule one")
    first.kill()

    second = watched(run_workflow)
    assert second.wait() == 0, second.output

    assert "resuming rule one" in second.output
    assert len(launched_since(ec2_cloud, before)) == 1
    assert starts(run_workflow.folder / "below") == 1


def test_a_job_that_snakemake_could_not_note(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """Its results are here, touched, and Snakemake has no room to say so (a full disk): the next call has
    nothing run again."""
    before = list(ec2_cloud.machine_states())
    run_workflow.place(
        {
            "Snakefile": "rule one:\n    output: 'o.txt', directory('tree')\n"
            "    shell: 'sleep 2; mkdir tree; echo a | tee tree/a > o.txt'\n"
        }
    )
    first = watched(run_workflow)
    first.until("running rule one")
    notes = run_workflow.folder / ".snakemake/metadata"
    notes.rename(notes.with_name("aside"))
    notes.touch()  # where its notes belong, they do not go
    assert first.wait() == 1
    assert "Error recording metadata" in first.output
    notes.unlink()
    notes.with_name("aside").rename(notes)

    second = watched(run_workflow, AGAIN)

    assert second.wait() == 0, second.output
    assert "have been fetched already, by an earlier run" in second.output
    assert len(launched_since(ec2_cloud, before)) == 1
    assert (run_workflow.folder / "tree/a").read_text() == "a\n"


@pytest.mark.parametrize("ends", [pytest.param("Ctrl-C", marks=pytest.mark.slow), "Snakemake breaks down"])
def test_results_that_have_no_room_when_the_run_ends(
    ends: str, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """They stay on their machine, and the next call fetches them: nothing is run again."""
    before = list(ec2_cloud.machine_states())
    run_workflow.place(
        {
            "Snakefile": "rule all:\n    input: 'quick/o.txt', 'slow.txt'\n"
            "rule quick:\n    output: 'quick/o.txt'\n    shell: 'sleep 2; date +%s%N > {output}'\n"
            "rule slow:\n    output: 'slow.txt'\n    shell: 'sleep 12; date > {output}'\n"
        }
    )
    folder, notes = run_workflow.folder / "quick", run_workflow.folder / ".snakemake/metadata"
    first = watched(run_workflow)
    first.until("running rule quick")
    notes.rename(notes.with_name("aside"))
    for path in (folder, notes):
        path.touch()  # nothing can be stored where a folder should be
    first.until("rule quick cannot be stored on your computer")
    if ends == "Ctrl-C":
        first.interrupt()
    assert first.wait() == 1
    assert "keeps the results" in first.output
    assert len(alive(ec2_cloud)) == 1
    for path in (folder, notes):
        path.unlink()
    notes.with_name("aside").rename(notes)

    second = watched(run_workflow, AGAIN)

    assert second.wait() == 0, second.output
    assert "resuming rule quick" in second.output
    launched = len(launched_since(ec2_cloud, before))
    assert launched == (3 if ends == "Ctrl-C" else 2)
    wait_for(lambda: not alive(ec2_cloud))


def test_another_s_lock_is_left_alone(run_workflow: WorkflowRunner) -> None:
    """Only lock files of our own dead runs are removed: another Snakemake's still hold."""
    run_workflow.place(COUNTED)
    locks = run_workflow.folder / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("o.txt\n")

    run = watched(run_workflow)

    assert run.wait() == 1
    assert "lock" in run.output.lower()
    assert (locks / "0.output.lock").exists()


def test_a_changed_rule_is_not_given_an_old_job_s_results(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """Where the rule's code was edited in between, the old job's machine ends and a new one is taken."""
    run_workflow.place(COUNTED)
    first = watched(run_workflow)
    first.until("running rule one")
    first.kill()
    run_workflow.place(
        {
            "Snakefile": "rule one:\n    input: 'in.txt'\n    output: 'o.txt'\n"
            "    shell: 'echo new > {output}'\n"
        }
    )

    second = watched(run_workflow, AGAIN)

    assert second.wait() == 0, second.output
    assert (run_workflow.folder / "o.txt").read_text() == "new\n"
    wait_for(lambda: not alive(ec2_cloud))


@WAYS
def test_detached_jobs_work_on_and_are_fetched_by_the_next_call(
    direct: str, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """--ec2-detach: Ctrl-C leaves the machine, its job ends alone, the same command fetches the results."""
    before = list(ec2_cloud.machine_states())
    # Long enough for Ctrl-C to come while it runs, however busy this computer is.
    longer = {**COUNTED, "Snakefile": COUNTED["Snakefile"].replace("sleep 4", "sleep 10")}
    run_workflow.place(longer)
    first = watched(run_workflow, "--ec2-detach", "--ec2-direct", direct)
    first.until("running rule one")
    first.interrupt()
    assert first.wait() != 0
    assert "is not terminated" in first.output, first.output
    assert len(alive(ec2_cloud)) == 1
    time.sleep(10)  # it ends while nobody is there

    second = watched(run_workflow, "--ec2-detach", "--ec2-direct", direct)

    assert second.wait() == 0, second.output
    assert len(launched_since(ec2_cloud, before)) == 1
    assert starts(run_workflow.folder) == 1


@pytest.mark.parametrize(
    ("jobs", "stopped_s"),
    [(6, 5), pytest.param(50, 120, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
)
def test_a_stopped_controller_collects_everything(
    jobs: int, stopped_s: float, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """Jobs that end while the controller is stopped (SIGSTOP) are all collected after SIGCONT."""
    names = [str(number) for number in range(jobs)]
    before = list(ec2_cloud.machine_states())
    ec2_cloud.faults.quota("L-1216C47A", 1000)
    with Witness() as seen:
        begin = seen.begin("{wildcards.n}")
        run_workflow.place(
            {
                "Snakefile": f"rule all:\n    input: expand('{{n}}.txt', n={names})\n"
                "rule one:\n    output: '{n}.txt'\n"
                f"    shell: '{begin}; {WAIT}; echo {{wildcards.n}} > {{output}}; {END}'\n"
            }
        )
        run = watched(run_workflow, jobs=jobs)
        wait_for(lambda: len(seen.stays) == jobs or run.process.poll() is not None, timeout_s=900)
        os.kill(run.process.pid, signal.SIGSTOP)
        stopped_at = time.monotonic()
        seen.gate.set()
        wait_for(lambda: len(seen.done()) == jobs)
        time.sleep(max(0.0, stopped_at + stopped_s - time.monotonic()))
        os.kill(run.process.pid, signal.SIGCONT)
        continued_at = time.monotonic()

        assert run.wait(timeout_s=600) == 0, run.output
    print(f"all {jobs} collected {time.monotonic() - continued_at:.0f} s after SIGCONT")
    assert [(run_workflow.folder / f"{n}.txt").read_text().strip() for n in names] == names
    assert len(launched_since(ec2_cloud, before)) == jobs
    assert sorted(seen.done(), key=int) == names


def test_the_journal_is_its_owner_s_and_forgets_the_key(run_workflow: WorkflowRunner) -> None:
    """The journal can be read by its owner only, and after a clean run holds no private key."""
    run = run_workflow({"Snakefile": "rule one:\n    output: 'o'\n    shell: 'touch o'\n"})

    path = Path(run.folder, ".snakemake/ec2/journal.sqlite")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"PRIVATE KEY" not in path.read_bytes()
    with sqlite3.connect(path) as db:
        ((ending, usd, seconds),) = db.execute("SELECT end_reason, usd, seconds FROM attempts").fetchall()
    assert ending == "done"
    assert usd > 0
    assert "stage out" in seconds
