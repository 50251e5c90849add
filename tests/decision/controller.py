"""Snakemake with an executor that decides each job as ours does, and has the runner do it in this folder.

    python -m tests.decision.controller [Snakemake's arguments]

The quickest way through the real document and the real runner: no machine, no ssh. What the "machine" does
not see is moved away while a job runs: the names in HIDE. Variables in MACHINE_ENV (JSON) are set there;
those whose value is null are not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snakemake import cli
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

import snakemake_executor_plugin_ec2 as plugin
from snakemake_executor_ec2.agent.group import own_command
from snakemake_executor_ec2.plugin.decision import decision
from snakemake_executor_ec2.plugin.direct import NotDirect, direct_request
from snakemake_executor_ec2.plugin.executor import Executor
from snakemake_executor_ec2.plugin.job_plan import inner_jobs, label
from snakemake_executor_ec2.plugin.settings import common_settings
from snakemake_executor_ec2.runner.arguments import exact_arguments

_AGENT = [sys.executable, "-m", "snakemake_executor_ec2.agent", "run"]


class DecidingExecutor(Executor):
    """Ours, but for the machine."""

    def _start(self, *_: Any, **__: Any) -> Any:
        return None

    def run_job(self, job: Any) -> None:
        info = SubmittedJobInfo(job=job, aux={})
        self.report_job_submission(info)
        with _machine():
            info.aux["status"] = self._as_it_is(job) if os.environ.get("DIRECT") else self._held(job)

    def _as_it_is(self, job: Any) -> int:
        """The job's own command, where it has one; else through the runner."""
        try:
            request = direct_request(job)
        except NotDirect as why:
            print(f"RUNNER: {label(job)}: {why}", file=sys.stderr)
            return self._held(job)
        print(f"DIRECT: {label(job)}", file=sys.stderr)
        told = json.loads(json.dumps(request))
        with tempfile.TemporaryDirectory() as folder:
            own = own_command(told, str(Path.cwd()), _environment(), folder)
            process = subprocess.Popen(own.arguments, env=own.environment, stdin=subprocess.DEVNULL)
            own.started(process.pid)
            while process.poll() is None:
                time.sleep(min(0.02, max(0.0, own.look() - time.monotonic())))
            wrong = own.ended(process.returncode)
        print(wrong, file=sys.stderr)
        return process.returncode or bool(wrong)

    def _held(self, job: Any) -> int:
        """Through the document and the runner."""
        _, argv = exact_arguments(self, job)
        unneeded = self.dag.get_unneeded_temp_files(job)
        document = decision(inner_jobs(job), argv=argv, unneeded_temp_files=unneeded, label=label)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "decision.json")
            path.write_text(json.dumps(document))
            status = subprocess.run([*_AGENT, str(path)], check=False, env=_environment()).returncode
            differs = Path(f"{path}.differs")
            if differs.exists():
                print(f"DIFFERS: {differs.read_text()}", file=sys.stderr)
        return status

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> Any:
        for info in active_jobs:
            if "status" not in info.aux:
                yield info
            elif info.aux["status"]:
                self.report_job_error(info)
            else:
                self.report_job_success(info)


@contextmanager
def _machine() -> Iterator[None]:
    hidden = [Path(name) for name in os.environ.get("HIDE", "").split(":") if name]
    with tempfile.TemporaryDirectory(dir="..") as folder:
        moved = [(path, Path(folder, str(index))) for index, path in enumerate(hidden) if path.exists()]
        for path, away in moved:
            path.rename(away)
        try:
            yield
        finally:
            for path, away in moved:
                away.rename(path)


def _environment() -> dict[str, str]:
    given = {**os.environ, **json.loads(os.environ.get("MACHINE_ENV", "{}"))}
    return {name: value for name, value in given.items() if value is not None}


def main() -> None:
    """Snakemake's `main`, with that executor."""
    module = types.ModuleType("snakemake_executor_plugin_deciding")
    module.Executor = DecidingExecutor  # type: ignore[attr-defined]
    module.common_settings = common_settings  # type: ignore[attr-defined]
    module.ExecutorSettings = plugin.ExecutorSettings  # type: ignore[attr-defined]
    ExecutorPluginRegistry().register_plugin("snakemake_executor_plugin_deciding", module)
    sys.path[0] = "/nowhere"  # `python -m` has put this folder there; `snakemake` would not
    cli.main(["--executor", "deciding", "--jobs", "1", *sys.argv[1:]])


if __name__ == "__main__":
    main()
