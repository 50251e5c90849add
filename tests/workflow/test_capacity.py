"""EC2 has none, has no more for this account, does not answer, takes a machine back: the workflow goes on.

The fixture `ec2_cloud` fails every test that leaves a machine behind.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.sizing.quotas import PROBE_S
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import WAYS

ONE = {
    "Snakefile": "rule one:\n    output: 'o.txt'\n    resources: runtime=10\n    shell: 'echo made > o.txt'\n"
}
UNTIL_TAKEN_BACK = {
    "Snakefile": "rule one:\n    input: 'job.py'\n    output: 'o.txt'\n    resources: runtime=10\n"
    "    shell: 'python3 {input} && echo made > {output}'\n",
    "job.py": """
import os, time
from urllib.request import Request, urlopen
metadata = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254") + "/latest/"
for_a_minute = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
token = urlopen(Request(metadata + "api/token", method="PUT", headers=for_a_minute)).read().decode()
path = "meta-data/instance-life-cycle"
market = urlopen(Request(metadata + path, headers={"X-aws-ec2-metadata-token": token})).read()
time.sleep(300 if market == b"spot" else 0)
""",
}
"""A job that never ends on a spot machine, and at once on another."""
TAKES = "EC2 reclaims the spot machine of rule one"
THREE_TYPES = ("--ec2-instance-types", "m7i.large,c7i.large,r7i.large")


def many(number: int) -> dict[str, str]:
    return {
        "Snakefile": f"rule all:\n    input: expand('o{{i}}.txt', i=range({number}))\n"
        "rule one:\n    output: 'o{i}.txt'\n    shell: 'echo {wildcards.i} > {output}'\n"
    }


@pytest.fixture
def new_machines(ec2_cloud: EmbeddedCloud) -> Callable[[], list[dict[str, Any]]]:
    """Tells which machines were launched since the test began."""
    before = set(ec2_cloud.machine_states())
    ec2_cloud.forget_calls()
    return lambda: [each for each in ec2_cloud.instances() if each["id"] not in before]


Machines = Callable[[], list[dict[str, Any]]]


# --- capacity -------------------------------------------------------------------------------


def test_types_and_zones_without_capacity(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, new_machines: Machines
) -> None:
    """The cheapest type has none, the next none in one zone: one machine, in another zone of it."""
    ec2_cloud.faults.no_capacity("c7i.large")
    ec2_cloud.faults.no_capacity("m7i.large", zone="us-east-1a")

    run = run_workflow(ONE, *THREE_TYPES)

    assert run.returncode == 0, run.output
    assert (run.folder / "o.txt").read_text() == "made\n"
    assert "no c7i.large in us-east-1a now (InsufficientInstanceCapacity), trying the next" in run.output
    assert [(each["type"], each["zone"]) for each in new_machines()] == [("m7i.large", "us-east-1b")]


def test_a_lack_of_capacity_is_found_out_once(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, new_machines: Machines
) -> None:
    """What a first job found out, the next three know: each type and zone without capacity is asked for
    once."""
    ec2_cloud.faults.no_capacity("c7i.large")
    snakefile = many(3)["Snakefile"].replace("output: 'o{i}", "input: 'first'\n    output: 'o{i}")
    snakefile += "rule first:\n    output: 'first'\n    shell: 'touch {output}'\n"

    run = run_workflow({"Snakefile": snakefile}, *THREE_TYPES)

    assert run.returncode == 0, run.output
    assert len(new_machines()) == 4
    asked = Counter(
        call["params"]["NetworkInterface.1.SubnetId"]
        for call in ec2_cloud.calls("RunInstances")
        if call["params"]["InstanceType"] == "c7i.large"
    )
    assert set(asked.values()) == {1}


def test_no_capacity_at_all(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, new_machines: Machines
) -> None:
    """The job waits, says so once, and fails after --ec2-capacity-timeout with what to do."""
    ec2_cloud.faults.no_capacity("*")

    run = run_workflow(ONE, "--ec2-instance-types", "m7i.large", "--ec2-capacity-timeout", "5")

    assert run.returncode == 1
    assert run.output.count("EC2 has no machine for rule one now; trying again for at most 5 s") == 1
    assert "rule one failed: EC2 had no capacity for it in any of the types and zones tried" in run.output
    assert "Traceback" not in run.output
    assert new_machines() == []


def test_capacity_comes_back(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, new_machines: Machines
) -> None:
    """A job that waited gets its machine when there are some again."""
    ec2_cloud.faults.no_capacity("*", count=7)

    run = run_workflow(ONE, "--ec2-instance-types", "m7i.large", "--ec2-capacity-timeout", "60")

    assert run.returncode == 0, run.output
    assert "trying again for at most" in run.output
    assert len(new_machines()) == 1


# --- the account's limits -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "jobs"),
    [(True, 20), pytest.param(False, 8, marks=pytest.mark.slow)],
    ids=["told by Service Quotas", "found out"],
)
def test_a_quota_of_4_with_20_jobs(
    told: bool, jobs: int, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, new_machines: Machines
) -> None:
    """All jobs finish, two at a time; none fails, none is launched twice, and it is said once."""
    ec2_cloud.faults.quota("L-1216C47A", 4)
    if not told:
        ec2_cloud.faults.deny("GetServiceQuota")

    began = time.monotonic()
    run = run_workflow(many(jobs), "--ec2-reuse", "never", jobs=jobs, timeout_s=600)
    lasted = time.monotonic() - began

    assert run.returncode == 0, run.output
    assert [(run.folder / f"o{i}.txt").read_text() for i in range(jobs)] == [f"{i}\n" for i in range(jobs)]
    limit = " of 4 vCPUs" if told else ""
    said = f"the AWS account's limit{limit} is reached (L-1216C47A, Running On-Demand Standard"
    assert run.output.count(said) == 1, run.output
    assert "failed" not in run.output
    assert len(new_machines()) == jobs
    # One try beyond the limit every 15 s; at first, jobs that do not know it ask at the same time.
    refused = [call for call in ec2_cloud.calls("RunInstances") if call["status"] != 200]
    assert len(refused) <= lasted / PROBE_S + (1 if told else jobs)


def test_a_quota_below_the_smallest_type(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """What can never start is refused before anything is launched, with the limit's code."""
    ec2_cloud.faults.quota("L-1216C47A", 1)

    # Without a pattern, families with limits of their own would do: X, HPC, High Memory.
    snakefile = ONE["Snakefile"].replace("runtime=10", "runtime=10\n    threads: 2")
    run = run_workflow({"Snakefile": snakefile}, "--ec2-instance-types", "m7i.*")

    assert run.returncode == 1
    assert "has 2 vCPUs, and the AWS account's limit L-1216C47A" in run.output
    assert "--quota-code L-1216C47A" in run.output
    assert ec2_cloud.calls("RunInstances")[-1:] == [] or "launched" not in run.output


# --- answers --------------------------------------------------------------------------------


def test_throttled_for_a_while(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, new_machines: Machines
) -> None:
    """Throttled launches are asked for again: three jobs, three machines."""
    ec2_cloud.faults.throttle("RunInstances", count=6)

    run = run_workflow(many(3))

    assert run.returncode == 0, run.output
    assert len(new_machines()) == 3
    assert any(call["status"] != 200 for call in ec2_cloud.calls("RunInstances"))


def test_a_lost_answer(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, new_machines: Machines
) -> None:
    """The machine starts and the answer is lost: the same token finds it, and there is exactly one."""
    ec2_cloud.faults.lose_reply("RunInstances", count=2)

    run = run_workflow(ONE)

    assert run.returncode == 0, run.output
    assert len(new_machines()) == 1
    calls = ec2_cloud.calls("RunInstances")
    assert len(calls) == 3
    assert len({call["params"]["ClientToken"] for call in calls}) == 1


def test_jobs_that_come_together(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, new_machines: Machines
) -> None:
    """Four jobs at once share calls, and the first answer is lost: each has a machine, with a host key of
    its own in the end, and none is launched twice."""
    ec2_cloud.faults.lose_reply("RunInstances")

    run = run_workflow(many(4))

    assert run.returncode == 0, run.output
    assert [(run.folder / f"o{number}.txt").read_text() for number in range(4)] == [
        "0\n",
        "1\n",
        "2\n",
        "3\n",
    ]
    asked = {call["params"]["ClientToken"]: call for call in ec2_cloud.calls("RunInstances")}
    assert len(asked) < 4
    assert sum(int(call["params"]["MaxCount"]) for call in asked.values()) == 4 == len(new_machines())
    with closing(sqlite3.connect(run.folder / ".snakemake" / "ec2" / "journal.sqlite")) as journal:
        keys = [row[0] for row in journal.execute("SELECT host_keys FROM machines")]
    assert len({*keys}) == 4


# --- spot -----------------------------------------------------------------------------------


def test_spot_where_it_is_cheaper(run_workflow: WorkflowRunner, new_machines: Machines) -> None:
    """--ec2-spot prefer takes spot for short jobs and on-demand for long ones; a rule decides for itself."""
    snakefile = (
        "rule all:\n    input: 'short', 'long', 'own'\n"
        "rule short:\n    output: 'short'\n    resources: runtime=30\n    shell: 'touch {output}'\n"
        "rule long:\n    output: 'long'\n    resources: runtime=6000\n    shell: 'touch {output}'\n"
        "rule own:\n    output: 'own'\n    resources: ec2_spot='never'\n    shell: 'touch {output}'\n"
    )

    run = run_workflow({"Snakefile": snakefile}, "--ec2-spot", "prefer")

    assert run.returncode == 0, run.output
    assert Counter(each["market"] for each in new_machines()) == {"on-demand": 2, "spot": 1}
    spot = next(line for line in run.output.splitlines() if "launched spot " in line)
    assert "for rule short" in spot


@WAYS
@pytest.mark.parametrize(
    "notice", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["with a notice", "without notice"]
)
def test_a_spot_machine_is_taken_back(
    notice: bool, direct: str, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, new_machines: Machines
) -> None:
    """Twice on spot, elsewhere each time, then on-demand; no --retries are needed, nor used up. A
    notice is passed on to the user while the job still runs."""
    taken: list[str] = []

    def take_back(line: str) -> None:
        if TAKES in line:
            ec2_cloud.faults.spot_reclaim(taken[-1])
            return
        machine = line.rsplit(" ", 1)[-1].strip()
        if next(each for each in ec2_cloud.instances() if each["id"] == machine)["market"] == "spot":
            taken.append(machine)
            if notice:
                ec2_cloud.faults.spot_notice(machine, reclaim_after_s=None)
            else:
                ec2_cloud.faults.spot_reclaim(machine)

    words = ("running rule one", TAKES)
    options = ("--ec2-spot", "prefer", "--ec2-direct", direct)
    output, status = _watched(run_workflow, UNTIL_TAKEN_BACK, words, take_back, *options)

    assert status == 0, output
    said = [line for line in output.splitlines() if TAKES in line]
    assert len(said) == (2 if notice else 0), output
    assert all(re.search(r"one at \d\d:\d\d:\d\d UTC: the job continues until then", line) for line in said)
    assert (run_workflow.folder / "o.txt").read_text() == "made\n"
    assert len(taken) == 2
    assert output.count("EC2 has reclaimed a spot machine") == 2
    assert "starting rule one again on another machine, which does not count as a retry" in output
    machines = new_machines()
    assert [each["market"] for each in machines] == ["spot", "spot", "on-demand"]
    assert len({(each["type"], each["zone"]) for each in machines[:2]}) == 2
    assert "Trying to restart" not in output


def test_a_rule_that_wants_nothing_but_spot(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, new_machines: Machines
) -> None:
    """With ec2_spot='only', a job is never run on-demand, however often its machine is taken back, be it
    while it boots."""
    snakefile = ONE["Snakefile"].replace("runtime=10", "runtime=10, ec2_spot='only'")
    left = [1, 2, 3]

    def take_back(line: str) -> None:
        if left:
            left.pop()
            machine = re.search(r"\((i-[0-9a-f]+)\)", line)
            assert machine is not None, line
            ec2_cloud.faults.spot_reclaim(machine.group(1))

    output, status = _watched(run_workflow, {"Snakefile": snakefile}, ("launched spot",), take_back)

    assert status == 0, output
    assert [each["market"] for each in new_machines()] == ["spot"] * 4


def test_no_permission_for_spot(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, new_machines: Machines
) -> None:
    """Where the account may not use spot, it is said once and the run goes on on-demand."""
    ec2_cloud.faults.no_capacity(market="spot", code="AuthFailure.ServiceLinkedRoleCreationNotPermitted")

    run = run_workflow(many(3), "--ec2-spot", "prefer")

    assert run.returncode == 0, run.output
    assert run.output.count("no more spot machines are used in this run") == 1
    assert "iam:CreateServiceLinkedRole" in run.output
    assert [each["market"] for each in new_machines()] == ["on-demand"] * 3


def test_no_permission_for_spot_and_nothing_else_wanted(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, new_machines: Machines
) -> None:
    """With --ec2-spot only, the missing permission is the job's failure."""
    ec2_cloud.faults.no_capacity(market="spot", code="AuthFailure.ServiceLinkedRoleCreationNotPermitted")

    run = run_workflow(ONE, "--ec2-spot", "only")

    assert run.returncode == 1
    assert "rule one failed: the AWS account has never used spot instances" in run.output
    assert new_machines() == []


# --- helpers --------------------------------------------------------------------------------


def _watched(
    runner: WorkflowRunner,
    workflow: dict[str, str],
    words: tuple[str, ...],
    react: Callable[[str], None],
    *arguments: str,
) -> tuple[str, int]:
    """Run a workflow and call `react` with each line of output that contains one of some words."""
    runner.place(workflow)
    process = runner.start(*arguments)
    assert process.stdout is not None
    lines = []
    with process.stdout as output:
        for line in output:
            lines.append(line)
            if any(each in line for each in words):
                react(line)
    return "".join(lines), process.wait(timeout=60)
