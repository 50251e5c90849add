"""What a job's processes do beyond their job: none changes results, and none costs another machine."""

from __future__ import annotations

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import launched_since

DAEMONS = """
rule all:
    input: "grows.txt", "private.txt"
rule daemon:
    output: "grows.txt"
    shell: "(setsid bash -c 'while :; do echo more >> {output}; done' > /dev/null 2>&1 &); sleep 0.5"
rule private:
    output: "private.txt", hole="hole"
    shell: "umask > {output[0]}; truncate -s 3G {output.hole}"
"""
KILLS = """
rule kills:
    output: "out.txt"
    shell: "grep -q snakemake_executor_ec2 /proc/1/cmdline || exit 7; kill -9 -1; sleep 5; touch {output}"
"""


def test_a_daemon_does_not_change_results(run_workflow: WorkflowRunner) -> None:
    """What it writes while results are fetched would be in none of them whole; the job's umask is ours, and
    3 GB of nothing are nothing here."""
    run = run_workflow({"Snakefile": DAEMONS}, jobs=2)
    assert run.returncode == 0, run.output
    folder = run_workflow.folder
    assert set((folder / "grows.txt").read_text().splitlines()) == {"more"}
    assert "changed while" not in run.output
    hole = (folder / "hole").stat()
    assert (hole.st_size, hole.st_blocks < 64) == (3 << 30, True)


def test_a_job_that_kills_its_users_processes_fails_itself(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """`kill -9 -1` ends what watches it as well: the job's failure, told as that, and no second machine."""
    before = list(ec2_cloud.machine_states())
    run = run_workflow({"Snakefile": KILLS})
    assert run.returncode == 1
    assert "exit status 7" not in run.output
    assert "kill -9 -1" in run.output.split("out.txt", 1)[1]
    assert "the process that supervised it was killed" in run.output
    assert len(launched_since(ec2_cloud, before)) == 1
