"""A machine that is not the one that was launched gets nothing."""

from __future__ import annotations

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import launched_since

SNAKEFILE = {"Snakefile": "rule one:\n    output: 'o.txt'\n    shell: 'touch o.txt'\n"}


def test_an_impostor_gets_neither_a_login_nor_data(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """Another host key than the pinned one: no login, the machine ends, the message says why."""
    ec2_cloud.faults.wrong_host_key(None)
    before = set(ec2_cloud.machine_states())

    run = run_workflow(SNAKEFILE, "--ec2-boot-timeout", "4")

    assert run.returncode == 1
    assert "host key" in run.output
    assert "rule one failed on" in run.output
    new = [each for each in ec2_cloud.instances() if each["id"] not in before]
    assert len(new) == 1
    assert new[0]["connections"]["admitted"] > 0
    assert new[0]["connections"]["authenticated"] == 0


def test_a_stranger_s_key_may_be_a_passing_one(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """An address can have been another machine's a moment before: it is tried again."""
    ec2_cloud.faults.wrong_host_key(2)

    run = run_workflow(SNAKEFILE)

    assert run.returncode == 0, run.output


def test_a_machine_that_never_answers_is_given_up(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """After the boot timeout it is terminated and another one tried, once; then the job has failed."""
    before = list(ec2_cloud.machine_states())
    ec2_cloud.faults.slow_boot(None)

    run = run_workflow(SNAKEFILE, "--ec2-boot-timeout", "3")

    assert run.returncode == 1
    assert run.output.count("did not let us in within 3 s") >= 2
    assert "starting rule one again on another machine" in run.output
    assert len(launched_since(ec2_cloud, before)) == 2


def test_where_none_answers_no_more_are_launched(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """A network that lets no ssh out costs two machines, not two for each job."""
    before = list(ec2_cloud.machine_states())
    ec2_cloud.faults.slow_boot(None)
    snakefile = (
        "rule all:\n    input: expand('o{n}.txt', n=range(6))\n"
        "rule one:\n    output: 'o{n}.txt'\n    shell: 'touch {output}'\n"
    )

    run = run_workflow({"Snakefile": snakefile}, "--keep-going", "--ec2-boot-timeout", "3", jobs=1)

    assert run.returncode == 1
    assert run.output.count("nothing more is launched: 2 machines of this run were") >= 5
    assert "this network may not let ssh out" in run.output
    assert len(launched_since(ec2_cloud, before)) == 2
