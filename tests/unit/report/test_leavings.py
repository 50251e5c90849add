"""What jobs left on their machines, in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from snakemake_executor_ec2.report.failed_job import went_without
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


def test_what_a_job_went_without_is_told_last() -> None:
    """Of rules that ended well although they could not read something; each file once."""
    leavings = Leavings()
    leavings.went_without("merge", [])
    assert leavings.lines(WORK) == []
    leavings.note("index", {WORK / "x.bai": 1})
    for names in (["b.txt"], ["b.txt", "c.txt"], ["d.txt", "e.txt"]):
        leavings.went_without("merge", names)
    assert leavings.lines(WORK)[1:] == [
        "merge could not read b.txt, c.txt, d.txt, …, not sent because no rule declares it as input, but did "
        "not fail: its results may lack that. Add it to the input, and run the rule again"
    ]


def test_what_a_job_complains_of(tmp_path: Path) -> None:
    """In what it printed or in its log file; of files that are here and were not sent only."""
    for name in ("a.txt", "b.txt", "c.txt", "d.txt"):
        (tmp_path / name).touch()
    log, own_log = tmp_path / "job.log", tmp_path / "own.log"
    plan = replace(launchers.plan(), workdir=tmp_path, inputs=(tmp_path / "a.txt",), logs=(own_log,))
    assert went_without(plan, log) == []
    log.write_text(
        "cat: b.txt: Permission denied\nreading d.txt\ncat: a.txt: Permission denied\n"
        "mkdir: cannot create directory '/root/x': Permission denied\n"
    )
    own_log.write_text("PermissionError: [Errno 13] Permission denied: './c.txt'\n")
    assert went_without(plan, log) == ["b.txt", "./c.txt"]
