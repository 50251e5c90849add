"""What it costs that machines see what is not sent: `python -m benchmarks.stand_ins`.

A workflow of many jobs in a folder with many files, of which each job makes one more; `--results`: so many
earlier ones are in that same folder already. Measured are the controller's seconds and the bytes for each
job, and how long a machine (this computer, with the real agent) takes to make the stand-ins.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import sizes
from snakemake_executor_ec2.agent.bundle import bundle
from snakemake_executor_ec2.staging.view import View, Viewer

_FOLDERS = 100
_SEED = 3
_SETTLES_S = 3.0
"""What was written so shortly ago is looked at again and again."""


def main() -> None:
    """Print seconds and bytes."""
    options = sizes(__doc__, files=(100_000, 1000), jobs=(1000, 10), results=(0, 0))
    with TemporaryDirectory() as name:
        work, machine = Path(name, "work"), Path(name, "machine")
        machine.mkdir()
        dice = random.Random(_SEED)  # noqa: S311 - it decides nothing
        _fill(work, options.files, dice)
        for number in range(options.results):
            _put(work / "results" / f"earlier_{number:06d}.txt", dice)
        time.sleep(_SETTLES_S if options.results else 0.0)
        viewer = Viewer([work], limit=(options.files + options.results) * 2 + options.jobs)
        seconds, lengths, view = _jobs(viewer, work, options.jobs)
        made = _stand_ins(machine, work, view)
    print(f"{options.files:,} files in {_FOLDERS} folders, {options.jobs} jobs")
    print(f"controller: {seconds[0]:.2f} s for the first job, {sum(seconds[1:]):.2f} s for all others")
    print(f"bytes: {lengths[0]:,} for the first job, {sum(lengths) // len(lengths):,} for a job on average")
    print(f"machine: {made:.2f} s to make the stand-ins")


def _fill(work: Path, files: int, dice: random.Random) -> None:
    """Samples with names as people give them, of any size and time."""
    for number in range(files):
        folder = work / "data" / f"run-{number % _FOLDERS:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        _put(folder / f"sample_{number:06d}_R{number % 2 + 1}.fastq.gz", dice)
    (work / "results").mkdir()


def _put(path: Path, dice: random.Random) -> None:
    path.touch()
    os.truncate(path, dice.randrange(10**9))
    os.utime(path, ns=(1, time.time_ns() - dice.randrange(10**17)))


def _jobs(viewer: Viewer, work: Path, jobs: int) -> tuple[list[float], list[int], View]:
    """Seconds and bytes for each job, as the executor has them, and the last one's view."""
    seconds, lengths = [], []
    for number in range(jobs):
        began = time.perf_counter()
        view = viewer.look()
        lengths.append(sum(map(len, view.encoded())))
        seconds.append(time.perf_counter() - began)
        (work / "results" / f"{number}.txt").write_text("done")
    return seconds, lengths, view


def _stand_ins(machine: Path, work: Path, view: View) -> float:
    """Let the agent make the stand-ins of a view; seconds."""
    agent, there = machine / "agent.pyz", machine / "there"
    agent.write_bytes(bundle())
    environment = {**os.environ, "HOME": str(machine)}
    lists = view.encoded()
    request = {"roots": [[str(there), str(work)]], "own": [], "shift_ns": 0, "lists": [*map(len, lists)]}
    commands = {
        "workdir": json.dumps({"paths": [str(there)]}).encode(),
        "stand-ins": b"".join([json.dumps(request).encode(), b"\n", *lists]),
    }
    for command, stdin in commands.items():
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, str(agent), command],
            input=stdin,
            stdout=subprocess.DEVNULL,
            env=environment,
            check=True,
        )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
