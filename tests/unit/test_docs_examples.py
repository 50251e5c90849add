"""What the documentation shows can be typed as it stands there."""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_args

from snakemake_executor_ec2.cli import _COMMANDS
from snakemake_executor_ec2.plugin.settings import ExecutorSettings

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/how-to").glob("*.md")),
]
BLOCKS = [
    (f"{page.stem}-{number}", *match.groups())
    for page in PAGES
    for number, match in enumerate(re.finditer(r"^```(\w+)\n(.*?)^```", page.read_text(), re.M | re.S))
]
OPTIONS = {f"ec2-{each.name.replace('_', '-')}" for each in dataclasses.fields(ExecutorSettings)}


def blocks(language: str) -> list[object]:
    return [pytest.param(text, id=name) for name, kind, text in BLOCKS if kind == language]


@pytest.mark.parametrize("text", blocks("bash"))
def test_commands_are_accepted(text: str) -> None:
    """By the shell, and those of Snakemake by its parser, which knows our options."""
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    for line in text.replace("\\\n", "").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["snakemake"]:
            parse_args(words[1:])


@pytest.mark.parametrize("text", blocks("yaml"))
def test_profiles_have_options_that_there_are(text: str) -> None:
    """A misspelt one would end Snakemake at its start."""
    assert {key for key in yaml.safe_load(text) if str(key).startswith("ec2-")} <= OPTIONS


@pytest.mark.parametrize("text", blocks("python"))
def test_code_can_be_read(text: str) -> None:
    """As Python, if it is no Snakefile. (`test_docs_how_to.py` has Snakemake read those.)"""
    if not text.startswith(("rule ", "envvars:")):
        ast.parse(text)


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_options_and_commands_in_the_text_exist(page: Path) -> None:
    """Wherever a page names one."""
    text = page.read_text()
    named = {each.rstrip("-") for each in re.findall(r"--(ec2-[a-z-]+)(?![a-z-]*…)", text)}
    assert named - OPTIONS == set()
    commands = set(re.findall(r"`snakemake-ec2 ([a-z]+)", text))
    assert commands - {*_COMMANDS, "doctor", "plan", "bake", "away", "cloud"} == set()
