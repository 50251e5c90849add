"""What `snakemake-ec2 bake` finds out about a workflow, with a real Snakemake and no machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_PROJECT = Path(__file__).parent.parent.parent
_PROGRAM = """
import dataclasses, json, sys
from snakemake_executor_ec2.plugin.baking import wanted
from snakemake_executor_ec2.plugin.dag import look_at_jobs

def look(dag, settings):
    found = wanted(dag, settings, lambda text: None)
    software = dataclasses.asdict(found.software)
    print(json.dumps({"bases": [dataclasses.astuple(each) for each in found.bases], "software": software}))

sys.exit(not look_at_jobs(sys.argv[1:], look))
"""
_SNAKEFILE = """
rule all:
    input: "plain", "arm", "own", "gpu"
rule plain:
    output: touch("plain")
    conda: "env.yaml"
    shell: "true"
rule arm:
    output: touch("arm")
    resources: ec2_arch="arm64"
    shell: "true"
rule own:
    output: touch("own")
    resources: ec2_ami="ami-1", gpu=1
    shell: "true"
rule gpu:
    input: "plain"
    output: touch("gpu")
    resources: gpu=1, mem_mb=lambda wildcards, input: open(input[0]).read() and 1
    shell: "true"
rule gpu_too:
    output: touch("gpu_too")
    resources: gpu=1
    shell: "true"
"""


def test_every_image_that_jobs_start_from_counts(tmp_path: Path) -> None:
    """Also of jobs whose results are there; not of one whose resources are not known yet. The software is
    what all jobs need together."""
    (tmp_path / "Snakefile").write_text(_SNAKEFILE)
    (tmp_path / "env.yaml").write_text("dependencies: []\n")
    (tmp_path / "setup.sh").write_text("true\n")
    (tmp_path / "arm").touch()

    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "--sdm", "conda", "--ec2-setup", "setup.sh", "all", "gpu_too"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(_PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["bases"] == [
        ["", "arm64", False],
        ["", "x86_64", False],
        ["", "x86_64", True],
        ["ami-1", "x86_64", False],
    ]
    assert found["software"]["tools"] == ["conda"]
    assert (found["software"]["setup"], found["software"]["late"]) == ("true\n", [])
