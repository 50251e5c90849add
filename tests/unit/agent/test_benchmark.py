"""What a job's `benchmark:` file holds when the agent measures."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from snakemake.benchmark import BenchmarkRecord, benchmarked, print_benchmark_jsonl, print_benchmark_tsv

from snakemake_executor_ec2.agent.benchmark import COLUMNS, Benchmark, _hours

_WORK = """
import subprocess, sys, time
kept = bytearray(b"x") * (60 << 20)
child = subprocess.Popen([sys.executable, "-c", "kept = bytearray(b'x') * (40 << 20); input()"],
                         stdin=subprocess.PIPE)
until = time.process_time() + 1.2
while time.process_time() < until:
    pass
time.sleep(1.5)
child.communicate(b"\\n")
"""


def test_columns_are_those_of_snakemake() -> None:
    """Whoever reads benchmarks finds what Snakemake would have written."""
    assert list(COLUMNS) == BenchmarkRecord.get_header()


def test_the_same_process_gives_the_same_values(tmp_path: Path) -> None:
    """Measured side by side by Snakemake and by the agent: times, memory, load, in both formats."""
    process = subprocess.Popen([sys.executable, "-c", _WORK])
    ours = Benchmark(process.pid)
    with benchmarked(process.pid) as theirs:
        while process.poll() is None:
            ours.look()
            time.sleep(0.02)
    ours.over()
    for suffix, write in (("tsv", print_benchmark_tsv), ("jsonl", print_benchmark_jsonl)):
        ours.write(str(tmp_path / f"b.{suffix}"))
        expected = io.StringIO()
        write([theirs], expected, False)
        got, wanted = (tmp_path / f"b.{suffix}").read_text(), expected.getvalue()
        assert got.count("\n") == wanted.count("\n")
        read = json.loads if suffix == "jsonl" else _rows
        mine, other = read(got), read(wanted)
        assert list(mine) == list(other)
        for name in ("s", "max_rss", "max_vms", "max_uss", "max_pss"):
            assert float(mine[name]) == pytest.approx(float(other[name]), rel=0.15), name
        for name in ("io_in", "io_out", "mean_load", "cpu_time"):
            assert float(mine[name]) == pytest.approx(float(other[name]), rel=0.5, abs=25), name
        assert float(mine["max_rss"]) > 100
        assert float(mine["cpu_time"]) > 0.1


def test_a_command_that_was_over_at_once_has_no_measures(tmp_path: Path) -> None:
    """NA, as Snakemake says it, and not 0."""
    process = subprocess.Popen(["true"])
    process.wait()
    ours, theirs = Benchmark(process.pid), BenchmarkRecord(running_time=0.0)
    ours.look()
    ours.over()
    ours.write(str(tmp_path / "b.tsv"))
    assert (tmp_path / "b.tsv").read_text().splitlines()[1][4:] == theirs.to_tsv(False)[4:]


@pytest.mark.parametrize("seconds", [0.4, 59.9, 61, 3600, 86399, 86400, 200000.5])
def test_time_is_spelled_as_snakemake_does(seconds: float) -> None:
    """Days included."""
    record = BenchmarkRecord(running_time=seconds)
    assert _hours(seconds) == record.get_benchmarks()[1]


def _rows(text: str) -> dict[str, str]:
    header, values = (line.split("\t") for line in text.splitlines())
    return dict(zip(header, values, strict=True))
