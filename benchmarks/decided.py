"""What it costs that a job is decided once: `python -m benchmarks.decided`.

On the controller: seconds and bytes for the documents of all jobs of a workflow (its shell jobs also have
their own command made). On the machine: Snakemake held to a document beside plain `python -m snakemake`
for the same job, and a shell job's own command beside both, each in turn.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import sizes

_SNAKEFILE = """
SAMPLES = [f"sample_{n:05d}" for n in range(int(config["jobs"]) // 2)]
rule all:
    input: expand("out/{s}.txt", s=SAMPLES), expand("ran/{s}.txt", s=SAMPLES)
rule shell:
    output: "out/{s}.txt"
    params: name=lambda wildcards: wildcards.s.upper(), more=list(range(10))
    resources: mem_mb=lambda wildcards, attempt: 100 * attempt
    shell: "echo {params.name} {params.more} > {output}"
rule run:
    output: "ran/{s}.txt"
    params: n=len(SAMPLES)
    run:
        open(output[0], "w").write(wildcards.s + SAMPLES[0])
"""


def main() -> None:
    """Print seconds, bytes and ratios."""
    options = sizes(__doc__, jobs=(1000, 10), rounds=(5, 1))
    with TemporaryDirectory() as name:
        work = Path(name)
        (work / "Snakefile").write_text(_SNAKEFILE)
        measured = _in_snakemake(work, options.jobs)
        print(f"controller: {measured['jobs']} jobs, {measured['seconds']:.2f} s", end="; ")
        print(f"{measured['bytes']:,} bytes a job, {measured['compressed']:,} compressed")
        ways = _ways(work, measured)
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, run in ways.items():
                began = time.perf_counter()
                run()
                times[way].append(time.perf_counter() - began)
    plain = statistics.median(times["python -m snakemake"])
    for way, seconds in times.items():
        median = statistics.median(seconds)
        print(f"machine: {way}: {median:.3f} s, {median / plain:.3f} of plain Snakemake's")


def _in_snakemake(work: Path, jobs: int) -> dict[str, Any]:
    """Let a real Snakemake of its own make the workflow, and measure in its executor."""
    command = [sys.executable, "-m", "benchmarks.decided_controller", "--config", f"jobs={jobs}"]
    path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        command, cwd=work, env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False
    )
    found: dict[str, Any] = json.loads((work / "measured.json").read_text())
    return found


def _ways(work: Path, measured: dict[str, Any]) -> dict[str, Callable[[], object]]:
    document = work / "decision.json"
    document.write_text(json.dumps(measured["document"]))
    held = [sys.executable, "-m", "snakemake_executor_ec2.agent", "run", str(document)]
    target = measured["document"]["targets"][0]
    wildcards = ",".join(f"{name}={value}" for name, value in target[1].items())
    argv = [*measured["document"]["argv"], "--target-jobs", f"{target[0]}:{wildcards}"]
    plain = [sys.executable, "-m", "snakemake", *argv]
    commands = {
        "python -m snakemake": plain,
        "held to the document": held,
        "its own command": ["bash", "-c", measured["command"]],
    }

    def call(command: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run(command, cwd=work, capture_output=True, check=True)

    return {way: call(command) for way, command in commands.items()}


def measure(executor: Any) -> dict[str, Any]:
    """In a Snakemake's process: what all its jobs' documents and commands cost."""
    from snakemake_executor_ec2.plugin.decision import decision
    from snakemake_executor_ec2.plugin.direct import NotDirect, direct_request
    from snakemake_executor_ec2.plugin.job_plan import label
    from snakemake_executor_ec2.runner.arguments import exact_arguments

    jobs = [job for job in executor.dag.needrun_jobs() if not job.is_local]
    sizes, compressed, command, document = 0, 0, "", {}
    began = time.perf_counter()
    for job in jobs:
        _, argv = exact_arguments(executor, job)
        told = decision([job], argv=argv, unneeded_temp_files=(), label=label)
        with suppress(NotDirect):
            command, document = direct_request(job)["command"], told
        text = json.dumps(told).encode()
        sizes, compressed = sizes + len(text), compressed + len(zlib.compress(text))
    return {
        "jobs": len(jobs),
        "seconds": time.perf_counter() - began,
        "bytes": sizes // len(jobs),
        "compressed": compressed // len(jobs),
        "command": command,
        "document": document,
    }


if __name__ == "__main__":
    main()
