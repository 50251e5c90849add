"""The recipes of docs/how-to, and the pages that others render: what they show works."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_args

ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs/how-to"
PAGES = sorted(HOW_TO.glob("*.md"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def test_the_snakefiles_can_be_run(tmp_path: Path) -> None:
    """All rules of all pages together, as one workflow whose inputs are there: Snakemake would run each."""
    code = "\n".join(text for page in PAGES for text in blocks(page, "python"))
    # A bucket is not asked for its files here.
    local = re.sub(r'storage\("s3://([^"]+)"\)', r'"\1"', code)
    (tmp_path / "Snakefile").write_text(local)
    rules = re.findall(r"^rule (\w+):", local, re.M)
    made = set(re.findall(r'"([^"]+)"', " ".join(re.findall(r"output: (.*)", local))))
    for name in re.findall(r'"([\w./-]+/[\w-]+[.][\w.]+)"', local):
        if name not in made:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    variables = dict.fromkeys(re.findall(r"^ +\"([A-Z_]+)\",$", local, re.M), "value")
    wildcards = {"resample": ["draws/1.csv"]}
    targets = [one for rule in rules for one in wildcards.get(rule, [rule])]

    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "8", "--forceall", *targets],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rules) > 10
    assert [rule for rule in rules if f"rule {rule}:" not in done.stdout + done.stderr] == []


def test_what_a_timetable_calls_is_accepted() -> None:
    """The lines for cron and systemd are of their form, and Snakemake's parser takes the commands in them;
    so do those of the CI job."""
    page = HOW_TO / "unattended.md"
    (crontab,) = blocks(page, "cron")
    minute, hour, *_, command = crontab.strip().split(maxsplit=5)
    assert (minute, hour) == ("0", "2")
    units = [configparser.ConfigParser(interpolation=None) for _ in range(2)]
    for unit, text in zip(units, blocks(page, "ini"), strict=True):
        unit.read_string(text)
    (workflow,) = blocks(page, "yaml")
    steps = [step.get("run", "") for step in yaml.safe_load(workflow)["jobs"]["run"]["steps"]]

    commands = [command.partition(">>")[0].partition("/bin/snakemake ")[2]]
    commands.append(units[0]["Service"]["ExecStart"].partition("/bin/snakemake ")[2])
    commands += [step.partition(" ")[2] for step in steps if step.startswith("snakemake ")]
    assert len([one for one in commands if one]) == 3
    for each in commands:
        parse_args(shlex.split(each))


@pytest.mark.parametrize("name", ["intro.md", "further.md"])
def test_what_the_catalogue_renders_stands_alone(name: str) -> None:
    """Snakemake's plugin catalogue puts these two pages into its own: their links are absolute."""
    text = (ROOT / "docs" / name).read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert [link for link in links if not link.startswith("https://")] == []
    assert "decision" not in text


def test_every_recipe_is_in_the_index() -> None:
    """docs/how-to/README.md links each page."""
    index = (HOW_TO / "README.md").read_text()
    assert [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in index] == []


def test_what_the_package_index_shows_has_no_dead_link() -> None:
    """README, as pyproject.toml has it changed for the index: without the repository's links and pictures."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rules = metadata["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = (ROOT / "README.md").read_text().partition(rules["fragments"][0]["end-before"])[0]
    assert "](docs/" in text
    for rule in rules["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")] == []
    assert "[local]'" in text
