"""Seeded schedules of faults around a small real workflow, on the embedded cloud.

    scripts/chaos --seed 7 --runs 100

A run passes where, after as many restarts as there were kills, its outputs are byte for byte
those of a local run, no machine is alive, and no job was completed twice unless its machine was
lost. The same seed gives the same schedule; what it meets depends on the computer's pace.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_ec2.local.client import ControlError
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner

SNAKEFILE = """
rule all:
    input: "joined.txt"

rule part:
    input: "{name}.in"
    output: "{name}.out"
    shell: "sleep 2; sort {input} > {output}; echo COMPLETED {wildcards.name}"

rule join:
    input: "a.out", "b.out"
    output: "joined.txt", directory("tree")
    shell: "cat {input} > joined.txt; mkdir -p tree/deep; cp {input} tree/deep; echo COMPLETED join"
"""
INPUTS = {"a.in": "c\nb\na\n", "b.in": "3\n1\n2\n"}
RESULTS = ("a.out", "b.out", "joined.txt", "tree/deep/a.out", "tree/deep/b.out")

KINDS = (
    "kill", "kill", "kill", "cut", "half-open", "refuse", "slow-boot", "throttle", "lose-launch",
    "lose-terminate", "spot-reclaim", "stop",
)  # fmt: skip
_TAKES_MACHINES = frozenset({"spot-reclaim"})
_WITHIN_S = 14.0
_LIMIT_S = 240.0
_CALLS = 8
_OPTIONS = ("--rerun-incomplete", "--ec2-lease", "1")


@dataclass(frozen=True, kw_only=True)
class Event:
    """A fault, some seconds after the beginning."""

    at_s: float
    kind: str


@dataclass(kw_only=True)
class Report:
    """How one run went; `problems` is empty where all is as it should be."""

    seed: int
    events: tuple[Event, ...]
    calls: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    output: str = ""


def schedule(seed: int) -> tuple[Event, ...]:
    """One to four faults, by the seed alone."""
    chance = random.Random(seed)  # noqa: S311 -- a schedule, no secret
    count = chance.randint(1, 4)
    events = [Event(at_s=chance.uniform(0, _WITHIN_S), kind=chance.choice(KINDS)) for _ in range(count)]
    return tuple(sorted(events, key=lambda event: event.at_s))


def run(seed: int, cloud: EmbeddedCloud, expected: dict[str, bytes]) -> Report:
    """One workflow under the seed's faults."""
    report = Report(seed=seed, events=schedule(seed))
    cloud.faults.clear()
    before = set(cloud.machine_states())
    folder = Path(tempfile.mkdtemp(prefix="snakemake-ec2-chaos-"))
    started = time.monotonic()
    try:
        runner = WorkflowRunner(cloud, folder)
        runner.place({"Snakefile": SNAKEFILE, **INPUTS})
        _to_the_end(runner, cloud, before, report, started)
        cloud.faults.clear()
        _judge(folder, cloud, before, expected, report)
    finally:
        cloud.faults.clear()
        report.seconds = time.monotonic() - started
        shutil.rmtree(folder, ignore_errors=True)
    return report


def expected_results() -> dict[str, bytes]:
    """What a local run makes."""
    with tempfile.TemporaryDirectory(prefix="snakemake-ec2-chaos-") as name:
        folder = Path(name)
        for file, text in {"Snakefile": SNAKEFILE, **INPUTS}.items():
            (folder / file).write_text(text)
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return {result: (folder / result).read_bytes() for result in RESULTS}


def _to_the_end(
    runner: WorkflowRunner, cloud: EmbeddedCloud, before: set[str], report: Report, started: float
) -> None:
    waiting = list(report.events)
    log = runner.folder / "calls.log"
    while report.calls < _CALLS:
        report.calls += 1
        with log.open("ab") as file:
            process = _call(runner, cloud, file.fileno())
        while process.poll() is None:
            time.sleep(0.05)
            if time.monotonic() - started > _LIMIT_S:
                process.kill()
                process.wait()
                report.problems.append(f"not at its end after {_LIMIT_S:.0f} s")
                break
            while waiting and time.monotonic() - started >= waiting[0].at_s:
                _do(waiting.pop(0), process, cloud, before)
        report.output = log.read_text(errors="replace")
        if process.returncode == 0 or report.problems:
            return
    report.problems.append(f"no success in {_CALLS} calls")


def _call(runner: WorkflowRunner, cloud: EmbeddedCloud, output: int) -> subprocess.Popen[bytes]:
    """The same command each time."""
    inherited = {name: value for name, value in os.environ.items() if name not in cloud.unset}
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--executor", "ec2", "--jobs", "4", *_OPTIONS],
        cwd=runner.folder,
        env={**inherited, **cloud.env},
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def _do(event: Event, process: subprocess.Popen[bytes], cloud: EmbeddedCloud, before: set[str]) -> None:
    faults = cloud.faults
    running = [name for name, state in cloud.machine_states().items() if state == "running"]
    machines = [name for name in running if name not in before]
    if event.kind == "kill":
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    elif event.kind == "stop":
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(process.pid, signal.SIGCONT)
    elif event.kind == "slow-boot":
        faults.slow_boot(3.0, count=1)
    elif event.kind == "throttle":
        faults.throttle(count=4)
    elif event.kind == "lose-launch":
        faults.lose_reply("RunInstances")
    elif event.kind == "lose-terminate":
        faults.lose_reply("TerminateInstances")
    for machine in machines[:1]:
        with suppress(ControlError):  # it has ended in the meantime
            if event.kind == "cut":
                faults.cut(machine)
            elif event.kind == "half-open":
                faults.half_open(machine, 4)
            elif event.kind == "refuse":
                faults.refuse(machine, 4)
                faults.cut(machine)
            elif event.kind == "spot-reclaim":
                faults.spot_reclaim(machine)


def _judge(
    folder: Path, cloud: EmbeddedCloud, before: set[str], expected: dict[str, bytes], report: Report
) -> None:
    for name, content in expected.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != content:
            report.problems.append(f"{name} differs from that of a local run")
    deadline = time.monotonic() + 20
    while left := _alive(cloud, before):
        if time.monotonic() > deadline:
            report.problems.append(f"machines are alive: {', '.join(left)}")
            break
        time.sleep(0.2)
    logs = (folder / ".snakemake/ec2/logs").rglob("*.log")
    lines = [line for path in logs for line in path.read_text(errors="replace").splitlines()]
    completed = Counter(line for line in lines if line.startswith("COMPLETED"))
    lost = sum(event.kind in _TAKES_MACHINES for event in report.events)
    twice = sum(count - 1 for count in completed.values())
    if twice > lost:
        report.problems.append(f"completed more than once: {dict(completed)}")


def _alive(cloud: EmbeddedCloud, before: set[str]) -> list[str]:
    states = cloud.machine_states()
    return [name for name, state in states.items() if name not in before and state in ("pending", "running")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run many, tell of each, show the output of those that fail."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first run's seed; the next has one more")
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args(arguments)
    expected = expected_results()
    failed = 0
    with EmbeddedCloud() as cloud:
        for seed in range(options.seed, options.seed + options.runs):
            report = run(seed, cloud, expected)
            events = ", ".join(f"{event.kind} at {event.at_s:.1f} s" for event in report.events)
            verdict = "; ".join(report.problems) or "good"
            print(
                f"seed {seed}: {report.calls} calls, {report.seconds:.0f} s ({events}): {verdict}", flush=True
            )
            if report.problems:
                failed += 1
                print(report.output, flush=True)
    print(f"{options.runs - failed} of {options.runs} runs are good")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
