"""A machine that is not the one that was launched gets nothing."""

from __future__ import annotations

import base64
import gzip

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
    assert run.output.count("within 3 s (--ec2-boot-timeout)") >= 2
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
    assert "EC2: 6 jobs on 2 machines" in run.output
    assert "Failed: 5 jobs of rule one: no more machines are launched: this run launched 2" in run.output
    assert "and could log in to none of them" in run.output
    assert len(launched_since(ec2_cloud, before)) == 2


def test_without_a_key_of_its_own_a_machine_gets_no_data(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """Where the key of user-data can't be replaced the job fails before its input travels; the message names
    the machine, why, and what allows it. After two machines nothing more is launched."""
    ec2_cloud.faults.no_sudo()
    before = list(ec2_cloud.machine_states())
    snakefile = (
        "rule all:\n    input: expand('o{n}.txt', n=range(4))\n"
        "rule one:\n    input: 'secret.txt'\n    output: 'o{n}.txt'\n    shell: 'cp {input} {output}'\n"
    )

    files = {"Snakefile": snakefile, "secret.txt": "s"}
    run = run_workflow(files, "--keep-going", "--verbose", jobs=1)

    assert run.returncode == 1
    launched = launched_since(ec2_cloud, before)
    assert len(launched) == 2
    for machine in launched:
        assert f"The host key of {machine} could not be renewed (sudo: a password is required)" in run.output
    assert "--ec2-allow-first-host-key" in run.output
    assert run.output.count("Nothing more is launched") >= 2
    assert "staged" not in run.output


def test_data_may_be_sent_under_the_first_key(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """With --ec2-allow-first-host-key jobs run all the same; it is told once a run, with a machine's name."""
    ec2_cloud.faults.no_sudo()
    before = list(ec2_cloud.machine_states())
    snakefile = (
        "rule all:\n    input: expand('o{n}.txt', n=range(3))\n"
        "rule one:\n    output: 'o{n}.txt'\n    shell: 'touch {output}'\n"
    )

    run = run_workflow({"Snakefile": snakefile}, "--ec2-allow-first-host-key", jobs=3)

    assert run.returncode == 0, run.output
    assert run.output.count("could not be renewed") == 1
    launched = launched_since(ec2_cloud, before)
    assert any(f"the host key of {machine} could not be renewed" in run.output for machine in launched)


def test_the_key_of_user_data_is_replaced_before_data_flows(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """On machines as strict as Amazon Linux 2023, whose users may not even read the public half."""
    run = run_workflow(
        {
            "Snakefile": "rule one:\n    output: 'key.txt'\n"
            "    shell: 'cat /etc/ssh/ssh_host_ed25519_key.pub > {output}'\n"
        }
    )

    assert run.returncode == 0, run.output
    assert "could not be renewed" not in run.output
    given = ec2_cloud.calls("RunInstances")[-1]["params"]["UserData"]
    user_data = gzip.decompress(data) if (data := base64.b64decode(given)).startswith(b"\x1f") else data
    shown = (run.folder / "key.txt").read_text().split()[1]
    assert shown not in user_data.decode()
    assert "ed25519_public" in user_data.decode()
