"""A workflow of many equal jobs on light hosts, in a process of its own, and what it took."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.light import Costs
from snakemake_executor_ec2.sizing.cost import MINIMUM_BILLED_S

_SNAKEFILE = """
rule all:
    input: [f"{{number}}.out" for number in range({jobs})]

rule one:
    output: "{{number}}.out"
    shell: "sleep {seconds:g}; echo done > {{output}}"
"""
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Took:
    """What a run has taken."""

    seconds: float
    """From Snakemake's start to its end."""
    running_s: float
    """From the first launch to the end of the last job."""
    launching_s: float
    """From the first call of RunInstances to the last one."""
    machines: int
    billed_s: float
    usd: float
    cpu_s: float
    """Of the process, light hosts included."""
    rss_mib: float
    threads: int
    files: int
    followed: int
    """Jobs that ran at the same time, if that is known."""
    idle_s: float
    """The longest time in which as many jobs as ever ran, and the CPU that the process needed in it."""
    idle_cpu_s: float
    calls: dict[str, int]

    def __str__(self) -> str:
        calls = ", ".join(f"{name} {count}" for name, count in self.calls.items())
        return (
            f"{self.seconds:.1f} s, {self.running_s:.1f} s from the first launch to the last result, "
            f"{self.machines} machines launched in {self.launching_s:.1f} s, {self.billed_s:.0f} s billed, "
            f"${self.usd:.4f}\n"
            f"controller: {self.cpu_s:.1f} s of CPU, {self.rss_mib:.0f} MiB, {self.threads:.0f} threads, "
            f"{self.files:.0f} files; calls: {calls}"
        )


def run(jobs: int, at_a_time: int, costs: Costs, *arguments: str, server: str = "null") -> Took:
    """Run so many jobs; `server` is what a `benchmarks.light_server` has said of itself.

    Exits, with what was printed, if that fails or a machine or result is missing.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "Snakefile").write_text(_SNAKEFILE.format(jobs=jobs, seconds=costs.job))
        told = folder / "measured.json"
        module = ["-m", "benchmarks.light_controller"]
        command = [sys.executable, *module, json.dumps(asdict(costs)), str(told), server]
        options = ["--directory", name, "--snakefile", str(folder / "Snakefile"), "--executor", "ec2"]
        options += ["--jobs", str(at_a_time), "--ec2-baked", "never", "--ec2-ssh-from", "203.0.113.7/32"]
        done = subprocess.run(
            [*command, *options, *arguments], cwd=_ROOT, capture_output=True, text=True, check=False
        )
        measured: dict[str, Any] = json.loads(told.read_text()) if done.returncode == 0 else {}
        results = len(list(folder.glob("*.out")))
        if done.returncode or results != jobs or measured.pop("left"):
            sys.exit(f"{done.stdout[-20000:]}{done.stderr[-20000:]}\n{results} results, {measured}")
        return _took(folder, measured)


def _took(folder: Path, measured: dict[str, Any]) -> Took:
    with closing(sqlite3.connect(folder / ".snakemake" / "ec2" / "journal.sqlite")) as journal:
        rows = journal.execute(
            "SELECT machine, usd, ended_at FROM machines WHERE machine IS NOT NULL"
        ).fetchall()
    lives = [(json.loads(machine)["launched_at"], ended_at) for machine, _, ended_at in rows]
    return Took(
        running_s=max(ended for _, ended in lives) - min(began for began, _ in lives),
        billed_s=sum(max(MINIMUM_BILLED_S, ended - began) for began, ended in lives),
        usd=sum(usd for _, usd, _ in rows),
        **measured,
    )
