"""Which files a failure is told to be about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_ec2.model import JobPlan
from snakemake_executor_ec2.report.hints import hints, undeclared
from snakemake_executor_ec2.staging.view import Viewer
from tests.unit.machines import launchers


@pytest.fixture
def plan(tmp_path: Path) -> JobPlan:
    """A repository whose Snakefile is beside the working directory."""
    for name in (
        "run/data/a.txt",
        "run/sent.txt",
        "run/deep/er/x.csv",
        "run/data/Müller 1.txt",
        "workflow/Snakefile",
        "workflow/s.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    work = tmp_path / "run"
    return replace(
        launchers.plan(),
        workdir=work,
        sources=(tmp_path / "workflow" / "Snakefile",),
        inputs=(work / "sent.txt",),
        own=(work / "out.txt",),
        view=Viewer([work, tmp_path / "workflow"]).look(),
    )


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("cat: data/a.txt: Permission denied", ["data/a.txt"]),
        ("cat: ./data/../data/a.txt: No such file or directory", ["./data/../data/a.txt"]),
        ("cp: cannot open 'a.txt' for reading: Permission denied", ["data/a.txt"]),
        ("PermissionError: [Errno 13] Permission denied: 'er/x.csv'", ["deep/er/x.csv"]),
        ("cat: sent.txt: Permission denied", []),
        ('CalledProcessError in file "../workflow/Snakefile", line 5:', []),
        ("python: can't open file '../workflow/s.py': [Errno 2] No such file", ["../workflow/s.py"]),
        ("data/a.txt data/a.txt ./data/a.txt", ["data/a.txt"]),
        ("bash: line 1: /etc/passwd: Permission denied", []),
        ("cat: nowhere.txt: No such file or directory", []),
        ("cat: 'data/Müller 1.txt': Permission denied", ["data/Müller 1.txt"]),
        ('Error: cannot open "Müller 1.txt": Permission denied', ["data/Müller 1.txt"]),
        ("it's 'data/a.txt' that can't be read", ["data/a.txt"]),
    ],
)
def test_files_that_are_here_and_were_not_sent_are_named(line: str, names: list[str], plan: JobPlan) -> None:
    """By normalised paths, and once; what was sent, or is the computer's own, never."""
    assert undeclared(plan, [line]) == names


def test_a_file_elsewhere_is_named_if_it_was_missed(plan: JobPlan, tmp_path: Path) -> None:
    """An absolute path in a line that complains; one that is only spoken of is not."""
    reference = tmp_path / "refs" / "genome.fa"
    reference.parent.mkdir()
    reference.write_text("")
    assert undeclared(plan, [f"cannot open {reference}"]) == [str(reference)]
    assert undeclared(plan, [f"reading {reference}"]) == []
    told = hints(plan, 1, [f"{reference}: No such file or directory"])
    assert told[0].startswith(f"{reference} exists on your computer but was not sent")


@pytest.mark.parametrize(
    ("line", "begins"),
    [
        (
            "ModuleNotFoundError: No module named 'numpy.linalg'",
            "The machine lacks the Python module numpy: add",
        ),
        (
            "/usr/bin/bash: line 1: Rscript: command not found",
            "The machine lacks the program Rscript: put `sudo dnf",
        ),
        (
            "bash: bwa: command not found",
            "The machine lacks the program bwa: put what installs it into an --ec2-setup",
        ),
        (
            "Error in library(sf) : there is no package called \u2018sf\u2019",
            "The machine lacks the R package sf: install it with a script",
        ),
        ("nothing is said", "The machine lacks a program: install it with a script that --ec2-setup names"),
    ],
)
def test_what_a_machine_lacks_is_named_with_what_brings_it(line: str, begins: str, plan: JobPlan) -> None:
    """Once, however often a job has said so."""
    (told,) = hints(plan, 127, [line, line])
    assert told.startswith(begins)
    assert "--sdm conda" in told
