"""A run at one moment, on a terminal of any size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_ec2.agent.protocol import Sampled, Started
from snakemake_executor_ec2.model import Phase
from snakemake_executor_ec2.records.live import Live, Moving, Use, path_of, read
from snakemake_executor_ec2.records.rows import Attempt
from snakemake_executor_ec2.report.watching import Now, view
from tests.fakes.records import run_record
from tests.unit.report.made_up import BEGAN_AT, attempt, machine

NOW = BEGAN_AT + 100
REHEARSED = "http://127.0.0.1:1"


def at(*attempts: Attempt, endpoint: str = "https://ec2.us-east-1.amazonaws.com") -> Now:
    run = replace(run_record("run-1", began_at=BEGAN_AT), endpoint=endpoint)
    return Now(
        run=run,
        attempts=attempts,
        machines=[*{each.on.id: each.on for each in attempts}.values()],
        uses={"run-1.1.1": Use(mem_mib=512, cpu_seconds=9.0, at=1.0, cores=0.94)},
        moving={"run-1.2.1": Moving(way="to", done=1_200_000_000, total=4_800_000_000, per_s=1.2e8)},
        now=NOW,
        alive=True,
    )


def three() -> list[Attempt]:
    """One runs, one is sent its inputs, and one waits for a machine."""
    started = machine(1, BEGAN_AT + 2)
    other = machine(2, BEGAN_AT + 2)
    seconds = {"launch": 2.0, "boot": 20.0}
    return [
        attempt(3, None, phase=Phase.LAUNCH, end_reason="", began_at=BEGAN_AT + 90),
        attempt(2, other, phase=Phase.PREPARE, end_reason="", seconds=seconds),
        attempt(1, started, phase=Phase.RUN, end_reason="", seconds={**seconds, "prepare": 8.0}),
    ]


def test_jobs_machines_bytes_and_cost_at_a_glance() -> None:
    """What runs comes first, with CPU and memory against what was asked for."""
    lines = view(at(*three(), attempt(4, machine(4, BEGAN_AT))), columns=140, rows=50)
    assert lines[0].startswith("run run-1: 1.7 min, estimated cost $0.0089, ")
    assert lines[0].endswith("an hour now")
    assert lines[1] == "jobs: 2 under way, 1 waiting for a machine, 1 done; machines: 3, 1 idle"
    runs, sent, waits = (line.split("  ") for line in lines[4:7])
    assert [each.strip() for each in runs if each.strip()] == [
        "rule a (1)", "runs", "70 s", "m7i.large i-00000000000000001", "0.9 of 1", "537 MB of 1 GB",
    ]  # fmt: skip
    assert sent[-1] == "to it 1.2 GB of 4.8 GB, 120 MB/s, 30 s left"
    assert [each.strip() for each in waits if each] == ["rule a (3)", "waits for a machine", "10 s"]


def test_a_rehearsal_would_have_cost() -> None:
    """No other words for money."""
    (first, *_) = view(at(*three(), endpoint=REHEARSED), columns=100, rows=50)
    assert ", would have cost $0." in first


@pytest.mark.parametrize(("columns", "rows"), [(100, 50), (80, 24), (40, 10)])
def test_a_thousand_jobs_fit_any_terminal(columns: int, rows: int) -> None:
    """The rest is counted."""
    jobs = [
        attempt(n, machine(n, BEGAN_AT), phase=Phase.RUN, end_reason="", label=f"rule a (sample={n:0200})")
        for n in range(1, 1001)
    ]
    lines = view(at(*jobs), columns=columns, rows=rows)
    assert len(lines) <= max(rows, 18)
    assert max(map(len, lines)) <= columns
    assert lines[-1] == f"and {1005 - len(lines)} more"


def test_what_a_run_writes_is_read_and_ends_with_it(tmp_path: Path) -> None:
    """Cores are those of the time between two measurements; nothing is there before, after, or half."""
    (tmp_path / "runs").mkdir()
    assert read(tmp_path, "run-1") == ({}, {})
    live = Live(tmp_path, "run-1")
    live.happens("k", Started(t=100.0, pid=1))
    live._written = 0.0
    live.happens("k", Sampled(t=110.0, mem_mib=20, cpu_seconds=20.0, disk_mib=0))
    uses, moving = read(tmp_path, "run-1")
    assert uses["k"].mem_mib == 20
    assert uses["k"].cores == pytest.approx(2.0)
    assert moving == {}
    path_of(tmp_path, "run-1").write_text('{"uses": [], "moving"')
    assert read(tmp_path, "run-1") == ({}, {})
    live.close()
    live.moves("k", None)
    assert not path_of(tmp_path, "run-1").exists()
