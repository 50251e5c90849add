"""Jobs that run beside each other, joined by a pipe."""

from __future__ import annotations

from tests.decision.conftest import Runs


def test_a_pipe_whose_other_end_failed_is_not_waited_for(runs: Runs) -> None:
    """A job of a pipe group that begins after another one has failed ends with it."""
    snakefile = """
import time

class Slow:
    def __str__(self):
        time.sleep(2)
        return "0"

SLOW = Slow()

rule writer:
    output: pipe("numbers")
    shell: "exit 3"

rule reader:
    input: "numbers"
    output: "found"
    shell: "grep {SLOW} < {input} > {output}"
"""
    decided = runs.decided({"Snakefile": snakefile}, "found", "--verbose")

    assert decided.status == 1
    assert "found" not in decided.tree
