"""For which jobs machines may be launched ahead, with a real Snakemake and no machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_PROJECT = Path(__file__).parent.parent.parent
_PROGRAM = """
import json, sys
from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.plugin.coming import Coming
from snakemake_executor_ec2.plugin.dag import look_at_jobs
from tests.unit.machines.launchers import World

def look(dag, settings):
    steps = Coming(dag, RunConfig(), World().feasibility)._steps()
    print(json.dumps({
        step.rule: {
            "after": sorted(steps[each].rule for each in step.after),
            "needs": step.needs and [step.needs.requirements.mem_mb, *step.needs.tools],
            "known": step.needs and [step.needs.settled, not step.needs.unknown],
            "direct": bool(step.needs and step.needs.direct),
            "here": step.here,
        }
        for step in steps.values()
    }))

sys.exit(not look_at_jobs(sys.argv[1:], look))
"""
_OPTIONS = ("--jobs", "3", "--sdm", "conda", "--resources", "licence=1", "--default-resources")
_SNAKEFILE = """
localrules: all, here
rule all:
    input: "named", "unknown", "made", "far", "grouped", "licensed", "python"
rule first:
    output: "first"
    shell: "touch {output}"
rule named:
    input: "first"
    output: "named"
    conda: "env.yaml"
    resources: mem_mb=2000, disk_mb=1000
    shell: "touch {output}"
rule python:
    input: "first"
    output: "python"
    run: open(output[0], "w")
rule unknown:
    input: "first"
    output: "unknown"
    resources: mem_mb=lambda wildcards, input: int(open(input[0]).read())
    shell: "touch {output}"
checkpoint some:
    input: "first"
    output: directory("some")
    shell: "mkdir {output}"
rule made:
    input: lambda wildcards: [checkpoints.some.get().output[0]]
    output: "made"
    shell: "touch {output}"
rule here:
    input: "first"
    output: "here"
    shell: "touch {output}"
rule far:
    input: "here"
    output: "far"
    shell: "touch {output}"
rule inner:
    input: "first"
    output: temp("inner")
    group: "both"
    shell: "touch {output}"
rule grouped:
    input: "inner"
    output: "grouped"
    group: "both"
    shell: "touch {output}"
rule licensed:
    input: "first"
    output: "licensed"
    resources: licence=1
    shell: "touch {output}"
"""


def test_which_jobs_may_have_machines_ahead(tmp_path: Path) -> None:
    """Those that wait for others: not behind a checkpoint, not in a group, not here, not if `--resources` may
    hold them back. It is told if what they need depends on files that are not there, by their own wish."""
    (tmp_path / "Snakefile").write_text(_SNAKEFILE)
    (tmp_path / "env.yaml").write_text("dependencies: []\n")

    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *_OPTIONS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(_PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    steps = json.loads(done.stdout.splitlines()[-1])
    mem_mb = {rule: step["needs"][0] for rule, step in steps.items() if step["needs"]}
    assert mem_mb == {"named": 2000, "some": 1000, "python": 1000, "far": 1000, "unknown": 1000}
    known = {rule: step["known"] for rule, step in steps.items() if step["known"]}
    assert known.pop("unknown") == [False, False]
    assert known.pop("named") == [True, True]
    assert [*known.values()] == [[False, True]] * 3
    assert steps["named"]["needs"][1:] == ["conda"]
    assert [steps[rule]["direct"] for rule in ("far", "python")] == [True, False]
    assert steps["far"]["after"] == ["here"]
    assert {*steps} & {"inner", "grouped"} == set()
    (group,) = {*steps} & {"inner+grouped", "grouped+inner"}
    assert steps[group]["after"] == ["first"]
    assert steps["made"]["after"] == ["some"]
    assert {rule for rule, step in steps.items() if step["here"]} == {"all", "here"}
