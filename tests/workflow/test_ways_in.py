"""Machines without a public address, which this computer reaches through a program only."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from pathlib import Path

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.local.jump import COMMAND
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import alive, launched_since, wait_for, watched
from tests.workflow.shell import Shell

PROXY = shlex.join(COMMAND)
MARK = "TEST_OF_WAYS_IN"
NO_ADDRESS = ("--ec2-public-ip", "never")
FILES = {
    "in.txt": "carried\n",
    "Snakefile": "rule one:\n    input: 'in.txt'\n    output: 'out.txt'\n"
    "    shell: 'echo at work; sleep 3; cat {input} > {output}'\n",
}


def test_a_run_through_a_proxy_command(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, tmp_path: Path
) -> None:
    """Its machine has no public address, its group lets in the network's own subnets alone, and no program
    of the proxy's outlives the run."""
    run = run_workflow(FILES, *NO_ADDRESS, "--ec2-ssh-proxy", PROXY, env={MARK: str(tmp_path)})
    assert run.returncode == 0, run.output
    assert (run.folder / "out.txt").read_text() == "carried\n"
    launched = [each for each in ec2_cloud.calls("RunInstances") if each["status"] == 200][-1]
    assert "AssociatePublicIpAddress" in str(launched["params"])
    opened = ec2_cloud.calls("AuthorizeSecurityGroupIngress")[-1]
    assert "172.31." in str(opened["params"])
    assert "127.0.0.1" not in str(opened["params"])
    wait_for(lambda: not _proxies(tmp_path))


def test_adoption_and_login_through_the_proxy_of_the_first_run(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, shell: Shell, tmp_path: Path
) -> None:
    """A killed run's machine is found again by one without the option, and `snakemake-ec2 ssh` gets there."""
    before = list(ec2_cloud.machine_states())
    files = {**FILES, "Snakefile": FILES["Snakefile"].replace("sleep 3", "sleep 12")}
    env = {MARK: str(tmp_path)}
    run_workflow.place(files)
    first = watched(run_workflow, *NO_ADDRESS, "--ec2-ssh-proxy", PROXY, env=env)
    first.until("running")
    first.kill()
    (machine,) = alive(ec2_cloud)
    assert "PublicIpAddress" not in shell.described(machine)
    if shutil.which("ssh"):
        assert shell(run_workflow.folder, "ssh", machine, "--", "id", "-un") == "ec2-user\n"
    again = watched(run_workflow, *NO_ADDRESS, env=env)
    assert again.wait() == 0, again.output
    assert alive(ec2_cloud) == []
    assert len(launched_since(ec2_cloud, before)) == 1, "the second run launched none"
    assert (run_workflow.folder / "out.txt").read_text() == "carried\n"
    wait_for(lambda: not _proxies(tmp_path))


@pytest.mark.slow
def test_no_way_is_told_in_time(run_workflow: WorkflowRunner) -> None:
    """Without a public address and without a proxy, or with one that gets nowhere, the failure says which."""
    short = ("--ec2-boot-timeout", "5", "--retries", "0")
    direct = run_workflow(FILES, *NO_ADDRESS, *short)
    assert direct.returncode == 1
    assert "--ec2-ssh-proxy" in direct.output
    nowhere = "sh -c 'echo no such target %n >&2; exit 3'"
    proxied = run_workflow(FILES, *NO_ADDRESS, *short, "--ec2-ssh-proxy", nowhere)
    assert proxied.returncode == 1
    assert "exit status 3; it said: no such target i-" in proxied.output
    assert "run the proxy command by hand" in proxied.output
    missing = run_workflow(FILES, "--ec2-ssh-proxy", "no-such-program %h")
    assert "there is no program 'no-such-program' on your computer" in missing.output


def _proxies(tmp_path: Path) -> list[str]:
    """Programs that connect to machines, of the runs with this mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            marked = f"{MARK}={tmp_path}\0".encode() in (process / "environ").read_bytes()
            told = (process / "cmdline").read_bytes().decode(errors="replace")
            if marked and COMMAND[2] in told:
                found.append(told)
    return found
