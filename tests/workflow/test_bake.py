"""`snakemake-ec2 bake`: an image is made, a run starts from it and installs nothing, and nothing is left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import snakemake_executor_ec2
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.shell import Shell
from tests.workflow.test_policy import POLICY, _actions

POLICY_BAKE = json.loads((Path(snakemake_executor_ec2.__file__).parent / "aws/policy-bake.json").read_text())

SNAKEFILE = """
rule one:
    output: "out.txt", "seen.txt"
    run:
        shell("tool > {output[0]}")
        shell("(cat ~/setups; ls -A ~/.snakemake-ec2; wc -l < ~/.ssh/authorized_keys) > {output[1]}")
"""
SETUP = """
printf '#!/bin/sh\\necho made by the setup script\\n' | sudo tee /usr/local/bin/tool > /dev/null
sudo chmod 755 /usr/local/bin/tool
echo once >> ~/setups
sudo touch /tmp/from-the-setup-script
"""
FILES = {"Snakefile": SNAKEFILE, "setup.sh": SETUP}
OPTIONS = ("--ec2-setup", "setup.sh")


def _bake(cloud: EmbeddedCloud, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return _command(cloud, folder, "bake", *arguments)


def _command(cloud: EmbeddedCloud, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    program = "import sys; from snakemake_executor_ec2.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=cloud.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(autouse=True)
def allowed(ec2_cloud: EmbeddedCloud, no_groups_of_others: None) -> Iterator[None]:
    """Everything is allowed again afterwards."""
    yield
    ec2_cloud.allow(None)


def _images(shell: Shell) -> list[Any]:
    rows: list[Any] = shell.ec2.describe_images(Owners=["self"])["Images"]
    return rows


def _snapshots(shell: Shell) -> list[Any]:
    rows = shell.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    return [each for each in rows if each.get("Tags")]


def test_a_run_starts_from_the_baked_image(
    ec2_cloud: EmbeddedCloud, run_workflow: WorkflowRunner, shell: Shell
) -> None:
    """The setup script ran once, when the image was made, and what it installed is there; what the first
    machine was is not in the image. Deleted, nothing is left of it. The policies are enough for all that."""
    run_workflow.place(FILES)
    ec2_cloud.allow(json.dumps({**POLICY, "Statement": POLICY["Statement"] + POLICY_BAKE["Statement"]}))
    ec2_cloud.forget_calls()

    baking = _bake(ec2_cloud, run_workflow.folder, *OPTIONS)
    said, _ = baking.communicate(timeout=120)
    assert baking.returncode == 0, said
    (image,) = _images(shell)
    before = set(ec2_cloud.machine_states())
    run = run_workflow(FILES, *OPTIONS)
    listed = shell(run.folder, "bake", "--list")
    shell(run.folder, "bake", "--delete", image["ImageId"])
    calls = ec2_cloud.calls()
    ec2_cloud.allow(None)

    assert f"{image['ImageId']} ({image['Name']}) is available" in said
    assert "do not run the script again" in said
    assert run.returncode == 0, run.output
    assert f"machines start from your image {image['ImageId']}" in run.output
    launches = [each["params"]["ImageId"] for each in calls if each["action"] == "RunInstances"]
    assert launches[1:] == [image["ImageId"]] * len(set(ec2_cloud.machine_states()) - before)
    assert (run.folder / "out.txt").read_text() == "made by the setup script\n"
    seen = (run.folder / "seen.txt").read_text().split()
    assert (seen[0], seen[-1]) == ("once", "2")  # the login key, and who vouches for other machines
    assert "once" not in seen[1:]
    assert not {"setup.sh", "software.log", "host-key"} & set(seen)
    assert image["ImageId"] in listed
    assert "Snakemake " in listed
    assert [each["action"] for each in calls if each["error"] == "UnauthorizedOperation"] == []
    asked = {f"{each['service']}:{each['action']}" for each in calls}
    wanted = {action for row in POLICY_BAKE["Statement"] for action in _actions(row)}
    assert wanted - asked == {"ec2:CreateTags"}
    assert _images(shell) == _snapshots(shell) == []
    assert shell.groups() == {}


@pytest.mark.slow
def test_an_interrupted_bake_leaves_nothing(ec2_cloud: EmbeddedCloud, shell: Shell, tmp_path: Path) -> None:
    """Neither its machine nor the image that EC2 is making."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    baking = _bake(ec2_cloud, tmp_path, *OPTIONS)
    deadline = time.monotonic() + 120
    while not _images(shell):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    baking.send_signal(signal.SIGTERM)
    said, _ = baking.communicate(timeout=60)

    assert baking.returncode == 1, said
    assert "no image was made: cancelled" in said
    assert _images(shell) == _snapshots(shell) == []
    assert shell.groups() == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sid", "action"),
    [
        ("BakeFromOwn", "ec2:CreateImage"),
        ("BakeWithTag", "ec2:CreateImage"),
        ("TagWhatIsBaked", "ec2:CreateTags"),
    ],
)
def test_a_bake_without_a_permission(
    sid: str, action: str, ec2_cloud: EmbeddedCloud, shell: Shell, tmp_path: Path
) -> None:
    """What is missing is named before anything is installed, and its machine ends."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    rows = [row for row in POLICY["Statement"] + POLICY_BAKE["Statement"] if row["Sid"] != sid]
    ec2_cloud.allow(json.dumps({**POLICY, "Statement": rows}))

    baking = _bake(ec2_cloud, tmp_path)
    said, _ = baking.communicate(timeout=60)
    ec2_cloud.allow(None)

    assert baking.returncode == 1, said
    assert f"do not have the permission {action}" in said
    assert _images(shell) == _snapshots(shell) == []


@pytest.mark.slow
def test_a_killed_bake_is_tidied_up(ec2_cloud: EmbeddedCloud, shell: Shell, tmp_path: Path) -> None:
    """Its machine is in the journal, and an orphan: `ps` shows it, `gc` ends it with its security group. The
    image, which was clean when it was begun, is finished by EC2 alone, and `plan` counts on it."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    baking = _bake(ec2_cloud, tmp_path)
    deadline = time.monotonic() + 120
    while not _images(shell):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    baking.kill()
    baking.communicate()

    listed = shell(tmp_path, "ps")
    ended = shell(tmp_path, "gc", "--yes")

    assert "bake (x86_64)  orphan: its run is dead and no job works on it" in listed
    assert "ended: 1 machines, 1 security groups" in ended
    while _images(shell)[0]["State"] == "pending":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (image,) = _images(shell)
    assert image["State"] == "available"
    planned = _command(ec2_cloud, tmp_path, "plan").communicate(timeout=60)[0]
    assert f"machines start from your image {image['ImageId']}" in planned
    shell(tmp_path, "bake", "--delete", "--all", "--yes")
    assert _images(shell) == _snapshots(shell) == []
