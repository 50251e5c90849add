"""The kit of `scripts/live` works on the embedded cloud, and refuses what it must not do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from tests.live.account import TAG, Account
from tests.live.cases import CASES
from tests.workflow.killing import alive, wait_for
from tests.workflow.shell import Shell

ROOT = Path(__file__).parents[2]


def live(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.live", *arguments],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("names", [["staging"], pytest.param([*CASES], marks=pytest.mark.slow)])
def test_the_tests_pass_on_the_embedded_cloud(names: list[str], tmp_path: Path) -> None:
    """Each has a row with its figures, and nothing is left."""
    table = tmp_path / "results.md"
    done = live("--cloud", "local", "--mb", "5", "--table", str(table), "--only", *names)

    assert done.returncode == 0, done.stdout
    rows = {row.split()[1]: row for row in table.read_text().splitlines() if row.startswith("| ")}
    assert [*rows][2:] == [*names, "total"]
    assert all(re.search(r"\| ok +\|", rows[name]) for name in names)
    assert "Left behind: nothing" in table.read_text()


@pytest.mark.slow
def test_an_interrupted_kit_leaves_nothing(ec2_cloud: EmbeddedCloud, tmp_path: Path) -> None:
    """After Ctrl-C in the middle of a test, its machine is ended, and that is said."""
    before = set(ec2_cloud.machine_states())
    with subprocess.Popen(
        [sys.executable, "-m", "tests.live", "--yes", "--only", "abandoned"],
        cwd=ROOT,
        env={**os.environ, **ec2_cloud.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as kit:
        wait_for(lambda: set(alive(ec2_cloud)) - before)
        time.sleep(5)
        kit.send_signal(signal.SIGINT)
        output, _ = kit.communicate(timeout=120)

    assert kit.returncode == 1, output
    assert "Left behind: nothing" in output
    assert output.rstrip().endswith("interrupted")


def test_without_credentials_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence, and without a traceback."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    done = live("--yes", env={**nowhere, "AWS_EC2_METADATA_DISABLED": "true"})

    assert done.returncode == 1
    assert done.stdout.startswith("no AWS credentials were found")
    assert "scripts/live --cloud local" in done.stdout


def test_it_shows_the_account_before_it_does_anything(ec2_cloud: EmbeddedCloud) -> None:
    """Without --yes, nothing is launched."""
    before = len(ec2_cloud.machine_states())
    done = live(env=ec2_cloud.env)

    assert done.returncode == 2, done.stdout
    assert re.match(r"account \d+, arn:aws:.*; region us-east-1\n", done.stdout)
    assert "Add --yes" in done.stdout
    assert len(ec2_cloud.machine_states()) == before


def test_what_is_left_is_found(
    ec2_cloud: EmbeddedCloud, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A disk, a security group and a key pair of a kit; those of others are none of its business."""
    shell = Shell(ec2_cloud, monkeypatch, capfd)
    tags = [{"Key": TAG, "Value": "kit/one"}]
    others = [{"Key": TAG, "Value": "another/one"}]
    made = [
        shell.ec2.create_volume(
            AvailabilityZone="us-east-1a",
            Size=1,
            TagSpecifications=[{"ResourceType": "volume", "Tags": each}],
        )["VolumeId"]
        for each in (tags, others)
    ]
    group = shell.ec2.create_security_group(
        GroupName="left",
        Description="of a run",
        TagSpecifications=[
            {"ResourceType": "security-group", "Tags": [{"Key": "snakemake-ec2:run", "Value": "run-1"}]}
        ],
    )["GroupId"]
    account = Account(None, None)
    before = account.key_pairs()
    shell.ec2.create_key_pair(KeyName="forgotten")
    try:
        there, unseen = account.left("kit", {"run-1"}, before)
    finally:
        shell.ec2.delete_key_pair(KeyName="forgotten")
        shell.ec2.delete_security_group(GroupId=group)
        for volume in made:
            shell.ec2.delete_volume(VolumeId=volume)

    assert there == [f"security group {group}", f"volume {made[0]}", "key pair forgotten"]
    assert unseen == []


def test_with_the_product_s_policy_alone_it_says_what_it_did_not_look_at(
    ec2_cloud: EmbeddedCloud, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Rather than that nothing is left."""
    Shell(ec2_cloud, monkeypatch, capfd)
    ec2_cloud.allow((ROOT / "snakemake_executor_ec2/aws/policy.json").read_text())
    try:
        account = Account(None, None)
        assert account.machines("kit") == []
        found = account.left("kit", set(), account.key_pairs())
    finally:
        ec2_cloud.allow(None)

    assert found == ([], ["volumes (ec2:DescribeVolumes)", "key pairs (ec2:DescribeKeyPairs)"])
