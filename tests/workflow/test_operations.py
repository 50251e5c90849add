"""`snakemake-ec2 ps | logs | ssh | kill | gc` on what live, dead and strange runs have on EC2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import boto3
import pytest

from snakemake_executor_ec2.cli import main
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import alive, launched_since, wait_for, watched

LONG = {
    "Snakefile": "rule one:\n    output: 'o.txt'\n"
    "    shell: 'echo at work; sleep 60; echo {output} > {output}'\n"
}


@pytest.fixture
def run_command(
    ec2_cloud: EmbeddedCloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> object:
    """`snakemake-ec2` in a shell that points at the embedded cloud; what it printed."""
    for name in ec2_cloud.unset:
        monkeypatch.delenv(name, raising=False)
    for name, value in ec2_cloud.env.items():
        monkeypatch.setenv(name, value)

    def call(folder: Path, command: str, *arguments: str) -> str:
        assert main([command, "--directory", str(folder), *arguments]) == 0
        return capsys.readouterr().out

    return call


def test_gc_ends_exactly_the_orphans(ec2_cloud: EmbeddedCloud, tmp_path: Path, run_command: object) -> None:
    """Of a dead run's orphan, a detached job, a live run and a stranger's machine, gc ends the first."""
    assert callable(run_command)
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
    ids.append(_strangers_machine(ec2_cloud, ids[0]))
    assert sorted(alive(ec2_cloud)) == sorted(ids)

    assert f"{ids[0]} " in run_command(mine, "gc")
    assert sorted(alive(ec2_cloud)) == sorted(ids), "without --yes nothing ends"
    assert "ended: 1 machines" in run_command(mine, "gc", "--yes")
    assert sorted(alive(ec2_cloud)) == sorted(ids[1:])
    assert "ended: 0 machines" in run_command(mine / "detached", "gc", "--yes")
    assert "ended: 0 machines" in run_command(other, "gc", "--yes")

    listed = run_command(other, "ps")
    assert ids[2] in listed
    assert " run " in listed.split(ids[2])[1]
    assert "renewed" in listed
    assert ids[1] in run_command(mine, "ps", "--all")
    assert "terminated" in run_command(mine / "detached", "kill", ids[1])
    live.interrupt()
    live.wait()
    _end(ec2_cloud, ids[3])
    wait_for(lambda: not alive(ec2_cloud))
    assert "ended: 0 machines" in run_command(mine / "detached", "gc", "--yes")


def test_logs_shows_what_a_job_printed(run_workflow: WorkflowRunner, run_command: object) -> None:
    """A job is named by a part of its label; its log is what it printed on the machine."""
    assert callable(run_command)
    run = run_workflow({"Snakefile": "rule one:\n    output: 'o'\n    shell: 'echo printed; touch o'\n"})

    assert "printed" in run_command(run.folder, "logs", "rule one")


def test_a_failed_job_s_machine_is_kept_for_a_look(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, run_command: object
) -> None:
    """--ec2-keep-failed: the machine stays, ps shows it, ssh has its key, gc leaves it, kill ends it."""
    assert callable(run_command)
    run = run_workflow(
        {"Snakefile": "rule one:\n    output: 'o'\n    shell: 'exit 3'\n"}, "--ec2-keep-failed", "5"
    )

    assert run.returncode == 1
    assert "exit code" in run.output
    assert "is kept for 5 minutes: snakemake-ec2 ssh i-" in run.output
    (machine,) = alive(ec2_cloud)
    assert "minutes left" in run_command(run.folder, "ps")
    assert "ended: 0 machines" in run_command(run.folder, "gc", "--yes")
    assert machine in run_command(run.folder, "kill", machine)
    wait_for(lambda: not alive(ec2_cloud))


def _client(cloud: EmbeddedCloud) -> object:
    return boto3.client(
        "ec2",
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.env["AWS_DEFAULT_REGION"],
        aws_access_key_id=cloud.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=cloud.env["AWS_SECRET_ACCESS_KEY"],
    )


def _strangers_machine(cloud: EmbeddedCloud, like: str) -> str:
    """A machine of this tool, of a run on another computer, whose lifetime is not over."""
    ec2 = _client(cloud)
    row = ec2.describe_instances(InstanceIds=[like])["Reservations"][0]["Instances"][0]  # type: ignore[attr-defined]
    tags = [
        {"Key": "snakemake-ec2:run", "Value": "20260101-000000-abcdef"},
        {"Key": "snakemake-ec2:expires-at", "Value": "2099-01-01T00:00:00Z"},
    ]
    answer = ec2.run_instances(  # type: ignore[attr-defined]
        ImageId=row["ImageId"],
        InstanceType=row["InstanceType"],
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    return str(answer["Instances"][0]["InstanceId"])


def _end(cloud: EmbeddedCloud, machine: str) -> None:
    _client(cloud).terminate_instances(InstanceIds=[machine])  # type: ignore[attr-defined]
