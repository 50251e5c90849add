"""A whole run away beside one from here, on a home line: `python -m benchmarks.away`.

Both example workflows, each once with `snakemake --executor ec2` on this computer and once with
`snakemake-ec2 away start --wait`, to results that are here. Machines are reached over one line with 20 Mbit/s
up and a round trip of 40 ms; they reach each other without it. Printed are wall-clock time and the bytes that
the line has carried, and the ratio of both ways. Fails if results are missing. Machines of the embedded cloud
share this computer: on EC2, jobs and installations take less of the time, and the line more. The short form
has a small workflow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import sizes
from benchmarks.away_line import Line
from snakemake_executor_ec2.local.cloud import EmbeddedCloud

_UP = 20e6 / 8
_ONE_WAY_S = 0.02
_WORKFLOWS = Path(__file__).parents[1] / "workflows"
_SMALL = """rule second:
    input: "made"
    output: "results/digest"
    shell: "sha256sum < {input} > {output}"
rule first:
    input: "given"
    output: temp("made")
    shell: "cat {input} {input} > {output}"
"""


class Taken(NamedTuple):
    """What a run has taken."""

    seconds: float
    up: int
    down: int
    results: frozenset[str]


def main() -> None:
    """Print a line for each workflow and way, and how they compare."""
    options = sizes(__doc__, jobs=(4, 2), kb=(0, 2000))
    names = ["small"] if options.short else sorted(path.name for path in _WORKFLOWS.iterdir())
    with TemporaryDirectory() as name, EmbeddedCloud(cache_dir=Path(name) / "cache") as cloud:
        environment = cloud.environment()
        _call(["snakemake-ec2", "away", "setup"], Path(name), environment)
        for workflow in names:
            taken = []
            for way in ("here", "away"):
                folder = Path(name) / f"{workflow}-{way}"
                extra = _place(workflow, folder, options.kb << 10)
                taken.append(_run(way, folder, options.jobs, extra, environment))
                seconds, up, down, results = taken[-1]
                print(
                    f"{workflow}, {way}: {seconds:.0f} s, {up / 1e6:.2f} MB up, {down / 1e6:.2f} MB down, "
                    f"{len(results)} results",
                    flush=True,
                )
            here, away = taken
            if not here.results or here.results != away.results:
                sys.exit(f"results differ: {sorted(here.results ^ away.results)}")
            print(
                f"{workflow}, away against from here: {away.seconds / here.seconds:.2f} of the time, "
                f"{away.up / here.up:.2f} of the bytes up, {away.down / here.down:.2f} of those down"
            )


def _place(workflow: str, folder: Path, size: int) -> list[str]:
    """Put a workflow into a folder; the arguments that it needs."""
    if workflow == "small":
        folder.mkdir()
        (folder / "Snakefile").write_text(_SMALL)
        (folder / "given").write_bytes(os.urandom(size))
        return []
    shutil.copytree(_WORKFLOWS / workflow, folder)
    return ["--ec2-requirements", "requirements.txt"]


def _run(way: str, folder: Path, jobs: int, extra: Sequence[str], environment: dict[str, str]) -> Taken:
    program = ["snakemake", "--executor", "ec2"]
    if way == "away":
        program = ["snakemake-ec2", "away", "start", "--wait"]
    # The line's program is on this computer, as its machines are: they let it in by its address.
    with Line(folder.parent, bytes_per_s=_UP, one_way_s=_ONE_WAY_S) as line:
        ways = ["--ec2-ssh-proxy", line.command, "--ec2-ssh-from", "127.0.0.0/8"]
        began = time.monotonic()
        _call([*program, "--jobs", str(jobs), *ways, *extra], folder, environment)
        seconds = time.monotonic() - began
    results = (path for path in (folder / "results").rglob("*") if path.is_file())
    names = frozenset(str(path.relative_to(folder)) for path in results)
    return Taken(seconds=seconds, up=line.up, down=line.down, results=names)


def _call(command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
    program = str(Path(sys.executable).with_name(command[0]))
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


if __name__ == "__main__":
    main()
