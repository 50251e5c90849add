"""`snakemake-ec2 ps | logs | ssh | kill | gc` on what live, dead and strange runs have on EC2."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import alive, launched_since, wait_for, watched
from tests.workflow.shell import Shell

LONG = {
    "Snakefile": "rule one:\n    output: 'o.txt'\n"
    "    shell: 'echo at work; sleep 900; echo {output} > {output}'\n"
}


@pytest.mark.usefixtures("no_groups_of_others")
def test_gc_ends_exactly_the_orphans(ec2_cloud: EmbeddedCloud, tmp_path: Path, shell: Shell) -> None:
    """Of a dead run's orphan, a detached job, a live run and two machines of strangers, it ends the orphan
    and the stranger whose lifetime is over; with the orphan go its security group and its run's key."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    ids: list[str] = []
    runs = []
    for folder, line, options in (
        (mine, "launched", ()),
        (mine / "detached", "running", ("--ec2-detach",)),
        (other, "running", ()),
    ):
        folder.mkdir()
        runner = WorkflowRunner(ec2_cloud, folder)
        runner.place(LONG)
        before: Sequence[str] = list(ec2_cloud.machine_states())
        run = watched(runner, *options)
        run.until(line)
        if line == "launched":
            run.kill()
        ids += launched_since(ec2_cloud, before)
        runs.append(run)
    _, detached, live = runs
    detached.interrupt()
    detached.wait()
    strangers = [_strangers_machine(shell, ids[0], expires) for expires in ("2099", "2025")]
    everything = sorted([*ids, *strangers])
    groups = shell.groups()
    assert len(groups) == 3
    assert sorted(alive(ec2_cloud)) == everything

    listed = shell(mine, "gc")
    assert f"{ids[0]} " in listed
    assert "its run is dead and no job works on it" in listed
    assert f"{strangers[1]} " in listed
    assert "found: 2 machines, 1 security groups" in listed
    assert sorted(alive(ec2_cloud)) == everything, "without --yes nothing ends"
    assert shell.groups() == groups
    assert _keys(mine) == 1

    assert "ended: 2 machines, 1 security groups" in shell(mine, "gc", "--yes")
    assert sorted(alive(ec2_cloud)) == sorted([ids[1], ids[2], strangers[0]])
    assert set(shell.groups()) < set(groups)
    assert len(shell.groups()) == 2
    assert _keys(mine) == 0
    for folder in (mine / "detached", other):
        collected = shell(folder, "gc", "--yes")
        assert "ended: 0 machines, 0 security groups" in collected
        assert (f"`snakemake-ec2 kill {ids[1]}` ends it" in collected) == (folder != other)
        assert _keys(folder) == 1

    (row,) = [line for line in shell(other, "ps").splitlines() if ids[2] in line]
    assert row.startswith(f"{ids[2]}  rule one  run  ")
    assert "  12 hours, renewed  " in row
    assert ids[1] not in shell(mine, "ps")
    watched_once = shell(other, "watch")
    assert "jobs: 1 under way; machines: 1" in watched_once
    assert "rule one  runs" in watched_once
    assert "\x1b" not in watched_once
    everyone = shell(mine, "ps", "--all")
    assert all(each in everyone for each in (ids[1], ids[2], strangers[0]))
    assert ids[2] in shell(mine, "ps", "--mine")
    assert strangers[0] not in shell(mine, "ps", "--mine")

    assert f"terminated {ids[1]} of rule one" in shell(mine / "detached", "kill", "rule one")
    live.interrupt()
    live.wait()
    shell.ec2.terminate_instances(InstanceIds=[strangers[0]])
    wait_for(lambda: not alive(ec2_cloud))
    assert "ended: 0 machines, 0 security groups" in shell(mine / "detached", "gc", "--yes")
    assert shell.groups() == {}, "that of a machine that was killed went with it"
    assert _keys(mine / "detached") == 0


@pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH is not installed")
def test_a_failed_job_s_machine_is_kept_for_a_look(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, shell: Shell
) -> None:
    """--ec2-keep-failed: its log is here, `ssh` leads to it as the right user and to nothing else, `ps`
    shows it, `gc` leaves it alone and `kill` ends it: in the run's region, which is not the usual one."""
    run = run_workflow(
        {"Snakefile": "rule one:\n    output: 'o'\n    shell: 'echo printed; echo left > look; exit 3'\n"},
        "--ec2-keep-failed",
        "5",
        "--ec2-region",
        "eu-central-1",
    )
    assert run.returncode == 1
    assert "exit code 3" in run.output
    (machine,) = alive(ec2_cloud)
    assert f"is kept for 5 minutes; log in with snakemake-ec2 ssh {machine}" in run.output

    assert "printed" in shell(run.folder, "logs", "rule one").splitlines()
    assert shell(run.folder, "ssh", machine, "id -un; hostname").split()[0] == "ec2-user"
    assert shell(run.folder, "ssh", "rule one", "--", "cat", f"{run.folder}/look") == "left\n"
    shell(run.folder, "ssh", machine, "exit 7", status=7)
    ec2_cloud.faults.impostor(machine, None)
    shell(run.folder, "ssh", machine, "echo", "never", status=255)
    ec2_cloud.faults.impostor(machine, 0)
    assert shell(run.folder, "ssh", machine, "echo", "-n", "again") == "again"

    (row,) = shell(run.folder, "ps").splitlines()[1:]
    assert "  without a controller  " in row
    assert " minutes left  " in row
    collected = shell(run.folder, "gc", "--yes")
    assert "ended: 0 machines, 0 security groups in eu-central-1, us-east-1" in collected
    assert machine in shell(run.folder, "kill", machine)
    wait_for(lambda: not alive(ec2_cloud))
    shell(run.folder, "ssh", machine, status=1)


def _strangers_machine(shell: Shell, like: str, expires: str) -> str:
    """A machine of this tool, of a run on another computer, whose lifetime ends in a year."""
    tags = {
        "snakemake-ec2:run": f"{expires}0101-000000-abcdef",
        "snakemake-ec2:owner": "somebody else",
        "snakemake-ec2:expires-at": f"{expires}-01-01T00:00:00Z",
    }
    row = shell.described(like)
    answer = shell.ec2.run_instances(
        ImageId=row["ImageId"],
        InstanceType=row["InstanceType"],
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}
        ],
    )
    return str(answer["Instances"][0]["InstanceId"])


def _keys(folder: Path) -> int:
    """How many runs of a folder still have their private key in its journal."""
    journal = Journal(folder, now=lambda: 0.0, warn=pytest.fail)
    try:
        return sum(run.login is not None for run in journal.runs(closed=True))
    finally:
        journal.close()
