"""What jobs left on their machines, in words."""

from __future__ import annotations

from pathlib import Path

from snakemake_executor_ec2.report.hints import hints
from snakemake_executor_ec2.report.leavings import Leavings
from tests.unit.machines import launchers

WORK = Path("/w")


def test_each_rule_has_one_line() -> None:
    """Number, size and the largest by name; a rule that left nothing has none."""
    leavings = Leavings()
    leavings.note("index", {WORK / f"{name}.bai": 1000 * number for number, name in enumerate("abcde", 1)})
    leavings.note("index", {WORK / "a.bai": 9000})
    leavings.note("tidy", {})
    leavings.note("plot", {WORK / "Rplots.pdf": 12})
    assert leavings.lines(WORK) == [
        "index left 5 files of 23 kB that it does not declare: a.bai 9 kB, e.bai 5 kB, d.bai 4 kB, …. They "
        "were lost with the machine; declare what you need as output or log",
        "plot left 1 file of 12 B that it does not declare: Rplots.pdf 12 B. They were lost with the "
        "machine; declare what you need as output or log",
    ]


def test_who_misses_a_file_hears_who_left_it() -> None:
    """And what to declare where."""
    leavings = Leavings()
    leavings.note("index", {WORK / "x.bai": 1})
    told = hints(launchers.plan(), 1, ["cat: ./x.bai: No such file or directory", "x.bai"], leavings)
    assert told == [
        "./x.bai was made by index and lost with its machine, because no rule declares it: add it to "
        "the output of index, and to the input of align."
    ]
