"""`snakemake-ec2 stop` and `kill`: whatever happened before, one command ends what is billed."""

from __future__ import annotations

import fcntl
import json
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.model import Machine, Market
from snakemake_executor_ec2.records import whereabouts
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.fakes.records import begin, run_record
from tests.unit.machines.launchers import plan
from tests.workflow.killing import alive, wait_for, watched
from tests.workflow.shell import Shell

pytestmark = pytest.mark.usefixtures("no_groups_of_others")

CHAOS_CLOCK = Path(__file__).parents[1] / "chaos" / "clock"
LONG = {"Snakefile": "rule one:\n    output: 'o.txt'\n    shell: 'sleep 900; touch {output}'\n"}
TWO = {
    "Snakefile": "rule all:\n    input: 'a', 'b'\n"
    "rule one:\n    output: '{n}'\n    wildcard_constraints: n='[ab]'\n"
    "    shell: 'sleep 900; touch {output}'\n"
}


def test_without_a_journal(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, shell: Shell) -> None:
    """After `kill -9` and `rm -rf .snakemake`: this folder's machine is found by its tags and ended, with
    its security group; another folder's is not, and `--mine` ends that as well."""
    run_workflow.place(LONG)
    run = watched(run_workflow)
    run.until("running")
    run.kill()
    shutil.rmtree(run_workflow.folder / ".snakemake")
    (machine,) = alive(ec2_cloud)
    elsewhere = run_workflow.folder.parent / "elsewhere"
    elsewhere.mkdir()

    assert "nothing to end" in shell(elsewhere, "stop", "--yes")
    assert machine in shell(run_workflow.folder, "stop", status=1)
    assert alive(ec2_cloud) == [machine], "a question is asked, and nobody was there to answer"

    said = shell(run_workflow.folder, "stop", "--yes")
    assert f"terminated {machine} of one" in said
    assert "ended: 1 machines, 1 security groups" in said
    assert not alive(ec2_cloud)
    assert shell.groups() == {}


def test_a_run_that_lives(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, shell: Shell) -> None:
    """It is told to end, so that it starts nothing again; from elsewhere `--mine` ends machines alone."""
    run_workflow.place(TWO)
    run = watched(run_workflow)
    wait_for(lambda: run.output.count("running rule one") == 2)

    said = shell(run_workflow.folder, "stop", "--yes")

    assert "ending run " in said
    assert run.wait() == 1
    assert "SIGTERM: it was told to end" in run.output
    assert not alive(ec2_cloud)
    assert shell.groups() == {}


@pytest.mark.parametrize("command", [("stop", "--yes"), ("gc", "--yes")])
def test_one_protected_machine_keeps_no_other_alive(
    command: tuple[str, ...], run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, shell: Shell
) -> None:
    """EC2 refuses to end it (termination protection): the others end, and it is named."""
    run_workflow.place(TWO)
    run = watched(run_workflow)
    wait_for(lambda: run.output.count("launched ") == 2)
    run.kill()
    protected, other = alive(ec2_cloud)
    shell.ec2.modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": True})

    shell(run_workflow.folder, *command, status=1)

    assert alive(ec2_cloud) == [protected]
    assert other not in shell(run_workflow.folder, "ps")
    shell.ec2.modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": False})
    assert f"terminated {protected}" in shell(run_workflow.folder, "kill", protected)
    assert not alive(ec2_cloud)
    assert shell.groups() == {}


def test_kill_takes_only_machines_of_this_tool(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, shell: Shell
) -> None:
    """An id that is somebody else's is refused, also where a journal names it as ours."""
    image = shell.ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    answer = shell.ec2.run_instances(ImageId=image, InstanceType="m5.large", MinCount=1, MaxCount=1)
    stranger = answer["Instances"][0]["InstanceId"]
    folder = run_workflow.folder
    journal = Journal(folder, now=lambda: 1.0, warn=pytest.fail)
    journal.begin_run(
        run_record("r1", region="us-east-1", endpoint=shell.ec2.meta.endpoint_url, account=None)
    )
    attempt = begin(journal, "r1", plan("r1.1.1"))
    machine = Machine(
        id=stranger, instance_type="m5.large", zone="z", market=Market.ON_DEMAND, price=None, disk_gib=8,
        launched_at=1.0,
    )  # fmt: skip
    journal.close()
    with closing(sqlite3.connect(folder / ".snakemake/ec2/journal.sqlite")) as db, db:
        sql = "UPDATE machines SET machine=? WHERE id=(SELECT machine_id FROM attempts WHERE id=?)"
        db.execute(sql, (json.dumps(asdict(machine)), attempt))

    shell(folder, "kill", stranger, status=1)
    shell(folder, "kill", "rule align (r1.1.1)", status=1)
    shell(folder, "kill", "", status=1)
    shell(folder, "stop", "--yes")
    shell(folder, "stop", "--all", "--yes")

    assert stranger in ec2_cloud_alive(shell)
    shell.ec2.terminate_instances(InstanceIds=[stranger])


def ec2_cloud_alive(shell: Shell) -> list[str]:
    rows = shell.ec2.describe_instances()["Reservations"]
    return [
        each["InstanceId"]
        for row in rows
        for each in row["Instances"]
        if each["State"]["Name"] in ("pending", "running")
    ]


def test_machines_of_a_run_elsewhere(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, shell: Shell
) -> None:
    """From another folder, `ps --all` and `--mine` know that a run lives; where its folder cannot be
    looked into, they name it and claim nothing."""
    run_workflow.place(LONG)
    run = watched(run_workflow)
    run.until("running")
    elsewhere = run_workflow.folder.parent / "elsewhere"
    elsewhere.mkdir()

    for option in ("--all", "--mine"):
        (row,) = shell(elsewhere, "ps", option).splitlines()[1:]
        assert row.split("  ")[1:3] == ["rule one", "run"]
        assert "12 hours, renewed" in row
    assert shell(elsewhere, "ps").count("\n") == 1
    (run_workflow.folder / ".snakemake/ec2").rename(run_workflow.folder / "hidden")
    try:
        (row,) = shell(elsewhere, "ps", "--all").splitlines()[1:]
        assert "without a controller" not in row
        assert f":{run_workflow.folder}" in row
    finally:
        (run_workflow.folder / "hidden").rename(run_workflow.folder / ".snakemake/ec2")
    run.interrupt()
    run.wait()


def test_a_copy_of_a_live_run_s_folder(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, shell: Shell
) -> None:
    """`cp -a A B`, then a run in B: it runs on its own, ends nothing of A's and says so; A is finished."""
    workflow = {"Snakefile": "rule one:\n    output: 'o.txt'\n    shell: 'sleep 25; echo made > {output}'\n"}
    run_workflow.place(workflow)
    run = watched(run_workflow)
    run.until("running")
    (machine,) = alive(ec2_cloud)
    copy = run_workflow.folder.parent / "copy"
    subprocess.run(["cp", "-a", str(run_workflow.folder), str(copy)], check=True)

    (row,) = shell(copy, "ps", "--all").splitlines()[1:]
    assert "without a controller" not in row
    assert machine not in shell(copy, "gc")
    second = WorkflowRunner(ec2_cloud, copy)({})

    assert second.returncode == 0, second.output
    assert "1 machine of run" in second.output
    assert f"({machine}) are left alone" in second.output
    assert run.wait() == 0, run.output
    assert run.output.count("launched ") == 1
    for folder in (copy, run_workflow.folder):
        assert (folder / "o.txt").read_text() == "made\n"


def test_a_folder_that_was_moved(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """`mv A B` after a kill: it is the same folder, and its job is gone on with."""
    workflow = {"Snakefile": "rule one:\n    output: 'o.txt'\n    shell: 'sleep 15; echo made > {output}'\n"}
    run_workflow.place(workflow)
    run = watched(run_workflow)
    run.until("running")
    run.kill()
    moved = run_workflow.folder.parent / "moved"
    run_workflow.folder.rename(moved)

    again = WorkflowRunner(ec2_cloud, moved)({}, "--rerun-incomplete")

    assert again.returncode == 0, again.output
    assert "left alone" not in again.output
    assert (moved / "o.txt").read_text() == "made\n"


def test_a_closed_window_may_leave_jobs_at_work(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, shell: Shell
) -> None:
    """With --ec2-detach, SIGHUP leaves what Ctrl-C would; `stop` in the folder ends it."""
    run_workflow.place(LONG)
    run = watched(run_workflow, "--ec2-detach")
    run.until("running")
    (machine,) = alive(ec2_cloud)
    run.process.send_signal(signal.SIGHUP)
    assert run.wait() == 1
    assert alive(ec2_cloud) == [machine]
    (row,) = shell(run_workflow.folder, "ps").splitlines()[1:]
    assert "without a controller" in row

    assert f"terminated {machine} of rule one" in shell(run_workflow.folder, "stop", "--yes")
    assert not alive(ec2_cloud)
    assert shell.groups() == {}


def test_two_computers_with_one_folder(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks that end with the computer (`localflock`): on the other one a live run counts as alive, keeps
    Snakemake's own locks and its machines; `stop` there ends those, and says that the run starts again."""
    run_workflow.place(LONG)
    run = watched(run_workflow)
    run.until("running")
    (machine,) = alive(ec2_cloud)
    locks = sorted((run_workflow.folder / ".snakemake/locks").iterdir())

    other = run_workflow({}, env={"PYTHONPATH": str(CHAOS_CLOCK), "CHAOS_COMPUTER": "other"})

    assert other.returncode == 1
    assert "Directory cannot be locked" in other.output
    assert sorted((run_workflow.folder / ".snakemake/locks").iterdir()) == locks
    here = whereabouts.here
    monkeypatch.setattr(whereabouts, "here", lambda folder: replace(here(folder), host="other", boot="other"))
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    (row,) = shell(run_workflow.folder, "ps").splitlines()[1:]
    assert "12 hours, renewed" in row
    assert "ended: 0 machines, 0 security groups" in shell(run_workflow.folder, "gc", "--yes")
    assert alive(ec2_cloud) == [machine]
    said = shell(run_workflow.folder, "stop", "--yes")
    assert f"terminated {machine} of rule one; its run is alive (" in said
    run.until("was terminated from outside")
    run.interrupt()
    run.wait()
