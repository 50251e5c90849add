"""Benchmarks still work: each is run in its short form."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks
from tests.sshd import find_sshd

ROOT = Path(benchmarks.__file__).parents[1]
NAMES = sorted(
    path.stem
    for path in Path(benchmarks.__file__).parent.glob("*.py")
    if f"`python -m benchmarks.{path.stem}`" in path.read_text()
)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_measures(name: str) -> None:
    """It ends well and prints something."""
    if name == "staging" and (find_sshd() is None or shutil.which("scp") is None):
        pytest.skip("sshd and scp are not installed")
    command = [sys.executable, "-m", f"benchmarks.{name}", "--short"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_all_benchmarks_are_run() -> None:
    """A module that is run by itself says how, and then is in the list above."""
    folder = Path(benchmarks.__file__).parent
    runnable = {path.stem for path in folder.glob("*.py") if 'if __name__ == "__main__"' in path.read_text()}
    assert runnable - {"decided_controller", "light_controller", "light_server"} == set(NAMES)
