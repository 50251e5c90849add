"""The oldest Snakemake that pyproject.toml allows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud

ROOT = Path(__file__).parents[2]
SNAKEFILE = """
import snakemake

rule plain:
    output: "plain.txt"
    shell: "echo plain > {output}"

rule version:
    input: "plain.txt"
    output: "version.txt"
    run:
        open(output[0], "w").write(snakemake.__version__)
"""


@pytest.mark.slow
def test_a_workflow_runs_with_it(ec2_cloud: EmbeddedCloud, tmp_path: Path) -> None:
    """Installed into a fresh environment with this checkout; it is also the one on the machine."""
    told = re.search(r'"snakemake>=([\d.]+)', (ROOT / "pyproject.toml").read_text())
    assert told is not None
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    environment = tmp_path / "env"
    python = str(environment / "bin/python")
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python, str(ROOT), f"snakemake=={told[1]}"]
    subprocess.run(install, check=True)

    variables = ec2_cloud.environment()
    done = subprocess.run(
        [python, "-m", "snakemake", "--executor", "ec2", "--jobs", "2", "version"],
        cwd=tmp_path,
        env={**variables, "PATH": f"{environment}/bin:{variables['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert (tmp_path / "version.txt").read_text() == told[1]
