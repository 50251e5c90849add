"""What a workflow leaves behind on EC2 is what it leaves behind here."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from snakemake_executor_ec2.testing import WorkflowRunner

EVERYTHING = Path(__file__).parent / "everything"
MADE = ("out", "work", "logs", "benchmarks")


def test_a_bit_of_everything_is_the_same_on_ec2(run_workflow: WorkflowRunner, tmp_path: Path) -> None:
    """Names, contents and modes are as after a local run; times are such that nothing is left to do."""
    here = _prepared(tmp_path / "here")
    local = subprocess.run(
        [sys.executable, "-m", "snakemake", "-c2"], cwd=here, capture_output=True, text=True, check=False
    )
    assert local.returncode == 0, local.stderr
    there = _prepared(run_workflow.folder)

    run = run_workflow({}, timeout_s=500)

    assert run.returncode == 0, run.output
    assert _tree(there) == _tree(here)
    assert _nothing_to_do(there)


def _prepared(folder: Path) -> Path:
    shutil.copytree(EVERYTHING, folder, dirs_exist_ok=True)
    data = folder / "data"
    (data / "tree" / "sub").mkdir(parents=True)
    (data / "tree" / "one.txt").write_text("one\n")
    (data / "tree" / "sub" / "two.txt").write_text("two\n")
    (data / "old.txt").write_text("old\n")
    (data / 'an input\'s "name".txt').write_text("odd\n")
    (data / "link.txt").symlink_to(folder / "data" / "old.txt")
    os.utime(data / "old.txt", (1_000_000_000, 1_000_000_000))
    return folder


def _tree(folder: Path) -> dict[str, tuple[str, int, str]]:
    """Kind, mode and content of everything that was made, by relative path."""
    found = {}
    for top in MADE:
        for path in sorted((folder / top).rglob("*")):
            name = str(path.relative_to(folder))
            mode = stat.S_IMODE(path.lstat().st_mode)
            if path.is_symlink():
                found[name] = ("link", mode, str(path.readlink()))
            elif path.is_dir():
                found[name] = ("directory", mode, "")
            else:
                # A benchmark's figures differ from run to run; that they are there does not.
                content = "figures" if top == "benchmarks" else path.read_text()
                found[name] = ("file", mode, content)
    return found


def _nothing_to_do(folder: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n"], cwd=folder, capture_output=True, text=True, check=False
    )
    return "Nothing to be done" in done.stdout + done.stderr
