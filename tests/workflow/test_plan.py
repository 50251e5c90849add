"""`snakemake-ec2 plan`: what would be launched, for how much, without launching it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud

WORKFLOWS = Path(__file__).parents[2] / "workflows"
SNAKEFILE = """
rule all:
    input: "d.txt", "never.txt"
rule part:
    output: "{name}.txt"
    wildcard_constraints: name="[abc]"
    benchmark: "benchmarks/{name}.tsv"
    threads: 2
    resources: mem_mb=3000, runtime=60
    shell: "touch {output}"
rule join:
    input: "a.txt", "b.txt", "c.txt"
    output: "d.txt"
    resources: ec2_instance_type="m7i.large", ec2_spot="only"
    shell: "touch {output}"
rule never:
    output: "never.txt"
    resources: mem_mb=90000000
    shell: "touch {output}"
localrules: all
"""


class Planner:
    """Runs `snakemake-ec2 plan` in a folder, against the session's embedded cloud."""

    def __init__(self, cloud: EmbeddedCloud, folder: Path) -> None:
        self.folder = folder
        self.caches = folder.parent / "caches"
        self._env = {**cloud.environment(), "XDG_CACHE_HOME": str(self.caches)}

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("plan", *arguments)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Any command of `snakemake-ec2`."""
        code = "import sys; from snakemake_executor_ec2.cli import main; sys.exit(main())"
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=self.folder,
            env={**self._env, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self("--json", *arguments).stdout)
        return answer


@pytest.fixture
def plan(ec2_cloud: EmbeddedCloud, tmp_path: Path) -> Planner:
    folder = tmp_path / "workflow"
    folder.mkdir()
    (folder / "Snakefile").write_text(SNAKEFILE)
    ec2_cloud.forget_calls()
    return Planner(ec2_cloud, folder)


def test_a_table_for_people(plan: Planner, ec2_cloud: EmbeddedCloud) -> None:
    """Jobs, machine, price, reason, runner-up; time and machines with each way of using them; what is known
    of the cost; what cannot run. Nothing is launched, nothing stays."""
    answer = plan("-j", "2")

    assert answer.returncode == 1, answer.stderr
    assert "CANNOT RUN  rule never: needs mem_mb=90000000; the nearest allowed type, " in answer.stdout
    part = next(line for line in answer.stdout.splitlines() if line.startswith("part"))
    assert "on-demand" in part
    assert any("(part): the cheapest of" in line for line in answer.stdout.splitlines())
    ways = answer.stdout[answer.stdout.index("--ec2-reuse") :].splitlines()[1:4]
    assert [line.split()[0] for line in ways] == ["rule", "never", "run"]
    assert "by the rules' limits, and 1 job without `runtime` (join)" in " ".join(answer.stdout.split())
    lines = [line for line in answer.stdout.splitlines() if "CANNOT RUN" not in line]
    assert max(map(len, lines)) <= 100
    join = next(line for line in answer.stdout.splitlines() if line.startswith("join"))
    assert "m7i.large" in join
    assert "spot" in join
    assert "Jobs that run their command without Snakemake on the machine: " in answer.stdout
    assert "Limit L-1216C47A (Running On-Demand Standard" in answer.stdout
    assert ec2_cloud.calls("RunInstances") == []
    assert ec2_cloud.calls("CreateSecurityGroup") == []
    # What is kept of this cloud's answers goes with the cloud: its port is another one the next time.
    assert [path.name for path in plan.caches.rglob("types-*")] == []
    assert any(Path(ec2_cloud.env["SNAKEMAKE_EC2_CACHE"]).glob("types-*"))


def test_a_job_above_the_ceiling_is_marked(plan: Planner) -> None:
    """A slip is seen before the run, with what made it so; allowed, it has its row and its price."""
    (plan.folder / "Snakefile").write_text(
        "rule big:\n    output: 'big'\n    resources: mem_mb=10000000\n    shell: 'touch {output}'\n"
    )

    answer = plan("-j", "2")
    allowed = plan("-j", "2", "--ec2-max-price", "126")

    assert answer.returncode == 1, answer.stderr
    assert "CANNOT RUN  rule big: with mem_mb=10000000 (10 TB), the cheapest machine is u7i-" in answer.stdout
    assert "--ec2-max-price 126" in answer.stdout
    assert allowed.returncode == 0, allowed.stderr
    assert "125.6" in next(line for line in allowed.stdout.splitlines() if line.startswith("big"))


def test_json_for_programs(plan: Planner, ec2_cloud: EmbeddedCloud) -> None:
    """The same as data; `-j` bounds the peak, and costs come from the rule's runtime."""
    ec2_cloud.faults.quota("L-1216C47A", 3)

    told = plan.json("-j", "2")

    rows = {row["rule"]: row for row in told["rows"]}
    assert rows["part"]["jobs"] == 3
    assert rows["part"]["seconds"] == 3 * 3600
    assert rows["part"]["seconds_from"] == "runtime"
    hours = (3 * 3600 + rows["part"]["overhead_s"]) / 3600
    assert rows["part"]["cost_usd"] == pytest.approx(hours * (rows["part"]["usd_per_hour"] + 0.006), rel=0.05)
    assert rows["join"]["cost_usd"] is None
    limit = next(each for each in told["limits"] if each["code"] == "L-1216C47A")
    assert (limit["vcpus"], limit["peak_vcpus"], limit["jobs_at_a_time"]) == (3, 4, 2)
    assert [each["label"] for each in told["refused"]] == ["rule never"]


def test_earlier_benchmarks_tell_better(plan: Planner) -> None:
    """A job's own benchmark file of an earlier run goes before its runtime."""
    (plan.folder / "benchmarks").mkdir()
    for name, seconds in (("a", 10), ("b", 20), ("c", 30)):
        (plan.folder / f"benchmarks/{name}.tsv").write_text(f"s\th:m:s\n{seconds}\t0:00:{seconds}\n")

    rows = {row["rule"]: row for row in plan.json("-j", "2", "--forceall")["rows"]}

    assert rows["part"]["seconds"] == 60
    assert rows["part"]["seconds_from"] == "benchmark"


def test_jobs_whose_machines_need_nothing_installed_cost_less(plan: Planner) -> None:
    """The decision is the run's own: a command that runs as it is waits for no Snakemake. Jobs wait for one
    another, also for one on this computer in between."""
    (plan.folder / "Snakefile").write_text(
        "rule all:\n    input: 'a', 'b'\n"
        "rule a:\n    output: 'a'\n    resources: runtime=1\n    shell: 'touch {output}'\n"
        "rule here:\n    input: 'a'\n    output: 'c'\n    localrule: True\n    shell: 'touch {output}'\n"
        "rule b:\n    input: 'c'\n    output: 'b'\n    resources: runtime=1\n    run: open(output[0], 'w')\n"
    )

    told = plan.json("-j", "2")
    never = plan.json("-j", "2", "--ec2-direct", "never")

    assert [(row["direct_jobs"], row["overhead_s"]) for row in told["rows"]] == [(1, 30), (0, 90)]
    assert told["rows"][0]["cost_usd"] < told["rows"][1]["cost_usd"]
    assert told["longest_s"] == told["totals"][0]["wall_s"] == 60 + 30 + 60 + 90
    assert [(row["direct_jobs"], row["overhead_s"]) for row in never["rows"]] == [(0, 90), (0, 90)]


def test_targets_and_options_are_snakemake_s(plan: Planner) -> None:
    """Only the jobs that `snakemake` would run with these arguments are planned."""
    told = plan.json("-j", "2", "--ec2-spot", "prefer", "--ec2-exclude-types", "c*", "--", "a.txt")

    assert [(row["rule"], row["jobs"], row["market"]) for row in told["rows"]] == [("part", 1, "spot")]
    assert not told["rows"][0]["machine"].startswith("c")
    assert told["refused"] == []


def test_a_workflow_with_an_error(plan: Planner) -> None:
    """Snakemake's own message, exit status 1, no traceback."""
    answer = plan("-j", "2", "--", "nowhere.txt")

    assert answer.returncode == 1
    assert "nowhere.txt" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(("name", "jobs"), [("fertility", 21), ("variants", 37)])
def test_the_example_workflows(name: str, jobs: int, plan: Planner) -> None:
    """Every job of the examples has a machine and a cost, and their READMEs show the same rules and jobs."""
    shutil.rmtree(plan.folder)
    shutil.copytree(WORKFLOWS / name, plan.folder)

    told = plan.json("-j", "12")

    assert told["jobs"] == jobs
    assert told["refused"] == []
    assert told["cost_usd"] > 0
    shown = (WORKFLOWS / name / "README.md").read_text()
    for row in told["rows"]:
        assert re.search(rf"^{row['rule']} +{row['jobs']} ", shown, re.MULTILINE), row["rule"]
