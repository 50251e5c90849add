"""Which folders outside of the working directory machines see by name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from snakemake_executor_ec2.plugin.data_folders import data_folders, folders_elsewhere


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a home directory, whose Snakefile is in `code/`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    found = tmp_path / "project"
    (found / "code").mkdir(parents=True)
    return found


def elsewhere(
    project: Path, *, read: list[str] | None = None, made: list[str] | None = None, known: str = "code"
) -> list[str]:
    """Names that count from the project, as a user writes them."""
    reads, makes = ([Path(project / known, name).resolve() for name in names or []] for names in (read, made))
    return [str(each) for each in folders_elsewhere(reads, makes, [project / known])]


def test_folders_beside_the_code(project: Path) -> None:
    """Whole folders of the project: a job that reads one of their folders may list another one."""
    found = elsewhere(project, read=["../data/raw", "../data/deep/er", "."], made=["../results/a", "sub"])
    assert found == [str(project / "data"), str(project / "results")]


def test_a_repository_is_a_project(project: Path) -> None:
    """However deep in it the code is."""
    (project / "code" / "step").mkdir()
    made = ["../../results", "../figures/deep"]
    assert elsewhere(project, made=made, known="code/step") == [
        str(project / "code" / "figures"),
        str(project / "results"),
    ]
    assert elsewhere(project, read=["../../data"], known="code/step") == []
    (project / ".git").mkdir()
    assert elsewhere(project, read=["../../data"], known="code/step") == [str(project / "data")]


def test_elsewhere_only_what_is_written_to(project: Path) -> None:
    """A collection of genomes is large, and a workflow reads little of it."""
    found = elsewhere(
        project, read=["/refs/hg38"], made=["/scratch/run/a", "/scratch/run", "/scratch/run/b/c"]
    )
    assert found == ["/scratch/run"]


def test_nothing_that_holds_everything(project: Path) -> None:
    """Neither the folder around the code, nor a home directory, nor that of temporary files, nor all."""
    home = str(project.parent)
    made = ["..", home, str(Path(home).parent), "/tmp", "/dev/shm", tempfile.gettempdir(), "/"]
    assert elsewhere(project, read=made, made=made) == []
    (project.parent / "data").mkdir()
    assert elsewhere(project.parent, read=["../data"], known="project") == [], "~/data of ~/project"


def test_what_rules_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns up to their wildcards, logs and benchmarks too; of functions, what they have named."""
    monkeypatch.chdir(project / "code")
    rule = SimpleNamespace(
        input=["../data/{s}.csv", lambda wildcards: wildcards],
        output=["../results/{s}/x.csv", "plain.csv"],
        log=["../logs/{s}.log"],
        benchmark="../times/{s}.tsv",
    )
    workflow = SimpleNamespace(rules=[rule, SimpleNamespace(input=[], output=[], log=[], benchmark=None)])
    found = data_folders(workflow, [Path.cwd()], [project / "lists" / "of.txt"])
    assert [each.name for each in found] == ["data", "lists", "logs", "results", "times"]
