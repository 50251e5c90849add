"""What a Snakefile reads while it is parsed, as far as it is the workflow's."""

from __future__ import annotations

import io
import py_compile
import sys
from pathlib import Path

import pytest

from snakemake_executor_ec2.plugin import parse_reads


class Workflow:
    """Named as Snakemake's class, by which the hook knows a Snakefile's globals."""


def read(*files: Path | str) -> None:
    """Open files as the code of a Snakefile does that calls some library."""
    code = compile("for file in files: open(file).close()", "Snakefile", "exec")
    exec(code, {"workflow": Workflow(), "files": files, "open": io.open})  # noqa: S102  as Snakemake does


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    parse_reads.stop()  # what an earlier test of this process has listened to
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return path


def test_the_computers_own_files_stay(home: Path) -> None:
    """A sample sheet travels; settings of the system and the user's hidden files do not."""
    sheet, elsewhere = write(home / "project" / "samples.tsv"), write(home / "lab" / "contigs.txt")
    credentials = write(home / ".aws" / "credentials")
    parse_reads.listen()
    read(sheet, elsewhere, credentials, "/proc/self/status", "/etc/passwd")
    assert parse_reads.stop() == {sheet, elsewhere}


def test_a_project_in_a_hidden_folder_is_a_project(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the working directory is itself below a hidden folder, what is read there travels."""
    sheet = write(home / ".scratch" / "run" / "samples.tsv")
    monkeypatch.chdir(sheet.parent)
    parse_reads.listen()
    read("samples.tsv")
    assert parse_reads.stop() == {sheet}


@pytest.mark.parametrize("cached", [False, True])
def test_modules_of_the_workflow_travel(cached: bool, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a Snakefile imports from its folder travels, compiled before or not; no library does."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    module = write(home / "project" / "lib" / f"module_{cached}.py")
    library = write(home / "site" / f"library_{cached}.py")
    for path in (module, library):
        path.write_text("value = 1")
        monkeypatch.syspath_prepend(path.parent)
        if cached:
            py_compile.compile(str(path))
    code = compile(f"import {module.stem}, {library.stem}", str(home / "project" / "Snakefile"), "exec")
    parse_reads.listen()
    exec(code, {"workflow": Workflow()})  # noqa: S102  as Snakemake does
    assert parse_reads.stop() == {module}
