"""Which files were missed, by what was said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_ec2.plugin.preflight.folders import refused_files
from snakemake_executor_ec2.staging.view import Viewer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with names that contain each other."""
    for name in ("s.tsv", "s.tsv.gz", "data/s.tsv", "data/a b(1).csv", "x"):
        tmp_path.joinpath(name).parent.mkdir(exist_ok=True)
        tmp_path.joinpath(name).write_text("1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("PermissionError: Permission denied (os error 13): s.tsv", "s.tsv"),
        ("PermissionError: Permission denied (os error 13): {here}/data/s.tsv", "data/s.tsv"),
        ("Failed to open local file 'data/s.tsv'. Detail: [errno 13] Permission denied", "data/s.tsv"),
        ("[Errno 13] Could not open variant file: Permission denied: 's.tsv.gz'", "s.tsv.gz"),
        ("cat: ./data/s.tsv: Permission denied", "data/s.tsv"),
        ('IO Error: Cannot open file "data/a b(1).csv": Permission denied', "data/a b(1).csv"),
        ("cannot open file 's.tsv': Permission denied", "s.tsv"),
        ("error: permission denied: other/s.tsv", None),
        ("FileNotFoundError: No such file or directory: 's.tsv'", None),
        ("    frame = read('s.tsv')", None),
        ("bash: ./run-x.sh: Permission denied", None),
    ],
)
def test_a_file_is_known_by_what_its_reader_says(folder: Path, line: str, meant: str | None) -> None:
    """Readers of all kinds name the file; neither a longer nor a shorter name is taken for it."""
    view = Viewer([folder]).look()

    found = refused_files(["Traceback", line.format(here=folder)], view, frozenset())

    assert found == ({folder / meant} if meant else set())


def test_what_travels_already_is_not_missed(folder: Path) -> None:
    """A file that was sent and can't be opened has another reason."""
    view = Viewer([folder]).look()
    line = "cat: s.tsv: Permission denied"

    assert refused_files([line], view, frozenset({str(folder / "s.tsv")})) == set()
