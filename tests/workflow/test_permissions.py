"""The policy that docs/further.md shows is what a run needs, and not more."""

from __future__ import annotations

import json
from pathlib import Path

import snakemake_executor_ec2
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.test_spine import FILES

POLICY = Path(snakemake_executor_ec2.__file__).parent / "aws/policy.json"
_NEEDS_NONE = {"sts:GetCallerIdentity"}
# Tags are made by the launch itself; the others are asked for when something has gone wrong, or by
# `snakemake-ec2 ps`.
_NOT_ON_THE_MAIN_PATH = {
    "ec2:CreateTags",
    "ec2:DescribeImages",
    "ec2:DescribeInstanceStatus",
    "ec2:DescribeRegions",
    "ec2:DescribeSecurityGroups",
    "ec2:GetConsoleOutput",
}


def _allowed() -> set[str]:
    actions: set[str] = set()
    for statement in json.loads(POLICY.read_text())["Statement"]:
        named = statement["Action"]
        actions |= {named} if isinstance(named, str) else set(named)
    return actions


def test_a_run_asks_for_what_the_policy_allows(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """Each call is of an action that is allowed, without patterns, and each allowed one is used."""
    ec2_cloud.forget_calls()

    run = run_workflow(FILES, "--ec2-spot", "prefer")

    assert run.returncode == 0, run.output
    asked = {f"{call['service']}:{call['action']}" for call in ec2_cloud.calls()} - _NEEDS_NONE
    assert asked <= _allowed()
    assert not [action for action in _allowed() if "*" in action]
    assert _allowed() - asked <= _NOT_ON_THE_MAIN_PATH
