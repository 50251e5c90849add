"""docs/first-run.md can be followed as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud

PAGE = (Path(__file__).parents[2] / "docs/first-run.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S)
    for line in block.splitlines()
    if line.startswith("snakemake")
]
(SNAKEFILE,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


@pytest.mark.slow
def test_the_first_run(ec2_cloud: EmbeddedCloud, tmp_path: Path) -> None:
    """Each command ends well, the workflow has its result, and no machine is left at the end."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    environment = ec2_cloud.environment()
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    before = len(ec2_cloud.machine_states())
    printed = {}
    for command in COMMANDS:
        # The catalogue of this region is the one that other tests have asked for already.
        words = command.replace("eu-central-1", "us-east-1")
        done = subprocess.run(
            ["bash", "-c", words],
            cwd=tmp_path,
            env={**environment, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        printed[command] = done.stdout

    assert [command.split(" --")[0] for command in COMMANDS] == [
        "snakemake-ec2 doctor", "snakemake-ec2 doctor", "snakemake-ec2 plan", "snakemake", "snakemake-ec2 ps",
    ]  # fmt: skip
    assert (tmp_path / "results/count.txt").read_text().strip() == "1000000"
    assert len(ec2_cloud.machine_states()) == before + 2
    assert len(printed[COMMANDS[-1]].strip().splitlines()) == 1  # the header
