"""A run with exactly the package's IAM policy, and without each of its statements and permissions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import snakemake_executor_ec2
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRun, WorkflowRunner
from tests.workflow.shell import Shell
from tests.workflow.test_spine import FILES

pytestmark = pytest.mark.usefixtures("no_groups_of_others")

POLICY = json.loads((Path(snakemake_executor_ec2.__file__).parent / "aws/policy.json").read_text())
STATEMENTS = {each["Sid"]: each for each in POLICY["Statement"]}

# What a run says without a statement. Those that it goes on without:
FALLBACKS = {
    "PricesAndLimits": (
        "are used: the AWS credentials do not have the permission pricing:GetProducts",
        "until EC2 refuses a launch because of one: the AWS credentials do not have the permission "
        "servicequotas:GetServiceQuota",
    ),
    "NewestImage": (
        "is found by its image's name: the AWS credentials do not have the permission ssm:GetParameter",
    ),
}
# And those that it fails without:
FAILS = {
    "Look": "ec2:DescribeSubnets",
    "MakeWithTag": "ec2:CreateSecurityGroup",
    "MakeFrom": "ec2:CreateSecurityGroup",
    "TagWhatIsMade": "ec2:CreateTags",
    "UseAndEndOwn": "ec2:AuthorizeSecurityGroupIngress",
}

# Tags are made by the launch itself; the others are asked for when something has gone wrong, or by
# `snakemake-ec2 ps`.
_NOT_ON_THE_MAIN_PATH = {
    "ec2:CreateTags",
    "ec2:DescribeInstanceStatus",
    "ec2:DescribeSecurityGroups",
    "ec2:GetConsoleOutput",
}


@pytest.fixture
def cloud(ec2_cloud: EmbeddedCloud) -> Iterator[EmbeddedCloud]:
    """A cloud on which everything is allowed again afterwards."""
    yield ec2_cloud
    ec2_cloud.allow(None)


def _run(cloud: EmbeddedCloud, folder: Path, statements: list[dict[str, Any]], **options: Any) -> WorkflowRun:
    cloud.allow(json.dumps({**POLICY, "Statement": statements}))
    # Of its own: prices are kept on disk for a day.
    env = {"SNAKEMAKE_EC2_CACHE": str(folder / "cache")}
    (folder / "run").mkdir()
    return WorkflowRunner(cloud, folder / "run")(FILES, "--ec2-spot", "prefer", env=env, **options)


def _actions(statement: dict[str, Any]) -> list[str]:
    named = statement["Action"]
    return [named] if isinstance(named, str) else list(named)


def _refused(cloud: EmbeddedCloud) -> list[str]:
    """The actions that were not allowed."""
    codes = ("UnauthorizedOperation", "AccessDeniedException", "AccessDenied")
    return [call["action"] for call in cloud.calls() if call["error"] in codes]


def _without(action: str, sid: str) -> list[dict[str, Any]]:
    """The policy, with one action taken out of one statement."""
    rows = []
    for row in POLICY["Statement"]:
        left = [each for each in _actions(row) if row["Sid"] != sid or each != action]
        rows += [{**row, "Action": left}] if left else []
    return rows


def test_the_policy_is_enough(cloud: EmbeddedCloud, tmp_path: Path, shell: Shell) -> None:
    """No call of a run on spot machines is refused; each permission is one action's, and is used."""
    cloud.forget_calls()
    before = set(cloud.machine_states())

    run = _run(cloud, tmp_path, POLICY["Statement"])

    assert run.returncode == 0, run.output
    assert "permission" not in run.output
    launched = [each for each in cloud.instances() if each["id"] not in before]
    assert {each["market"] for each in launched} == {"spot"}
    assert _refused(cloud) == []
    asked = {f"{call['service']}:{call['action']}" for call in cloud.calls()}
    allowed = {action for row in POLICY["Statement"] for action in _actions(row)}
    assert not [action for action in allowed if "*" in action]
    assert allowed - asked == _NOT_ON_THE_MAIN_PATH
    assert shell.groups() == {}


def test_the_policy_is_enough_to_kill_and_to_tidy_up(
    cloud: EmbeddedCloud, tmp_path: Path, shell: Shell
) -> None:
    """After a run that was killed, `kill` ends one of its machines and `gc` the others and the group."""
    cloud.allow(json.dumps(POLICY))
    cloud.forget_calls()
    runner = WorkflowRunner(cloud, tmp_path)
    sleeps = "rule one:\n    output: '{n}'\n    shell: 'sleep 600; touch {output}'\n"
    runner.place({"Snakefile": f"rule all:\n    input: 'a', 'b'\n{sleeps}"})
    before = set(cloud.machine_states())
    process = runner.start()
    try:
        deadline = time.monotonic() + 120
        while True:
            new = [each for each in cloud.instances() if each["id"] not in before]
            if sum(each["state"] == "running" and bool(each["connections"]) for each in new) == 2:
                break
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        process.kill()
        process.communicate()
    shell(tmp_path, "ps")
    shell(tmp_path, "kill", new[0]["id"])
    shell(tmp_path, "gc", "--yes")

    states = cloud.machine_states()
    assert all(states[each["id"]] in ("shutting-down", "terminated") for each in new)
    assert shell.groups() == {}
    assert _refused(cloud) == []


@pytest.mark.parametrize("sid", STATEMENTS)
def test_without_a_statement(sid: str, cloud: EmbeddedCloud, tmp_path: Path, shell: Shell) -> None:
    """The run goes on, and says what it does instead; or it names what is missing, and has no machine."""
    before = set(cloud.machine_states())

    run = _run(cloud, tmp_path, [each for name, each in STATEMENTS.items() if name != sid])

    assert "Traceback" not in run.output
    if sid in FALLBACKS:
        assert run.returncode == 0, run.output
        for words in FALLBACKS[sid]:
            assert run.output.count(words) == 1, run.output
    else:
        assert run.returncode == 1, run.output
        assert f"the AWS credentials do not have the permission {FAILS[sid]}" in run.output, run.output
        assert set(cloud.machine_states()) == before
    cloud.allow(None)
    _remove_groups(shell)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sid", "action"),
    [
        ("MakeWithTag", "ec2:RunInstances"),
        ("MakeFrom", "ec2:RunInstances"),
        ("UseAndEndOwn", "ec2:RunInstances"),
        ("UseAndEndOwn", "ec2:AuthorizeSecurityGroupIngress"),
        ("UseAndEndOwn", "ec2:TerminateInstances"),
        ("Look", "ec2:DescribeInstances"),
        ("Look", "ec2:DescribeInstanceTypes"),
    ],
)
def test_without_one_action(
    sid: str, action: str, cloud: EmbeddedCloud, tmp_path: Path, shell: Shell
) -> None:
    """As without a statement: what is missing is named, and no machine is left."""
    run = _run(cloud, tmp_path, _without(action, sid))

    assert "Traceback" not in run.output
    assert f"the AWS credentials do not have the permission {action}" in run.output, run.output
    assert set(cloud.machine_states().values()) <= {"terminated", "shutting-down"}
    cloud.allow(None)
    _remove_groups(shell)


def _remove_groups(shell: Shell) -> None:
    for group in shell.groups():
        shell.ec2.delete_security_group(GroupId=group)
