"""A home directory that the agent runs in, as on a machine, with the oldest Python that it must bear."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.agent.bundle import bundle


def oldest_python() -> str | None:
    """A Python 3.9, as Amazon Linux 2023 has it; None where this computer has none."""
    kept = sorted(Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9"))
    candidates = [*map(str, kept), shutil.which("python3.9") or ""]
    for python in candidates:
        if python and not subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
            return python
    return None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one command of the agent's came to."""

    exit_code: int
    said: dict[str, Any]
    stderr: str


class Machine:
    """Runs the agent's commands with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "machine"
        self.home.mkdir()
        self.state = self.home / ".snakemake-ec2"
        self.agent = self.home / "agent.pyz"
        self.agent.write_bytes(bundle())
        self.python = oldest_python() or sys.executable
        self.environment = {**os.environ, "HOME": str(self.home)}
        self.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:9"  # nobody is there

    def command(self, *arguments: str) -> list[str]:
        """How the agent is run."""
        return [self.python, str(self.agent), *arguments]

    def ask(self, *arguments: str, request: dict[str, Any] | None = None) -> Answer:
        """Run one command to its end."""
        done = subprocess.run(
            self.command(*arguments),
            input=json.dumps(request or {}).encode(),
            capture_output=True,
            env=self.environment,
            timeout=60,
            check=False,
        )
        lines = done.stdout.splitlines()
        return Answer(
            exit_code=done.returncode,
            said=json.loads(lines[-1]) if lines else {},
            stderr=done.stderr.decode(),
        )

    def start(self, command: str, *, key: str = "job", **more: Any) -> Answer:
        """Start a job in the home directory."""
        request = {"key": key, "command": command, "cwd": str(self.home), "label": "rule a", **more}
        return self.ask("start", request=request)

    def events(self, key: str = "job") -> list[dict[str, Any]]:
        """The job's events so far."""
        file = self.state / "jobs" / key / "events.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]

    def output(self, key: str = "job") -> bytes:
        """What the job has printed."""
        return (self.state / "jobs" / key / "output.log").read_bytes()

    def finish(self, key: str = "job", *, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait for the job's last event."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError, IndexError):
                last = self.events(key)[-1]
                if last["type"] in ("finished", "interrupted"):
                    return last
            time.sleep(0.02)
        raise TimeoutError(f"the job did not end: {self.events(key)}")

    def end(self, key: str = "job") -> None:
        """End the job, as somebody on the machine would."""
        os.killpg(self.events(key)[0]["pid"], signal.SIGTERM)

    def processes(self) -> list[tuple[int, str]]:
        """Every process that has this machine's home for its own: (pid, command line)."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"HOME={self.home}\0".encode() in (process / "environ").read_bytes():
                    line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append((int(process.name), line.strip()))
        return found

    def wait_for_silence(self, timeout_s: float = 5.0) -> list[tuple[int, str]]:
        """Wait until no process is left; those that are."""
        deadline = time.monotonic() + timeout_s
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left
