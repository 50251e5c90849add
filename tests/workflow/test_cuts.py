"""A cut of the connection, in each phase of a job, costs at most its own length."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import TIMEOUT_S, Watched, launched_since, watched

PHASES = {
    "booting": "launched",
    "preparing": "staged",
    "running": "running",
    "leaving": "finished",
    "ending": "retrieved",
}
"""Rules, by the phase in which each is cut off, and how the line begins after which it is."""
SNAKEFILE = f"""
rule all:
    input: expand("{{rule}}.txt", rule={list(PHASES)})
""" + "".join(
    f"rule {rule}:\n    output: '{rule}.txt'\n"
    "    shell: 'sleep 3; head -c 20M /dev/zero > {output}; echo made >> {output}'\n"
    for rule in PHASES
)
_MACHINE = re.compile(r"launched .*\((i-\w+)\) for rule (\w+)")
SLACK_S = 20.0
"""How much the same run may differ from one time to another on a busy computer."""


@pytest.mark.parametrize("how", [pytest.param("refused", marks=pytest.mark.slow), "silent"])
@pytest.mark.parametrize(
    "seconds", [5, pytest.param(180, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_a_cut_costs_no_more_than_its_length(
    seconds: int, how: str, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """In each phase, whether packets are refused or just vanish: the same machine goes on, no job is
    run again, and (over minutes, where that can be measured) no more time is lost than the cut's."""

    def cut(machine: str) -> None:
        if how == "silent":
            ec2_cloud.faults.half_open(machine, seconds)
        else:
            ec2_cloud.faults.refuse(machine, seconds)
            ec2_cloud.faults.cut(machine)

    run_workflow.place({"Snakefile": SNAKEFILE})
    undisturbed = {}
    if seconds > TIMEOUT_S:
        first = watched(run_workflow, "--forceall", jobs=len(PHASES))
        assert first.wait() == 0, first.output
        undisturbed = _seconds_by_rule(run_workflow.folder)
    before = list(ec2_cloud.machine_states())
    run = watched(run_workflow, "--forceall", "--verbose", jobs=len(PHASES))
    _in_each_phase(run, cut)

    assert run.wait(timeout_s=TIMEOUT_S + 2 * seconds) == 0, run.output
    assert len(launched_since(ec2_cloud, before)) == len(PHASES), run.output
    assert all(len(re.findall(rf"running rule {rule}\b", run.output)) == 1 for rule in PHASES)
    took = _seconds_by_rule(run_workflow.folder)
    lost = {rule: took[rule] - undisturbed[rule] for rule in undisturbed}
    print({rule: round(value, 1) for rule, value in lost.items()})
    assert all(value <= seconds + SLACK_S for value in lost.values()), lost


def _in_each_phase(run: Watched, cut: Callable[[str], None]) -> None:
    machines: dict[str, str] = {}
    waiting = dict(PHASES)
    seen = 0
    while waiting:
        lines = run.lines[seen:]
        seen += len(lines)
        for line in lines:
            if launched := _MACHINE.match(line):
                machines[launched[2]] = launched[1]
            for rule, word in list(waiting.items()):
                if line.startswith(word) and re.search(rf"\brule {rule}\b", line):
                    cut(machines[rule])
                    del waiting[rule]
        if run.process.poll() is not None and not lines:
            pytest.fail(f"it ended before {', '.join(waiting)}:\n{run.output}")
        time.sleep(0.02)


def _seconds_by_rule(folder: Path) -> dict[str, float]:
    """How long the newest attempt at each rule took, by the journal."""
    with sqlite3.connect(folder / ".snakemake/ec2/journal.sqlite") as db:
        rows = db.execute("SELECT rule, seconds FROM attempts ORDER BY id").fetchall()
    return {rule: sum(json.loads(seconds).values()) for rule, seconds in rows}
