"""One session of the kit: its limits, and the workflows that its tests run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.live.account import TAG, Account

TOOL = "import sys; from snakemake_executor_ec2.cli import main; sys.exit(main())"
_TOOL_S = 300.0
_NOTHING_YET = ("nothing has run on EC2", "has asked for a machine yet")
_LEAST_USD = 0.02
"""What a test may cost: with less left of the budget, it is not begun."""


class Failed(Exception):
    """Something does not hold; the text says what."""


class NotShown(Exception):
    """It cannot be shown here; the text says why."""


def must(holds: object, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


@dataclass(kw_only=True)
class Kit:
    """A session: where it works, and how much it may cost and last."""

    name: str
    folder: Path
    account: Account
    max_cost_usd: float
    max_seconds: float
    options: tuple[str, ...] = ()
    """For every call of Snakemake."""
    tool_options: tuple[str, ...] = ()
    is_local: bool = False
    megabytes: int = 100
    workflows: dict[str, Workflow] = field(default_factory=dict)
    """Those whose tests are not over."""
    spent_usd: float = 0.0
    """What the tests that are over have cost, as the product tells it."""
    runs: set[str] = field(default_factory=set)
    """The names of their runs."""
    _began: float = field(default_factory=time.monotonic)

    def workflow(self, name: str, files: Mapping[str, str | bytes]) -> Workflow:
        """A workflow in a folder of its own. Its name is that of its test."""
        if self.usd_left() < _LEAST_USD:
            raise NotShown(f"only ${max(0.0, self.usd_left()):.2f} of the budget are left")
        made = Workflow(self, name)
        for file, content in files.items():
            path = made.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.workflows[name] = made
        return made

    def usd_left(self) -> float:
        return self.max_cost_usd - self.spent_usd

    def seconds_left(self) -> float:
        """Raises Failed if the time is up."""
        left = self.max_seconds - (time.monotonic() - self._began)
        must(left > 0, f"the kit's own limit of {self.max_seconds / 60:.0f} minutes is over (--max-minutes)")
        return left


class Workflow:
    """A Snakefile in a folder, and what a user types there."""

    def __init__(self, kit: Kit, name: str) -> None:
        self._kit = kit
        self.name = name
        self.folder = kit.folder / name
        self.folder.mkdir(parents=True)
        self._output = self.folder.with_suffix(".output.txt")
        self._process: subprocess.Popen[bytes] | None = None
        self.ended_at = 0.0
        self.is_tidy = True
        """Whether nobody but the runs themselves had to end them."""

    @property
    def output(self) -> str:
        """All that Snakemake has printed, in all runs."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def start(self, *options: str) -> None:
        """Call Snakemake, and return at once."""
        command = [
            sys.executable, "-m", "snakemake", "--executor", "ec2", "--jobs", "4", "--rerun-incomplete",
            "--ec2-max-cost", f"{self._kit.usd_left():.4f}", "--ec2-budget-period", "folder",
            "--ec2-max-price", "0.5",
            "--ec2-capacity-timeout", "5m", "--ec2-lifetime", "2h",
            "--ec2-tags", f"{TAG}={self._kit.name}/{self.name}", *self._kit.options, *options,
        ]  # fmt: skip
        if "--ec2-lease" not in options:
            command += ["--ec2-lease", "15m"]
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait(self) -> int:
        """The exit status of the run that was started."""
        assert self._process is not None
        try:
            return self._process.wait(self._kit.seconds_left())
        except subprocess.TimeoutExpired:
            raise Failed("the run had not ended when the kit's time was up (--max-minutes)") from None
        finally:
            self.ended_at = time.time()

    def run(self, *options: str) -> int:
        self.start(*options)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, which a crash of the computer is like: nothing can be tidied up."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.ended_at = time.time()
        self.is_tidy = False

    def close(self) -> None:
        """End what is left of the run, and all machines of the folder. Runs that have ended by themselves
        are not helped: that they leave nothing is what is tested."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self.is_tidy = False
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
        if not self.is_tidy:
            self.tool("stop", "--yes", status=None)
            self.tool("gc", "--yes", status=None)
            self.is_tidy = True

    def tool(self, command: str, *arguments: str, status: int | None = 0) -> str:
        """What `snakemake-ec2` prints. Raises Failed if its exit status is another one."""
        done = self._call(command, *arguments)
        if status is not None:
            what = f"snakemake-ec2 {command} {' '.join(arguments)}".rstrip()
            must(done.returncode == status, f"`{what}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def _call(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-c", TOOL, command, "-d", str(self.folder)]
        call += [*self._kit.tool_options, *arguments]
        return subprocess.run(call, capture_output=True, text=True, timeout=_TOOL_S, check=False)

    def states(self, *options: str) -> dict[str, str]:
        """Each machine that `snakemake-ec2 ps` lists, and what it says of it."""
        rows = [re.split(r"\s{2,}", line) for line in self.tool("ps", *options).splitlines()[1:]]
        return {row[0]: row[2] for row in rows}

    def until_it_runs(self) -> str:
        """Wait until the job is at work, and return its machine's id."""
        while True:
            for machine, state in self.states().items():
                if state == "run":
                    return machine
            assert self._process is not None
            must(self._process.poll() is None, "the run ended before its job ran")
            self._kit.seconds_left()
            time.sleep(1.0)

    def report(self) -> dict[str, Any]:
        """The journal of this folder: machines, jobs, times, costs. Empty if no machine was asked for."""
        done = self._call("report", "--all", "--json")
        if any(words in done.stderr for words in _NOTHING_YET):
            return {"runs": [], "machines": [], "jobs": [], "total": {"usd": 0.0}}
        must(done.returncode == 0, f"`snakemake-ec2 report` failed: {done.stderr.strip()}")
        printed: dict[str, Any] = json.loads(done.stdout)
        return printed
