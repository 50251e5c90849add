"""Runs of Snakemake that are killed at chosen moments, and what is then found."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner

TIMEOUT_S = 120.0

WAYS = pytest.mark.parametrize("direct", ["auto", pytest.param("never", marks=pytest.mark.slow)])
"""`--ec2-direct`: the rules of these tests run their own commands, or have Snakemake run them."""

COUNTED = {
    "Snakefile": "rule one:\n    input: 'in.txt'\n    output: 'o.txt'\n"
    "    shell: 'date +%s%N >> /tmp/starts; sleep 4; cp {input} {output}; cat /tmp/starts >> {output}'\n",
    "in.txt": "data\n",
}
"""A job whose output tells when it was started, and how often on its machine."""


class Watched:
    """A run of Snakemake's whose output is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def until(self, words: str, timeout_s: float = TIMEOUT_S) -> None:
        """Return when a line with some words came."""
        deadline = time.monotonic() + timeout_s
        while not any(words in line for line in list(self.lines)):
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{words!r} never came:\n{self.output}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, which nothing can be done about."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"snakemake did not end within {timeout_s} s:\n{self.output}")
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.returncode


def watched(
    runner: WorkflowRunner, *arguments: str, jobs: int = 4, env: Mapping[str, str] | None = None
) -> Watched:
    """Start a workflow that was placed before."""
    return Watched(runner.start(*arguments, jobs=jobs, env=env))


def wait_for(condition: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("it never came to that")
        time.sleep(0.05)


def launched_since(cloud: EmbeddedCloud, before: Sequence[str]) -> list[str]:
    """Machines that are new, oldest first."""
    return [each["id"] for each in cloud.instances() if each["id"] not in before]


def alive(cloud: EmbeddedCloud) -> list[str]:
    """Machines that are billed."""
    return [name for name, state in cloud.machine_states().items() if state in ("pending", "running")]


def most_at_a_time(cloud: EmbeddedCloud) -> int:
    """How many machines were alive at the same time, by the order of launches and terminations since
    the calls were last forgotten. Reliable for workflows with one job at a time."""
    alive: set[str] = set()
    most = 0
    for call in cloud.calls():
        if call["action"] == "RunInstances" and call["status"] == 200:
            alive.add(call["params"]["ClientToken"])
            most = max(most, len(alive))
        elif call["action"] == "TerminateInstances":
            alive.clear()
    return most


def starts(folder: Path) -> int:
    """How often the job of `COUNTED` was started on the machine that it ended on."""
    return len((folder / "o.txt").read_text().splitlines()) - 1
