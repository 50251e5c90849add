"""`snakemake-ec2 advise`: sizes that were measured, as a profile that Snakemake applies."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.test_plan import Planner

SNAKEFILE = """
rule all:
    input: "a.txt"
rule big:
    output: "a.txt"
    resources: mem_mb=8000
    shell: "python3 -c 'b\\"x\\" * 400_000_000'; echo {resources.mem_mb} {resources.runtime} > {output}"
localrules: all
"""


@pytest.mark.slow
def test_a_workflow_that_asks_for_ten_times_what_it_uses(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """What is advised fits, is told beside what was asked, and is cheaper; nothing changes before its profile
    is applied; with it, the job runs on a smaller machine."""
    folder = run_workflow.folder
    command = Planner(ec2_cloud, folder)
    first = run_workflow({"Snakefile": SNAKEFILE.replace("{resources.runtime}", "-")}, jobs=1)
    assert first.returncode == 0, first.output

    answer = command.run("advise", "-o", "profiles/advised/config.yaml")

    assert answer.returncode == 0, answer.stderr
    text = (folder / "profiles/advised/config.yaml").read_text()
    assert "  big:\n    mem_mb: 900  # at most 5% of it was used; 1 job of 1 run" in text
    assert "    runtime: 5  # " in text
    told = next(line for line in answer.stdout.splitlines() if "mem_mb" in line).split()
    assert (told[:3], told[4:7]) == (["big", "mem_mb", "8000"], ["900", "1", "1"])
    assert "--workflow-profile profiles/advised" in answer.stderr

    (folder / "Snakefile").write_text(SNAKEFILE)
    both = command.json("--learned", "-j", "1", "--forceall")
    (declared,), (learned,) = both["rows"], both["learned"]["rows"]
    assert (declared["mem_gib"], learned["mem_gib"]) == (16, 2)
    assert declared["seconds_from"] == "rehearsals"
    assert both["learned"]["cost_usd"] < both["cost_usd"]

    again = run_workflow({}, "--forceall", "--workflow-profile", "profiles/advised", jobs=1)
    assert again.returncode == 0, again.output
    assert (folder / "a.txt").read_text() == "900 5\n"
    assert learned["machine"] in again.output
