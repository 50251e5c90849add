"""Seeded schedules of faults around a small real workflow, on the embedded cloud.

    scripts/chaos --seed 7 --runs 100 --jobs 2 [--direct never] [--reuse never] [--look-ahead off] [--away]

A run passes where, after as many restarts as were needed, its outputs are byte for byte those of
a local run, no machine is alive (and none was for longer than its lease while nobody called), no
job ran on two machines at the same time, and none was completed twice unless a fault took its
machine or its results. Who completed what is seen by a witness that the executor does not know.
The same seed gives the same schedule; what it meets depends on the computer's pace.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.chaos import away, faults, witness
from tests.chaos.faults import Event, Scene, schedule
from tests.chaos.witness import Witness
from tests.workflow.killing import watched

_SNAKEFILE = """
rule all:
    input: "joined.txt"

rule part:
    input: "{name}.in"
    output: "{name}.out"
    shell: "BEGIN(part-{wildcards.name}); sleep 2; sort {input} > {output}; END"

rule join:
    input: "a.out", "b.out"
    output: "joined.txt", directory("tree")
    shell: "BEGIN(join); cat {input} > joined.txt; mkdir -p tree/deep; cp {input} tree/deep; END"
"""
_INPUTS = {"a.in": "c\nb\na\n", "b.in": "3\n1\n2\n"}
_RESULTS = ("a.out", "b.out", "joined.txt", "tree/deep/a.out", "tree/deep/b.out")

DISK_MIB = 500
"""Room on each machine in runs that fill it. (Others are quicker without a limit.)"""
_LIMIT_S = 900.0
_CALLS = 10
_LEASE_MIN = 1
_OPTIONS = ("--rerun-incomplete", "--ec2-lease", str(_LEASE_MIN), "--ec2-boot-timeout", str(60 * _LEASE_MIN))
REUSED = ("--ec2-reuse", "run")
"""The last job runs on a machine of one before it."""
_CLOCK = Path(__file__).parent / "clock"


@dataclass(kw_only=True)
class Report:
    """How one run went; `problems` is empty where all is as it should be."""

    seed: int
    events: tuple[Event, ...]
    missed: tuple[Event, ...] = ()
    """Faults for which there was no occasion."""
    calls: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    output: str = ""

    def __str__(self) -> str:
        events = ", ".join(f"{event}{' (missed)' * (event in self.missed)}" for event in self.events)
        verdict = "; ".join(self.problems) or "good"
        return f"seed {self.seed}: {self.calls} calls, {self.seconds:.0f} s ({events}): {verdict}"


def run(
    seed: int, cloud: EmbeddedCloud, expected: dict[str, bytes], options: Sequence[str] = REUSED
) -> Report:
    """One workflow under the seed's faults; `options` are for each call."""
    report = Report(seed=seed, events=schedule(seed))
    cloud.faults.clear()
    before = set(cloud.machine_states())
    folder = Path(tempfile.mkdtemp(prefix="snakemake-ec2-chaos-"))
    started = time.monotonic()
    try:
        with Witness() as seen:
            _place(folder, seen)
            scene = _to_the_end(folder, seen, cloud, before, report, started, (*_OPTIONS, *options))
            cloud.faults.clear()
            _judge(folder, scene, seen, expected, report)
    finally:
        cloud.faults.clear()
        report.seconds = time.monotonic() - started
        shutil.rmtree(folder, ignore_errors=True)
    return report


def run_away(
    seed: int, cloud: EmbeddedCloud, expected: dict[str, bytes], options: Sequence[str] = REUSED
) -> Report:
    """The same with the controller on a machine of its own, and its faults."""
    report, started = Report(seed=seed, events=away.schedule(seed)), time.monotonic()
    missed, report.calls, report.problems, report.output = away.run(
        cloud, report.events, expected, _place, options
    )
    report.missed, report.seconds = tuple(missed), time.monotonic() - started
    return report


def expected_results() -> dict[str, bytes]:
    """What a local run makes."""
    with tempfile.TemporaryDirectory(prefix="snakemake-ec2-chaos-") as name, Witness() as seen:
        folder = Path(name)
        _place(folder, seen)
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        assert sorted(seen.done()) == ["join", "part-a", "part-b"]
        return {result: (folder / result).read_bytes() for result in _RESULTS}


def _place(folder: Path, seen: Witness) -> None:
    folder.mkdir(exist_ok=True)
    text = _SNAKEFILE.replace("END", witness.END)
    for job in ("part-{wildcards.name}", "join"):
        text = text.replace(f"BEGIN({job})", seen.begin(job))
    for file, content in {"Snakefile": text, **_INPUTS}.items():
        (folder / file).write_text(content)


def _to_the_end(
    folder: Path,
    seen: Witness,
    cloud: EmbeddedCloud,
    before: set[str],
    report: Report,
    started: float,
    options: tuple[str, ...],
) -> Scene:
    """Call Snakemake until it succeeds, with the faults at their times."""
    runner = WorkflowRunner(cloud, folder)
    clock = folder.with_suffix(".clock")
    python_path = os.pathsep.join(filter(None, [str(_CLOCK), os.environ.get("PYTHONPATH")]))
    env = {"PYTHONPATH": python_path, "CHAOS_CLOCK": str(clock)}
    waiting = list(report.events)
    scene = None
    while report.calls < _CALLS and not report.problems:
        report.calls += 1
        call = watched(runner, *options, env=env)
        if scene is None:
            scene = Scene(
                cloud=cloud, before=before, clock=clock, lease_s=60.0 * _LEASE_MIN, call=call,
                problems=report.problems, folder=folder, port=seen.port, options=options, env=env,
                place=lambda: _place(folder, seen),
            )  # fmt: skip
        scene.call = call
        while call.process.poll() is None:
            time.sleep(0.1)
            now = time.monotonic() - started
            if now > _LIMIT_S:
                report.problems.append(f"not at its end after {_LIMIT_S:.0f} s")
                call.kill()
            for event in [event for event in waiting if event.at_s <= now]:
                if call.process.poll() is None and faults.do(event, scene):
                    waiting.remove(event)
        returncode = call.wait()
        report.output += f"{call.output}--- exit status {returncode}\n"
        if returncode == 0:
            break
    else:
        report.problems.append(f"no success in {report.calls} calls")
    clock.unlink(missing_ok=True)
    report.missed = tuple(waiting)
    assert scene is not None
    return scene


def _judge(folder: Path, scene: Scene, seen: Witness, expected: dict[str, bytes], report: Report) -> None:
    for name, content in expected.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != content:
            report.problems.append(f"{name} differs from that of a local run")
    deadline = time.monotonic() + 20
    while left := scene.machines("pending", "running"):
        if time.monotonic() > deadline:
            report.problems.append(f"machines are alive: {', '.join(left)}")
            break
        time.sleep(0.2)
    report.problems += seen.overlaps()
    report.problems += seen.completed_again(scene.excused)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run many, tell of each, show the output of those that fail."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first run's seed; the next has one more")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on a cloud of its own")
    parser.add_argument(
        "--direct", choices=("auto", "never"), default="auto", help="--ec2-direct of all calls"
    )
    parser.add_argument(
        "--reuse", choices=("never", "rule", "run"), default="run", help="--ec2-reuse of all calls"
    )
    parser.add_argument(
        "--look-ahead", choices=("auto", "off"), default="auto", help="--ec2-look-ahead of all calls"
    )
    parser.add_argument("--away", action="store_true", help="the controller is on a machine of its own")
    options = parser.parse_args(arguments)
    ahead = ("--ec2-look-ahead", options.look_ahead)
    given = ("--ec2-direct", options.direct, "--ec2-reuse", options.reuse, *ahead)
    expected = expected_results()
    seeds: SimpleQueue[int] = SimpleQueue()
    for seed in range(options.seed, options.seed + options.runs):
        seeds.put(seed)

    def work() -> int:
        good = 0
        while True:
            try:
                seed = seeds.get_nowait()
            except Empty:
                return good
            fills = not options.away and any(each.kind == "disk-full-there" for each in schedule(seed))
            with EmbeddedCloud(disk_mib=DISK_MIB if fills else None) as cloud:
                report = (run_away if options.away else run)(seed, cloud, expected, given)
            good += not report.problems
            print(f"{report}\n{report.output if report.problems else ''}", end="", flush=True)

    with ThreadPoolExecutor(max_workers=options.jobs) as pool:
        good = sum(future.result() for future in [pool.submit(work) for _ in range(options.jobs)])
    print(f"{good} of {options.runs} runs are good")
    return 0 if good == options.runs else 1


if __name__ == "__main__":
    sys.exit(main())
