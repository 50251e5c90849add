"""What a rehearsal tells of jobs that it cannot show."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from snakemake_executor_ec2.model import Requirements
from snakemake_executor_ec2.plugin import programs
from snakemake_executor_ec2.plugin.programs import Unseen
from snakemake_executor_ec2.plugin.settings import ExecutorSettings

SMALL = Requirements(threads=1, mem_mb=1, disk_mb=1)


@pytest.fixture(autouse=True)
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This computer has these programs where machines see them."""
    for name in ("bwa", "samtools", "Rscript", "git", "awk", "multiqc"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setattr(programs, "_PATH", str(tmp_path))
    monkeypatch.setattr(programs, "deployment_tools", lambda jobs: jobs[0].tools)


def job(rule: str, command: str = "", *, script: str = "", tools: tuple[str, ...] = ()) -> Any:
    return SimpleNamespace(
        rule=SimpleNamespace(name=rule, script=script),
        shellcmd=command,
        is_shell=bool(command),
        is_script=bool(script),
        tools=tools,
        is_group=lambda: False,
    )


def told(*jobs: Any, needed: Requirements = SMALL, **settings: Any) -> list[str]:
    sentences: list[str] = []
    unseen = Unseen(ExecutorSettings(**settings), sentences.append, sentences.append)
    for each in jobs:
        unseen.note(each, needed)
    unseen.end()
    assert unseen.fails is any("--ec2-strict" in each for each in sentences)
    return sentences


def test_programs_of_this_computer_are_named_once() -> None:
    """With their rules; neither what the image has, nor what is nowhere."""
    (said,) = told(
        job("align", "bwa mem x | samtools sort - | awk 1 > y"),
        job("align", "bwa mem z | samtools sort - > y"),
        job("index", "nowhere x; bwa index x"),
        job("plot", script="scripts/plot.R"),
    )
    assert "Rscript (rule plot), bwa (rule align, index), samtools (rule align)" in said
    assert "dnf -y install R-core" in said
    assert "awk" not in said
    assert "nowhere" not in said


def test_what_is_brought_to_machines_is_not_named(tmp_path: Path) -> None:
    """By the rule's environment, by the setup script, by pip; and of another image nothing is known."""
    setup, requirements = tmp_path / "setup.sh", tmp_path / "requirements.txt"
    setup.write_text("sudo dnf -y install git R\ncurl -o /usr/local/bin/samtools …\n")
    requirements.write_text("multiqc==1.2\n")
    jobs = (
        job("align", "bwa mem x", tools=("conda",)),
        job("log", "git log; multiqc ."),
        job("plot", script="plot.Rmd"),
    )
    assert told(*jobs, setup=str(setup), requirements=str(requirements)) == []
    assert told(job("align", "bwa"), ami="ami-1") == []
    assert told(job("align", "bwa"), needed=Requirements(threads=1, mem_mb=1, disk_mb=1, ami="ami-1")) == []
    assert len(told(*jobs)) == 1


def test_limits_are_told_once_a_rule() -> None:
    """A GPU, and more memory or disk than this computer has."""
    large = Requirements(threads=1, mem_mb=10**9, disk_mb=10**11, gpus=1)
    said = told(job("train", "true"), job("train", "true"), needed=large)
    assert len(said) == 3
    assert "rule train asks for a GPU" in said[0]
    assert "of memory, and this computer has" in said[1]
    assert "of disk, and this computer has" in said[2]


def test_a_strict_rehearsal_fails() -> None:
    """If a program is lacking, and only then; the sentence says why, and what brings the program."""
    (said,) = told(job("align", "bwa mem x > y"), strict=True)
    assert "bwa (rule align)" in said
    assert "fails because of --ec2-strict" in said
    assert told(job("align", "awk 1 x > y"), strict=True) == []
    assert "--ec2-strict" not in told(job("align", "bwa mem x > y"))[0]
