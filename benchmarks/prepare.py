"""What a new machine is asked before its job starts, and how long that takes: `python -m benchmarks.prepare`.

Over OpenSSH's sshd on loopback, at no delay and at a round trip of 100 ms, from the agent's installation to
the start of a job with one small file: medians, and the number of commands and of requests within them. Host
keys are made and not put in place, because the server is this computer's; software is not installed. The
short form makes one round.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from unittest.mock import patch

from benchmarks import sizes
from snakemake_executor_ec2.agent.client import Agent
from snakemake_executor_ec2.machines.connection import Connection
from snakemake_executor_ec2.machines.host_keys import HostKeys
from snakemake_executor_ec2.machines.session import MachineSession
from snakemake_executor_ec2.ports import RemoteHost
from snakemake_executor_ec2.ssh.connector import SshConnector
from snakemake_executor_ec2.ssh.host import SshHost
from snakemake_executor_ec2.staging.paths import PathMap
from snakemake_executor_ec2.staging.view import Viewer
from snakemake_executor_ec2.timing import SystemClock
from tests.sshd import LOOPBACK, Server, Wire, openssh
from tests.unit.machines import launchers

T = TypeVar("T")


def main() -> None:
    """Print a line for each delay."""
    options = sizes(__doc__, rounds=(5, 1))
    for delay_s in (0.0, 0.05):
        taken: list[float] = []
        with _counted() as commands:
            for _ in range(options.rounds):
                commands.clear()
                with (
                    tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
                    openssh(Path(folder)) as server,
                    Wire(server.port, delay_s=delay_s) as wire,
                ):
                    taken.append(_prepared(server, wire.port, Path(folder)))
        print(
            f"{2000 * delay_s:.0f} ms round trip: {statistics.median(taken):.2f} s ({min(taken):.2f} to "
            f"{max(taken):.2f}), {len(commands)} commands",
            flush=True,
        )


def _prepared(server: Server, port: int, folder: Path) -> float:
    """Seconds from a new connection to a job that has started."""
    project = folder / "project"
    project.mkdir()
    (project / "input").write_text("some words\n")
    (project / "beside").write_text("not sent\n")
    plan = replace(
        launchers.plan("run-1.1.1"),
        command="true",
        workdir=project,
        inputs=(project / "input",),
        view=Viewer([project]).look(),
    )
    connector = SshConnector(user=server.user, login_keys=[server.login], port=port)
    host = connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=10)
    keys = HostKeys(first_is_enough=False, tell=print)
    session = MachineSession(_Standing(host).connection, SystemClock(), print, {}, keys, [])
    elsewhere = PathMap(here=project, there=folder / "there")  # it is the same computer
    try:
        with patch("snakemake_executor_ec2.machines.session.PathMap", lambda **_: elsewhere):
            began = time.monotonic()
            session.move_in(0)
            session.rotate_host_key(lambda *_: None)
            session.stage_in(plan)
            Agent(host).start(session._start_of(plan))
            took = time.monotonic() - began
        for _ in Agent(host).follow(plan.key):
            pass
        return took
    finally:
        host.close()


class _Standing:
    """A connection that never breaks."""

    def __init__(self, host: RemoteHost) -> None:
        def call(use: Callable[[RemoteHost], T]) -> T:
            return use(host)

        self.connection = cast(
            Connection, SimpleNamespace(call=call, once=call, machine_id="i-1", host_keys=(), zone="")
        )


@contextmanager
def _counted() -> Iterator[list[str]]:
    """Commands that are run over ssh, of all connections; none puts a host key in place."""
    commands: list[str] = []
    execute = SshHost._execute

    def counted(host: SshHost, command: str, **more: Any) -> Any:
        commands.append(command)
        return execute(host, command, **more)

    with patch.object(SshHost, "_execute", counted), patch.object(Agent, "rotate_host_key", Agent.renew):
        yield commands


if __name__ == "__main__":
    main()
