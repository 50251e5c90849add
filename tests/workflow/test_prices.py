"""What a run may cost, and what happens where nobody says what things cost."""

from __future__ import annotations

import re

import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import launched_since

ONE = {"Snakefile": "rule one:\n    output: 'o.txt'\n    shell: 'echo made > o.txt'\n"}
NEW_TYPE = "m8azn.medium"
"""Newer than the prices that the embedded cloud has."""
SIX = {
    "Snakefile": "rule all:\n    input: expand('o{i}', i=range(6))\n"
    "rule one:\n    output: 'o{i}'\n    shell: 'touch {output}'\n"
}


def test_the_pricing_api_is_forbidden(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """A snapshot's prices do, and say of when they are; no catalogue either: a snapshot's types do."""
    for action in ("GetProducts", "DescribeInstanceTypes", "DescribeInstanceTypeOfferings"):
        ec2_cloud.faults.deny(action)

    run = run_workflow(ONE, env={"SNAKEMAKE_EC2_CACHE": str(run_workflow.folder.parent / "cache")})

    assert run.returncode == 0, run.output
    assert re.search(
        r"the prices of us-east-1 as of \d{4}-\d\d-\d\d are used: .*pricing:GetProducts", run.output
    )
    assert "a snapshot's list of instance types is used" in run.output
    assert "launched c7a.medium $0.05132/h" in run.output
    assert re.search(r"^Prices: us-east-1, \d{4}-\d\d-\d\d\.$", run.output, re.MULTILINE)


def test_a_type_whose_price_nobody_tells(run_workflow: WorkflowRunner) -> None:
    """No cost is made up for it."""
    run = run_workflow(ONE, "--ec2-instance-types", NEW_TYPE)

    assert run.returncode == 0, run.output
    assert f"launched {NEW_TYPE} at an unknown price" in run.output
    assert "No price is known for 1 of the machines." in run.output


def test_a_budget_without_prices(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """A budget that can't be kept is refused before anything is launched."""
    ec2_cloud.forget_calls()

    run = run_workflow(ONE, "--ec2-max-cost", "1", "--ec2-instance-types", NEW_TYPE)

    assert run.returncode == 1
    assert f"--ec2-max-cost can't be kept: the price of {NEW_TYPE}, the best type, is not known" in run.output
    assert ec2_cloud.calls("RunInstances") == []


@pytest.mark.parametrize(
    ("reuse", "launched"), [("rule", 2), pytest.param("never", 6, marks=pytest.mark.slow)]
)
def test_the_budget_of_a_run(
    reuse: str, launched: int, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """Six jobs at once under a budget for two hours: at most two machines at a time, and since each needs
    far less than the hour that is set aside for it, all jobs are done."""
    before = list(ec2_cloud.machine_states())

    run = run_workflow(SIX, "--ec2-max-cost", "0.13", "--ec2-reuse", reuse, "--verbose", jobs=6)

    assert run.returncode == 0, run.output
    assert len(launched_since(ec2_cloud, before)) == launched
    assert "of --ec2-max-cost 0.13 is spent" in run.output
    running = most = 0
    for line in run.output.splitlines():
        running += line.startswith("launched ") - line.startswith("terminated ")
        most = max(most, running)
    assert 1 <= most <= 2, run.output


def test_a_budget_that_a_job_is_beyond(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """Told at the start, with the reckoning: no machine is launched."""
    ec2_cloud.forget_calls()

    run = run_workflow(ONE, "--ec2-max-cost", "0.01")

    assert run.returncode == 1
    assert re.search(
        r"rule one: the cheapest machine for it, c7a\.medium, would cost an estimated \$0\.05\d+ "
        r"\(for one hour, because the rule has no runtime\), more than --ec2-max-cost 0\.01",
        run.output,
    ), run.output
    assert ec2_cloud.calls("RunInstances") == []


def test_a_budget_over_the_calls_of_a_folder(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """What an earlier call has cost is gone; the next month, or the next run by itself, starts anew."""
    assert run_workflow(ONE, "--ec2-max-cost", "0.06").returncode == 0
    (run_workflow.folder / "o.txt").unlink()
    ec2_cloud.forget_calls()

    again = run_workflow(
        {}, "--ec2-max-cost", "0.06", "--ec2-budget-period", "folder", "--ec2-exclude-types", "c7a.*"
    )
    alone = run_workflow({}, "--ec2-max-cost", "0.06")

    assert "minus the cost of earlier runs (--ec2-budget-period)" in again.output, again.output
    assert again.returncode == 1
    assert alone.returncode == 0, alone.output


def test_the_most_that_a_machine_may_cost(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """No type under --ec2-max-price: the cheapest one and its price are named, nothing is launched."""
    ec2_cloud.forget_calls()

    run = run_workflow(ONE, "--ec2-max-price", "0.001")

    assert run.returncode == 1
    assert re.search(
        r"rule one: the cheapest allowed type is \S+, at \$0\.\d+ an hour, more than "
        r"--ec2-max-price 0\.001",
        run.output,
    ), run.output
    assert ec2_cloud.calls("RunInstances") == []


BIG = {
    "Snakefile": "rule all:\n    input: 'small', 'big'\n"
    "rule small:\n    output: 'small'\n    shell: 'touch {output}'\n"
    "rule big:\n    output: 'big'\n    resources: mem_mb=10000000\n    shell: 'touch {output}'\n"
}
LATE = {
    "Snakefile": "rule all:\n    input: 'big'\n"
    "rule small:\n    output: 'small'\n    shell: 'echo 10000000 > {output}'\n"
    "rule big:\n    input: 'small'\n    output: 'big'\n"
    "    resources: mem_mb=lambda wildcards, input: int(open(input[0]).read())\n"
    "    shell: 'touch {output}'\n"
}
TOO_DEAR = (
    r"rule big: with mem_mb=10000000 \(10 TB\), the cheapest machine is u7i-12tb\.224xlarge, "
    r"at \$125\.6 an hour\. None above \$10 an hour is launched unless you allow it: --ec2-max-price 126"
)


def test_a_slip_is_refused_before_anything_is_launched(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """10 TB of memory by a slip: the run ends before its first machine, with the resource and the option."""
    ec2_cloud.forget_calls()

    run = run_workflow(BIG, jobs=2)

    assert run.returncode == 1
    assert re.search(TOO_DEAR, run.output), run.output
    assert ec2_cloud.calls("RunInstances") == []


def test_a_slip_that_is_known_late(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """Where only an earlier job's result tells how much is needed, the job fails without a machine."""
    ec2_cloud.forget_calls()

    run = run_workflow(LATE)

    assert run.returncode == 1
    assert re.search(TOO_DEAR, run.output), run.output
    assert len(ec2_cloud.calls("RunInstances")) == 1


def test_free_tier_and_excluded_types(run_workflow: WorkflowRunner) -> None:
    """--ec2-free-tier takes what the free tier covers, --ec2-exclude-types leaves types out."""
    run = run_workflow(ONE, "--ec2-free-tier", "--ec2-exclude-types", "t2.*,t3.micro")

    assert run.returncode == 0, run.output
    launched = re.search(r"launched (\S+) ", run.output)
    assert launched is not None
    assert INSTANCE_TYPES[launched.group(1)]["FreeTierEligible"]
    assert not launched.group(1).startswith(("t2.", "t3.micro"))
