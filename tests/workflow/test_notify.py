"""`--ec2-notify`: a run says how it has ended."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from snakemake_executor_ec2.testing import WorkflowRunner
from tests.receiver import SECRET, receiving

SNAKEFILE = """
rule all:
    input: "a", "b"
rule a:
    output: "a"
    shell: "touch {output}"
rule b:
    input: "a"
    output: "b"
    shell: "EXIT; touch {output}"
"""


def test_a_run_that_went_well_is_told(run_workflow: WorkflowRunner) -> None:
    """Once, with its jobs and what it would have cost; the URL is nowhere in what is printed or kept."""
    with receiving() as (url, got):
        run = run_workflow({"Snakefile": SNAKEFILE.replace("EXIT; ", "")}, env={"SNAKEMAKE_EC2_NOTIFY": url})
    assert run.returncode == 0
    ((_, document),) = got
    assert document.pop("cost_usd") > 0
    assert document.pop("run") in run.output
    assert document.pop("text").startswith("Snakemake in ")
    assert document == {
        "folder": run.folder.name,
        "outcome": "success",
        "jobs_done": 3,
        "jobs_failed": 0,
    }
    assert SECRET not in run.output
    kept = [path for path in run.folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert kept == []


def test_a_run_that_failed_is_told(run_workflow: WorkflowRunner, tmp_path: Path) -> None:
    """To a command as well."""
    file = tmp_path / "told.json"
    copy = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"
    command = f"""{sys.executable} -c "{copy}" {file}"""
    run = run_workflow({"Snakefile": SNAKEFILE.replace("EXIT", "exit 3")}, "--ec2-notify", command)
    assert run.returncode == 1
    document = json.loads(file.read_text())
    assert (document["outcome"], document["jobs_done"], document["jobs_failed"]) == ("failure", 1, 1)


def test_a_run_that_is_refused_is_told(run_workflow: WorkflowRunner) -> None:
    """Nothing was launched. If nobody can be told, that is said, and changes nothing."""
    refused = SNAKEFILE.replace('output: "b"', 'output: "b"\n    resources: mem_mb=10**9')
    with receiving(answers=(404,)) as (url, got):
        run = run_workflow({"Snakefile": refused}, "--ec2-notify", url)
    assert run.returncode == 1
    ((_, document),) = got
    assert (document["outcome"], document["run"], document["jobs_done"]) == ("refused", None, 0)
    assert "nobody was told that the run has ended" in run.output
    assert "the nearest allowed type" in run.output
    assert SECRET not in run.output
    assert "cannot be written" not in run.output
