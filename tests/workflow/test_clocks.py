"""Machines whose clocks are wrong, and what that changes: nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner

CHAIN = {
    "Snakefile": """
rule all:
    input: "last.txt"

rule first:
    input: "data.txt"
    output: "first.txt"
    log: "first.log"
    shell: "cp {input} {output}; echo noted > {log}"

rule second:
    input: "first.txt"
    output: directory("second")
    shell: "mkdir {output}; cp {input} {output}/one; sleep 0.01; cp {input} {output}/two"

rule third:
    input: "first.txt", "second"
    output: "third.txt", directory("copied")
    shell: "cat first.txt second/one > third.txt; cp --recursive --preserve second copied"

rule last:
    input: "third.txt", "copied", "second"
    output: report("last.txt", category="Results")
    benchmark: "last.tsv"
    shell: "cat {input[0]} > {output}"
""",
    "data.txt": "data\n",
}
TEN_MINUTES_S = 600.0


def test_wrong_clocks_change_nothing(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, tmp_path: Path
) -> None:
    """With clocks ten minutes behind and ahead no job fails, nothing reruns, files keep their order and
    true times; metadata and report are those of a local run."""
    for ahead_s in (-TEN_MINUTES_S, TEN_MINUTES_S, -TEN_MINUTES_S):
        ec2_cloud.faults.wrong_clock(ahead_s, count=1)
    began = time.time()

    run = run_workflow(CHAIN, env={"TZ": "Pacific/Auckland"})

    assert run.returncode == 0, run.output
    assert "clock is 10 minutes behind" in run.output
    assert "clock is 10 minutes ahead of" in run.output
    dry = _snakemake(run.folder, "--dry-run")
    assert "Nothing to be done" in dry, dry
    made = ("data.txt", "first.log", "second/one", "second/two", "third.txt", "last.txt")
    times = [(run.folder / name).stat().st_mtime for name in made]
    assert times == sorted(times)
    assert times[1] > began - 1
    assert times[-1] <= time.time()
    assert (run.folder / "copied/one").stat().st_mtime_ns == (run.folder / "second/one").stat().st_mtime_ns

    here = tmp_path / "here"
    WorkflowRunner(ec2_cloud, here).place(CHAIN)
    _snakemake(here, "--cores", "2")
    assert _metadata(run.folder) == _metadata(here)
    for folder in (run.folder, here):
        _snakemake(folder, "--report", "report.html")
        assert "last.txt" in (folder / "report.html").read_text()


def _snakemake(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _metadata(folder: Path) -> list[dict[str, Any]]:
    """What Snakemake remembers of each file, but for what differs from run to run."""
    records = [json.loads(path.read_text()) for path in sorted((folder / ".snakemake/metadata").iterdir())]
    for record in records:
        assert record.pop("starttime") <= record.pop("endtime") <= time.time()
        record.pop("job_hash", None)
    return records
