"""A workflow through `snakemake --executor ec2`, from its Snakefile to its results."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_executor_ec2.cli import main
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner

TWO_RULES = """
rule all:
    input: "out/joined.txt"

rule part:
    input: "data/{name}.txt"
    output: "out/{name}.txt"
    log: "logs/{name}.log"
    benchmark: "benchmarks/{name}.tsv"
    threads: 2
    resources: mem_mb=2000, disk_mb=500, runtime=10
    shell: "(cat {input}; hostname; pwd; echo $HOME; ls -A | tr '\\n' ' ') > {output}; echo noted > {log}"

rule join:
    input: expand("out/{name}.txt", name=["a", "b"])
    output: "out/joined.txt"
    shell: "cat {input} > {output}"
"""
FILES = {"Snakefile": TWO_RULES, "data/a.txt": "alpha\n", "data/b.txt": "beta\n", "private.txt": "not sent"}


@pytest.mark.root  # who may use port 22
def test_a_workflow_runs_on_machines_that_see_only_what_was_sent(run_workflow: WorkflowRunner) -> None:
    """Outputs, logs and benchmarks come home from machines with their own host, home and tree."""
    run = run_workflow(FILES)

    assert run.returncode == 0, run.output
    text, host, folder, home, listing = (run.folder / "out/a.txt").read_text().splitlines()
    assert text == "alpha"
    assert host != platform.node()
    assert Path(folder) == run.folder
    assert home == "/home/ec2-user"
    assert {"Snakefile", "data", "private.txt"} <= set(listing.split())
    assert "not sent" not in run.output + text  # of what no rule declares there is the name alone
    assert (run.folder / "logs/a.log").read_text() == "noted\n"
    assert (run.folder / "benchmarks/b.tsv").read_text().startswith("s\t")
    assert (run.folder / "out/joined.txt").read_text().startswith("alpha\n")


def test_machines_may_listen_on_another_port_than_22(tmp_path: Path) -> None:
    """An ordinary user may not use port 22: the cloud takes another, and the run finds and opens it."""
    with EmbeddedCloud(ssh_port=0) as cloud:
        assert cloud.ssh_port != 22
        run = WorkflowRunner(cloud, tmp_path)(FILES)
        assert run.returncode == 0, run.output
        rules = {
            call["params"]["IpPermissions.1.FromPort"]
            for call in cloud.calls("AuthorizeSecurityGroupIngress")
        }
    assert rules == {str(cloud.ssh_port)}


def test_every_event_is_a_line_and_the_end_has_the_cost(run_workflow: WorkflowRunner) -> None:
    """The log tells type, price, zone and job for each event, and sums up time and money; what goes well and
    quickly only for who wants to know."""
    run = run_workflow(FILES, "--verbose", "--ec2-look-ahead", "off")

    for what in ("launched", "staged", "running", "finished", "retrieved", "terminated"):
        assert f"\n{what} " in run.output
    assert "/h us-east-1" in run.output
    assert "for rule part (name=a)" in run.output
    table = run.output[run.output.index("\nEC2: 3 jobs on 3 machines in ") :]
    assert re.search(r"^part +2  2 \S+\.\S+ .* \$0\.", table, re.MULTILINE)
    assert "it would have cost an estimated $0." in table
    _the_report_says_the_same(run.folder, table)


def _the_report_says_the_same(folder: Path, table: str) -> None:
    """`snakemake-ec2 report`, by the name that the run gives at its end: costs, phases, what was measured."""
    (name,) = re.findall(r"snakemake-ec2 report (\S+)", table)
    assert main(["report", name, "-d", str(folder), "-o", str(folder / "page.html")]) == 0
    page = (folder / "page.html").read_text()
    (told,) = re.findall(r"^total  +3 .*\$([\d.]+)$", table, re.MULTILINE)
    (shown,) = re.findall(r"<dt>Would have cost</dt><dd>\$([\d.]+)", page)
    assert float(shown) == pytest.approx(float(told), abs=2e-4)
    assert page.count("<tr><th scope=row>rule part (name=") == 2
    assert main(["report", name, "-d", str(folder), "--json", "-o", str(folder / "page.json")]) == 0
    facts = json.loads((folder / "page.json").read_text())
    part = next(each for each in facts["jobs"] if each["rule"] == "part")
    assert (part["threads"], part["mem_mb"], part["disk_mb"], part["exit_code"]) == (2, 2000, 500, 0)
    assert part["peak_mem_mib"] > 0
    for each in facts["jobs"]:
        assert all(each[f"{phase}_s"] > 0 for phase in ("launch", "boot", "prepare", "run", "stage_out"))
        assert each["state"] == "done"
    for each in facts["machines"]:
        idle_s = sum(span["seconds"] for span in each["parts"] if span["part"] == "idle")
        assert idle_s < each["billed_s"] / 4 + 1, "phases tell what a machine did"


def test_nothing_is_done_twice(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """A second call right after a run finds nothing to be done, and asks EC2 for nothing."""
    run_workflow(FILES)
    ec2_cloud.forget_calls()

    again = run_workflow({})

    assert again.returncode == 0
    assert "Nothing to be done" in again.output
    assert ec2_cloud.calls() == []


def test_a_file_that_no_rule_declares_is_missing_and_named(run_workflow: WorkflowRunner) -> None:
    """A job that reads an undeclared file fails, and the message says which file and what to do."""
    run = run_workflow(
        {
            "Snakefile": "rule all:\n    output: 'o.txt'\n    shell: 'cat data.csv > {output}'\n",
            "data.csv": "1",
        }
    )

    assert run.returncode == 1
    assert run.output.count("data.csv exists on your computer but was not sent") == 2, "and at the end"
    assert "rule all failed on" in run.output


def test_the_embedded_cloud_starts_with_the_run(tmp_path: Path) -> None:
    """`--ec2-cloud local` needs no cloud that was started before, and leaves no process behind."""
    (tmp_path / "Snakefile").write_text("rule one:\n    output: 'o.txt'\n    shell: 'hostname > {output}'\n")
    command = [sys.executable, "-m", "snakemake", "--executor", "ec2", "--ec2-cloud", "local", "-j", "2"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o.txt").read_text().strip() != platform.node()
    assert _processes_that_mention(str(tmp_path)) == []


def _processes_that_mention(text: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            cwd = str((process / "cwd").readlink())
        except OSError:
            continue
        if text in words or text in cwd:
            found.append(words)
    return found
