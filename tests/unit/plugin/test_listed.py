"""Which folders Snakefiles list, also after the parse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snakemake_executor_ec2.plugin import parse_reads


class Workflow:
    """Named as Snakemake's class, by which the hook knows a Snakefile's globals."""


@pytest.mark.parametrize(
    "code", ["os.listdir(f)", "list(os.walk(f))", "glob.glob(f + '/*')", "list(Path(f).iterdir())"]
)
def test_folders_that_a_snakefile_lists_are_noted(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By any of Python's ways; what libraries list for themselves is not."""
    (tmp_path / ".hidden").mkdir()
    monkeypatch.chdir(tmp_path)
    parse_reads.listen()
    parse_reads.stop()
    os.listdir()  # noqa: PTH208
    assert tmp_path not in parse_reads.listed()
    text = f"import glob, os\nfrom pathlib import Path\nf = '.hidden'\n{code}"
    exec(compile(text, str(tmp_path / "Snakefile"), "exec"), {"workflow": Workflow()})  # noqa: S102
    assert tmp_path / ".hidden" in parse_reads.listed()
