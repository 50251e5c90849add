"""The example workflows, looked at without running a job: what they promise to exercise, they declare."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("example workflows")  # one of the workers runs them dry

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
NAMES = ("fertility", "variants")
SUFFIXES = {".md", ".py", ".smk", ".tsv", ".txt", ".yaml"}


def rules_of(workflow: Path) -> dict[str, str]:
    """The text of every rule of a workflow, by name."""
    rules = {}
    for path in [
        workflow / "workflow" / "Snakefile",
        *sorted((workflow / "workflow" / "rules").glob("*.smk")),
    ]:
        for chunk in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            name, body = chunk.split(":", 1)
            rules[name] = body
    return rules


def files_of(workflow: Path) -> list[Path]:
    """Every file of a workflow that a person wrote."""
    files = [path for path in workflow.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return [path for path in files if path.suffix in SUFFIXES or path.name == "Snakefile"]


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a dry run of each workflow prints, in a copy that holds only its own files."""
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    printed = {}
    for name in NAMES:
        copy = tmp_path_factory.mktemp(name) / name
        shutil.copytree(
            WORKFLOWS / name,
            copy,
            ignore=shutil.ignore_patterns(
                ".snakemake", "results", "logs", "benchmarks", "__pycache__", ".ruff_cache"
            ),
        )
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "4"]
        done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        printed[name] = done.stdout + done.stderr
    return printed


def jobs_of(plan: str) -> list[str]:
    """The jobs that a dry run announces, one text each, without the one that only gathers targets."""
    jobs = re.split(r"^(?=(?:local)?rule \w+:$)", plan, flags=re.MULTILINE)[1:]
    return [job for job in jobs if not re.match(r"(?:local)?rule all:", job)]


@pytest.mark.parametrize("name", NAMES)
def test_dry_run_plans_at_least_a_dozen_jobs(plans: dict[str, str], name: str) -> None:
    """A copy of the workflow dry-runs, and it has work enough to be worth spreading over machines."""
    assert len(jobs_of(plans[name])) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_jobs_ask_for_machines_of_at_least_three_sizes(plans: dict[str, str], name: str) -> None:
    """Rules differ in threads, memory, disk or time, so that sizing machines per rule is exercised."""
    sizes = set()
    for job in jobs_of(plans[name]):
        threads = re.search(r"^    threads: (\d+)", job, re.MULTILINE)
        asked = dict(re.findall(r"\b(mem_mb|disk_mb|runtime)=(\d+)", job))
        assert {"mem_mb", "disk_mb", "runtime"} <= asked.keys(), job
        sizes.add((threads[1] if threads else "1", *sorted(asked.items())))
    assert len(sizes) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_one_rule_asks_for_a_larger_machine(plans: dict[str, str], name: str) -> None:
    """At least one rule asks for four threads and eight gigabytes, which the smallest machines lack."""
    large = [job for job in jobs_of(plans[name]) if "threads: 4" in job and "mem_mb=8000" in job]
    assert large


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_has_a_log_a_benchmark_and_its_resources(name: str) -> None:
    """Each rule but the target rule declares the files and the size that the executor must carry."""
    for rule, body in rules_of(WORKFLOWS / name).items():
        if rule != "all":
            wanted = (
                "input:",
                "output:",
                "log:",
                "benchmark:",
                "threads:",
                "mem_mb=",
                "disk_mb=",
                "runtime=",
            )
            missing = [word for word in wanted if word not in body]
            assert missing in ([], ["input:"]), f"{rule} lacks {missing}"


@pytest.mark.parametrize("name", NAMES)
def test_workflow_uses_scripts_a_helper_module_and_a_shell_command(name: str) -> None:
    """Scripts that import a module of their own and a plain command are both among the rules."""
    bodies = rules_of(WORKFLOWS / name).values()
    scripts = WORKFLOWS / name / "workflow" / "scripts"
    named = {match[1] for body in bodies if (match := re.search(r'"\.\./scripts/(\w+)\.py"', body))}
    assert any("shell:" in body for body in bodies)
    assert all((scripts / f"{script}.py").is_file() for script in named)
    helpers = {path.stem for path in scripts.glob("*.py")} - named
    assert len(helpers) == 1
    helper = helpers.pop()
    assert all(f"from {helper} import" in (scripts / f"{script}.py").read_text() for script in named)


def test_variants_use_temporary_protected_and_directory_outputs() -> None:
    """The kinds of output that an executor can lose by treating all outputs alike are all present."""
    text = "".join(rules_of(WORKFLOWS / "variants").values())
    assert all(f"{flag}(" in text for flag in ("temp", "protected", "directory"))


@pytest.mark.parametrize("name", NAMES)
def test_sheet_is_read_at_parse_time_and_sets_the_jobs(plans: dict[str, str], name: str) -> None:
    """There is a job for each row of the table that the Snakefile reads while it is parsed."""
    sheet, rule = {"fertility": ("specs", "estimate"), "variants": ("samples", "align")}[name]
    with (WORKFLOWS / name / "config" / f"{sheet}.tsv").open(newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    jobs = [job for job in jobs_of(plans[name]) if re.match(rf"(?:local)?rule {rule}:", job)]
    assert len(jobs) == len(rows) > 1


@pytest.mark.parametrize("name", NAMES)
def test_no_path_is_absolute_and_no_address_is_named(name: str) -> None:
    """Nothing depends on one computer's folders, and nothing is fetched from an address."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in files_of(WORKFLOWS / name):
        text = path.read_text()
        found["address"] += re.findall(r"\w+://\S+", text)
        found["path"] += re.findall(
            r"(?<![\w.:/-])/(?:home|root|tmp|usr|opt|work|mnt|data|etc|var)\b\S*", text
        )
    assert not any(found.values()), dict(found)


@pytest.mark.parametrize("name", NAMES)
def test_requirements_are_lower_bounds_without_snakemake(name: str) -> None:
    """The packages for the machine have lower bounds only, and Snakemake is left to the executor."""
    lines = (WORKFLOWS / name / "requirements.txt").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    assert packages
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", package) for package in packages)
    assert not any(package.startswith("snakemake") for package in packages)
