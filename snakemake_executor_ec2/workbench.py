"""What the story does on one machine: the agent's commands, over a `Link` (see `agent/`)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from snakemake_executor_ec2.agent import bundle, protocol
from snakemake_executor_ec2.agent.archive import ArchiveError, Contents, Entry, read_archive, write_archive
from snakemake_executor_ec2.control import Control
from snakemake_executor_ec2.errors import (
    ConnectionLost,
    InstanceLost,
    PreparationError,
    StagingError,
)
from snakemake_executor_ec2.link import Link
from snakemake_executor_ec2.model import Failure, JobPlan, JobResult, Software, Transfer, Usage
from snakemake_executor_ec2.ports import Clock, Completed, RemoteHost
from snakemake_executor_ec2.staging.paths import PathMap, sendings

_HEARTBEAT_S = 15.0
_SILENCE_S = 60.0
"""Four heartbeats without an answer: the connection is dead, whatever TCP says."""
_COMMAND_TIMEOUT_S = 60.0
_SOFTWARE_TIMEOUT_S = 3600.0


class AgentWorkbench:
    """`ports.Workbench` for a machine with Python 3.9 or newer. One for each machine."""

    def __init__(self, link: Link, control: Control, clock: Clock, tell: Callable[[str], None]) -> None:
        self._link = link
        self._control = control
        self._clock = clock
        self._tell = tell
        folder = f"$HOME/.snakemake-ec2/{bundle.digest()}"
        self._folder = folder
        self._agent = f'python3 "{folder}/agent.pyz"'
        self._paths: PathMap | None = None
        self._software: dict[str, Any] = {}

    def move_in(self, lease_s: float) -> None:
        put = f'umask 077; mkdir -p "{self._folder}" && cd "{self._folder}" && cat > new && mv new agent.pyz'
        done = self._link.call(lambda host: host.run(put, stdin=bundle.bundle(), timeout_s=_COMMAND_TIMEOUT_S))
        if done.exit_code != 0:
            raise PreparationError(f"the agent could not be installed: {_words(done)}")
        self._ask("guard", {"lease_s": lease_s})

    def rotate_host_key(self) -> str | None:
        try:
            answer = self._ask("rotate-host-key", {})
        except PreparationError as error:
            self._tell(f"the machine keeps its first host key: {error.message}")
            return None
        return str(answer["host_key"])

    def install_software(self, software: Software) -> None:
        request = {
            "snakemake": software.snakemake,
            "packages": list(software.packages),
            "requirements": software.requirements,
            "setup": software.setup,
            "python": ">=3.11",
        }
        self._software = self._ask("software", request, timeout_s=_SOFTWARE_TIMEOUT_S)

    def stage_in(self, plan: JobPlan) -> Transfer:
        started = self._clock.monotonic()
        self._paths = self._make_workdir(plan)
        try:
            sending = sendings([*plan.sources, *plan.inputs], self._paths)
        except FileNotFoundError as error:
            raise StagingError(f"{error.filename} cannot be sent: it does not exist (any more)") from error
        entries = [Entry(path=str(each.content), name=str(each.name)) for each in sending]
        self._make_parents(plan, entries)

        def send(host: RemoteHost) -> Completed:
            return host.upload(f"{self._agent} unpack", lambda stream: self._write(stream, entries))

        done = self._link.call(send)
        if done.exit_code != 0:
            raise StagingError(f"the inputs could not be written on the machine: {_words(done)}")
        answer = json.loads(done.stdout)
        return Transfer(
            files=len(entries), bytes=answer["bytes"], seconds=self._clock.monotonic() - started
        )

    def run(self, plan: JobPlan, log: Path) -> JobResult:
        assert self._paths is not None
        runtime_min = plan.requirements.runtime_min
        self._ask(
            "start",
            {
                "key": plan.key,
                "command": plan.command,
                "cwd": str(self._paths.there),
                "env": dict(plan.env),
                "label": plan.label,
                "path_prepend": self._software.get("path", []),
                "runtime_s": runtime_min * 60 if runtime_min else None,
            },
        )
        follower = _Follower(self._agent, plan.key, log)
        event = self._link.call(follower.follow)
        return JobResult(
            exit_code=event.exit_code,
            failure=None if event.exit_code == 0 else Failure(event.failure or Failure.EXIT),
            seconds=event.seconds,
            usage=Usage(
                peak_mem_mib=event.peak_mem_mib,
                cpu_seconds=event.cpu_seconds,
                peak_disk_mib=event.peak_disk_mib,
            ),
        )

    def stage_out(self, plan: JobPlan, *, succeeded: bool) -> Transfer:
        assert self._paths is not None
        started = self._clock.monotonic()
        must = plan.outputs if succeeded else ()
        may = (*plan.optional_outputs, *plan.logs) if succeeded else (*plan.logs, *plan.incomplete)
        if not must and not may:
            return Transfer(files=0, bytes=0, seconds=0.0)
        expected = {str(self._paths.to_machine(path)): path for path in (*must, *may)}
        request = {"must": self._names(must), "paths": self._names(may)}

        def read(stream: BinaryIO) -> Contents:
            return self._read(stream, expected, request["must"], plan.workdir)

        def fetch(host: RemoteHost) -> Contents:
            return host.download(f"{self._agent} pack", read, stdin=json.dumps(request).encode())

        try:
            contents = self._link.call(fetch)
        except ArchiveError as error:
            raise StagingError(f"the machine's answer is refused: {error}") from error
        return Transfer(
            files=len(contents.placed), bytes=contents.size, seconds=self._clock.monotonic() - started
        )

    # --- helpers ------------------------------------------------------------------------------

    def _ask(
        self, command: str, request: dict[str, Any], *, timeout_s: float = _COMMAND_TIMEOUT_S
    ) -> dict[str, Any]:
        """One command of the agent's with its JSON answer."""
        stdin = json.dumps(request).encode()
        done = self._link.call(
            lambda host: host.run(f"{self._agent} {command}", stdin=stdin, timeout_s=timeout_s)
        )
        try:
            answer = json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            answer = {}
        if done.exit_code == 127:
            raise PreparationError("its image has no python3; choose another one with --ec2-ami")
        if done.exit_code != 0 or "error" in answer:
            raise PreparationError(str(answer.get("error") or _words(done)), log=str(answer.get("log", "")))
        if not isinstance(answer, dict):
            raise PreparationError(f"the agent's answer to {command!r} makes no sense")
        return answer

    def _make_workdir(self, plan: JobPlan) -> PathMap:
        answer = self._folders({"paths": [str(plan.workdir)]})[0]
        if answer["ok"]:
            return PathMap(here=plan.workdir, there=plan.workdir)
        home = self._link.call(lambda host: host.run('printf %s "$HOME"', timeout_s=_COMMAND_TIMEOUT_S))
        other = Path(home.stdout.decode(), ".snakemake-ec2", "work")
        again = self._folders({"paths": [str(other)]})[0]
        if not again["ok"]:
            raise StagingError(f"no working directory can be made on the machine: {again['reason']}")
        self._tell(
            f"{plan.label} runs in {other} on its machine, because {plan.workdir} cannot be used there "
            f"({answer['reason']}); absolute paths into it will not work"
        )
        return PathMap(here=plan.workdir, there=other)

    def _make_parents(self, plan: JobPlan, entries: Iterable[Entry]) -> None:
        """Folders for what is sent, and for what the job makes, outside of its working directory."""
        assert self._paths is not None
        names = [Path(entry.name) for entry in entries]
        names += [self._paths.to_machine(path) for path in (*plan.outputs, *plan.optional_outputs, *plan.logs)]
        outside = {str(name.parent) for name in names if self._paths.there not in name.parents}
        if not outside:
            return
        for answer in self._folders({"parents": sorted(outside)}):
            if not answer["ok"]:
                raise StagingError(f"{answer['path']} cannot be used on the machine: {answer['reason']}")

    def _folders(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = self._ask("workdir", request)["answers"]
        return answers

    def _write(self, stream: BinaryIO, entries: Iterable[Entry]) -> None:
        try:
            write_archive(stream, entries)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StagingError(f"{error.filename or 'a file'} cannot be read: {error.strerror}") from error

    def _read(
        self, stream: BinaryIO, expected: dict[str, Path], must: list[str], workdir: Path
    ) -> Contents:
        def on_begin(begin: dict[str, Any]) -> None:
            found = begin.get("paths", {})
            missing = [name for name in must if found.get(name, {}).get("kind", "missing") == "missing"]
            if missing:
                raise StagingError(f"the job succeeded, but did not make {', '.join(sorted(missing))}")
            for path in expected.values():
                path.parent.mkdir(parents=True, exist_ok=True)

        def place(name: str) -> str | None:
            path = expected.get(name)
            if path is None:
                raise ArchiveError(f"{name} was not asked for")
            return str(path)

        roots = [str(workdir), *(str(path) for path in expected.values())]
        return read_archive(stream, place, roots=roots, on_begin=on_begin)

    def _names(self, paths: Iterable[Path]) -> list[str]:
        assert self._paths is not None
        return [str(self._paths.to_machine(path)) for path in paths]


class _Follower:
    """Follows a job; called again after a break, it goes on where it was."""

    def __init__(self, agent: str, key: str, log: Path) -> None:
        self._agent = agent
        self._key = key
        self._log = log
        self._at = (0, 0)

    def follow(self, host: RemoteHost) -> protocol.Finished:
        command = f"{self._agent} follow {shlex.quote(self._key)} --events {self._at[0]} --output {self._at[1]}"
        with self._log.open("ab") as log:
            for line in host.lines(command, heartbeat_s=_HEARTBEAT_S, silence_s=_SILENCE_S):
                message = protocol.parse(line)
                if message is None:
                    continue
                if message.output:
                    log.write(message.output)
                    log.flush()
                self._at = message.at
                if isinstance(message.event, protocol.Finished):
                    return message.event
                if message.lost:
                    raise InstanceLost(f"the agent on the machine ended: {message.lost}")
        raise ConnectionLost("the machine stopped telling of the job")


def _words(done: Completed) -> str:
    """What a failed command said, in a line."""
    text = done.stderr.decode(errors="replace").strip()
    return text.splitlines()[-1] if text else f"exit code {done.exit_code}"
