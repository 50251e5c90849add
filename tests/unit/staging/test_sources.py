"""What travels with every job, settled for folders that are really there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from snakemake_executor_ec2.staging import describe, sources
from snakemake_executor_ec2.staging.sources import Reason, Sources, gather


def test_scripts_travel_without_being_declared_and_data_does_not(tmp_path: Path) -> None:
    """Without git: what ends as a script, what is executable, what begins with `#!`; no table."""
    _place(tmp_path, "tools/a.sh", "tools/b.py", "Makefile", "data.csv", "notes.txt", ".hidden/c.py")
    _place(tmp_path, "bin/run", "Snakefile_inner", "bin/program").chmod(0o755)
    (tmp_path / "bin" / "run").write_text("#!/bin/sh\n")

    found = _gather(tmp_path)

    scripts = {"tools/a.sh", "tools/b.py", "Makefile", "bin/run", "bin/program", "Snakefile_inner"}
    assert _names(found, tmp_path) == scripts
    assert set(found.reasons.values()) == {Reason.SCRIPT}


def test_git_says_what_belongs_to_the_project(tmp_path: Path) -> None:
    """In a git repository its tracked files travel, whatever they are, and no others."""
    _place(tmp_path, "lookup.tsv", "tools/a.sh", "untracked.sh")
    for command in (["init", "-q"], ["add", "lookup.tsv", "tools"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)

    found = _gather(tmp_path)

    assert _names(found, tmp_path) == {"lookup.tsv", "tools/a.sh"}
    assert set(found.reasons.values()) == {Reason.TRACKED}


def test_what_rules_make_is_never_a_source(tmp_path: Path) -> None:
    """An output may vanish at any time; also within a directory, and where a pattern asks for it."""
    _place(tmp_path, "out/made.py", "out/tree/made.sh", "own.py", "table.csv")
    outputs = frozenset({tmp_path / "out" / "made.py", tmp_path / "out" / "tree"})

    found = _gather(tmp_path, outputs=outputs, inputs={tmp_path / "table.csv"}, include=["out"])

    assert _names(found, tmp_path) == {"own.py"}


def test_a_script_that_one_rule_declares_still_travels_with_the_others(tmp_path: Path) -> None:
    """A declared table is data and goes with its jobs; a declared script may be called by any rule."""
    for command in (["init", "-q"], ["add", "."]):
        _place(tmp_path, "tool.py", "table.csv")
        subprocess.run(["git", *command], cwd=tmp_path, check=True)

    found = _gather(tmp_path, inputs={tmp_path / "tool.py", tmp_path / "table.csv"})

    assert _names(found, tmp_path) == {"tool.py"}


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        (["lookup/*.tsv"], [], {"a.py", "lookup/one.tsv"}),
        (["lookup"], [], {"a.py", "lookup/one.tsv", "lookup/deep/two.tsv"}),
        (["**/*.tsv"], [], {"a.py", "lookup/one.tsv", "lookup/deep/two.tsv"}),
        (["lookup"], ["lookup/deep", "*.py"], {"lookup/one.tsv"}),
        (["lookup"], ["**/*.tsv"], {"a.py"}),
        (["odd[1].txt"], [], {"a.py", "odd[1].txt"}),
    ],
)
def test_patterns_are_those_of_a_shell(
    include: list[str], exclude: list[str], names: set[str], tmp_path: Path
) -> None:
    """`*` within a name, `**` at any depth, a folder for all that is in it; exclude goes before include."""
    _place(tmp_path, "a.py", "lookup/one.tsv", "lookup/deep/two.tsv", "odd[1].txt")

    assert _names(_gather(tmp_path, include=include, exclude=exclude), tmp_path) == names


def test_absolute_patterns_lead_outside(tmp_path: Path) -> None:
    """A pattern may name files anywhere on this computer."""
    outside = _place(tmp_path, "elsewhere/model.bin")
    workdir = tmp_path / "here"
    workdir.mkdir()

    assert _gather(workdir, include=[f"{tmp_path}/else*/*.bin"]).files == (outside,)


def test_what_is_left_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence for each large file and useless pattern; what was asked for by name may be large."""
    monkeypatch.setattr(sources, "LIMIT_BYTES", 3)
    for path in (_place(tmp_path, "large.py"), _place(tmp_path, "asked.py")):
        path.write_text("more than three bytes")

    found = _gather(tmp_path, include=["asked.py", "nothing*"])

    assert _names(found, tmp_path) == {"asked.py"}
    large, unmatched = describe.warnings(found, tmp_path)
    assert "large.py is larger than" in large
    assert "--ec2-include" in large
    assert "nothing*" in unmatched


def test_a_folder_with_too_many_files_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not all of a folder was looked at, the user reads which folder it was."""
    monkeypatch.setattr(sources, "LIMIT_FILES", 2)
    _place(tmp_path, "a.py", "b.py", "c.py")

    found = _gather(tmp_path)

    assert _names(found, tmp_path) == {"a.py", "b.py"}
    (sentence,) = describe.warnings(found, tmp_path)
    assert str(tmp_path) in sentence


def test_the_inventory_counts_by_reason(tmp_path: Path) -> None:
    """Number, size and reason, the largest first; what was excluded is there, too."""
    _place(tmp_path, "big.tsv").write_text("x" * 2000)
    _place(tmp_path, "a.py", "notes.py")

    text = describe.of_sources(_gather(tmp_path, include=["*.tsv"], exclude=["notes.py"]), tmp_path)

    assert "sent with every job: 2 files of 2 kB" in text
    assert "1 file of 2 kB, --ec2-include: big.tsv 2 kB" in text
    assert "1 file of 0 B, a script in a folder of the workflow: a.py" in text
    assert "left out by --ec2-exclude, 1 file of 0 B: notes.py" in text


def _place(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return path


def _gather(
    folder: Path,
    *,
    inputs: Iterable[Path] = (),
    outputs: Iterable[Path] = (),
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> Sources:
    return gather(
        folder,
        named=(),
        read_by_parse=(),
        inputs=frozenset(inputs),
        outputs=frozenset(outputs),
        include=tuple(include),
        exclude=tuple(exclude),
    )


def _names(found: Sources, folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in found.files}
