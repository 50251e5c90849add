"""What reuse saves: `python -m benchmarks.reuse`.

A chain of trivial rules, both example workflows and one rule with many short jobs, each with `--ec2-reuse
never`, `rule` and `run`, by turns, on an embedded cloud whose machines are as slow as EC2's: they boot in
25 s, and software takes 43 s longer to install than from a near package index. Printed are the seconds of the
run, machines, the seconds that EC2 would bill (a minute at least for each) and the estimated cost; for the
chain also how long a rule waits after the one before it, and (`again`) the same of a second run with `never`,
which knows how long rules take, and launches machines ahead. With `--boot 0 --software 0`, machines are
quick, and all takes a quarter of an hour. The short form is a chain of two rules on such machines.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import sizes
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.sizing.cost import MINIMUM_BILLED_S
from snakemake_executor_ec2.testing import WorkflowRunner

_BOOT_S, _SOFTWARE_S = 25, 43
_WAYS = ("never", "rule", "run")
_EXAMPLES = Path(__file__).parents[1] / "workflows"


class Used(NamedTuple):
    """What one run has taken."""

    seconds: float
    machines: int
    billed_s: float
    usd: float
    waits_s: list[float]
    """Of each job after the first: from the end of the one before until its command began."""


def main() -> None:
    """Print a table for each workflow."""
    options = sizes(
        __doc__, rules=(6, 2), jobs=(12, 0), examples=(1, 0), boot=(_BOOT_S, 0), software=(_SOFTWARE_S, 0)
    )
    boot_s, software_s = options.boot or None, options.software or None
    with (
        TemporaryDirectory() as name,
        EmbeddedCloud(boot_s=boot_s, software_s=software_s, cache_dir=Path(name) / "cache") as cloud,
    ):
        for title, workflow, jobs in _workflows(options.rules, options.jobs, examples=bool(options.examples)):
            print(f"{title}:", flush=True)
            for way in _WAYS[:1] if options.short else _WAYS:
                folder = Path(name) / f"{title}-{way}".replace(" ", "-")
                _tell(way, _run(cloud, folder, workflow, way, jobs))
                if (title, way) == ("chain", "never"):
                    _tell("again", _run(cloud, folder, workflow, way, jobs))
                shutil.rmtree(folder)


def _workflows(rules: int, jobs: int, *, examples: bool) -> list[tuple[str, Path | dict[str, str], int]]:
    found: list[tuple[str, Path | dict[str, str], int]] = [("chain", {"Snakefile": _chain(rules)}, rules)]
    if jobs:
        found.append((f"{jobs} jobs of 2 s", {"Snakefile": _alike(jobs)}, 4))
    if examples:
        names = sorted(path.parents[1] for path in _EXAMPLES.glob("*/workflow/Snakefile"))
        found += [(path.name, path, 4) for path in names]
    return found


def _chain(rules: int) -> str:
    lines = ["rule r0:", "    output: '0.txt'", "    shell: 'date +%s.%N > {output}'"]
    for number in range(1, rules):
        lines[:0] = [
            f"rule r{number}:",
            f"    input: '{number - 1}.txt'",
            f"    output: '{number}.txt'",
            "    shell: 'date +%s.%N > {output}'",
        ]
    return "\n".join(lines) + "\n"


def _alike(jobs: int) -> str:
    return (
        f"rule all:\n    input: expand('{{n}}.txt', n=range({jobs}))\n"
        "rule one:\n    output: '{n}.txt'\n    shell: 'sleep 2; touch {output}'\n"
    )


def _run(cloud: EmbeddedCloud, folder: Path, workflow: Path | dict[str, str], way: str, jobs: int) -> Used:
    folder.mkdir(exist_ok=True)
    options = ["--ec2-reuse", way, "--forceall"]
    if isinstance(workflow, Path):
        options += ["--ec2-requirements", "requirements.txt"]
    began = time.monotonic()
    done = WorkflowRunner(cloud, folder)(workflow, *options, jobs=jobs, timeout_s=3600)
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(done.output)
    with closing(sqlite3.connect(folder / ".snakemake" / "ec2" / "journal.sqlite")) as journal:
        rows = journal.execute(
            "SELECT machine, usd, ended_at FROM machines WHERE machine IS NOT NULL"
            " AND run=(SELECT id FROM runs ORDER BY began_at DESC LIMIT 1)"
        ).fetchall()
    lived = [ended_at - json.loads(machine)["launched_at"] for machine, _, ended_at in rows]
    at = sorted(float(path.read_text()) for path in folder.glob("[0-9].txt") if path.stat().st_size)
    return Used(
        seconds=seconds,
        machines=len(rows),
        billed_s=sum(max(MINIMUM_BILLED_S, each) for each in lived),
        usd=sum(usd for _, usd, _ in rows),
        waits_s=[after - before for before, after in pairwise(at)],
    )


def _tell(way: str, used: Used) -> None:
    waits = f", at most {max(used.waits_s):.1f} s from rule to rule" if used.waits_s else ""
    print(
        f"  {way:5} {used.seconds:6.1f} s, {used.machines:3} machines, {used.billed_s:6.0f} s billed, "
        f"${used.usd:.4f}{waits}",
        flush=True,
    )


if __name__ == "__main__":
    main()
