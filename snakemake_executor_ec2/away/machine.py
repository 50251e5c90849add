"""What is done with the machine of a whole run: send the project, install, begin, look."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.agent.answers import JobState
from snakemake_executor_ec2.agent.archive import Entry
from snakemake_executor_ec2.agent.away_client import AwayAgent, FinishedFile
from snakemake_executor_ec2.agent.client import JobStart
from snakemake_executor_ec2.agent.protocol import Finished, Interrupted, Output, Position, Unwatched
from snakemake_executor_ec2.agent.transfer import Upload
from snakemake_executor_ec2.agent.trees import tree_digest
from snakemake_executor_ec2.away.project import Project, command
from snakemake_executor_ec2.away.wheel import Wheel
from snakemake_executor_ec2.errors import ConnectionLost, InstanceLost, PreparationError, StagingError
from snakemake_executor_ec2.machines.connection import Connection
from snakemake_executor_ec2.machines.umask import own_umask
from snakemake_executor_ec2.model import JobPlan, Requirements, Transfer
from snakemake_executor_ec2.ports import Completed, RemoteHost, Session
from snakemake_executor_ec2.records.journal import FOLDER
from snakemake_executor_ec2.report import away as words
from snakemake_executor_ec2.staging.paths import PathMap, Sending, sendings
from snakemake_executor_ec2.staging.sources import TRACKED
from snakemake_executor_ec2.tags import AWAY_RULE

_TAIL = 16 << 20
_WORDS_S = 120.0
_WORDS_BYTES = 16 << 20
ENDS_S = 60.0
"""How long Snakemake may take to end its jobs' machines."""


class AwayMachine:
    """One such machine, over a connection that is opened again when it breaks."""

    def __init__(
        self, connection: Connection, session: Session, workdir: Path, before: Mapping[str, Any] | None = None
    ) -> None:
        """`workdir` is the folder's path here; `before` what the journal remembers of an earlier start."""
        self.connection = connection
        self.session = session
        self.workdir = workdir
        self._before = {name: before[name] for name in ("workdir", "ahead_ns")} if before else {}

    @property
    def saved(self) -> dict[str, Any]:
        """What another process needs to go on with the machine."""
        return {**self.session.saved_state(), **self._before}

    @property
    def there(self) -> Path:
        """The folder's path there."""
        return Path(str(self.saved["workdir"]))

    @property
    def ahead_ns(self) -> int:
        """By how much its clock is ahead of this computer's."""
        return int(self.saved["ahead_ns"])

    @property
    def paths(self) -> PathMap:
        return PathMap(here=self.workdir, there=self.there)

    def hostname(self) -> str:
        """As the machine's own Snakemake tags its jobs' machines."""
        done = self.connection.call(lambda host: host.run("uname -n", timeout_s=60))
        return done.stdout.decode(errors="replace").strip()[:255]

    def send(self, project: Project, *, new: bool) -> Transfer:
        """Send what the machine has not, or has otherwise; a `new` one also gets outputs that are here.

        Raises StagingError.
        """
        began = time.monotonic()
        if new:  # makes the folder
            self.session.stage_in(bare_plan("away", self.workdir))
        ahead_ns = self.ahead_ns
        files = _sendings([*project.sources, *project.inputs], self.paths)
        with _written(files, project.written) as sending:
            rows = {str(each.name): _row(each.content, ahead_ns) for each in sending}
            same = self.connection.call(lambda host: AwayAgent(host).have(rows))
            changed = [each for each in sending if str(each.name) not in same]
            if new:
                changed += _sendings(project.made, self.paths)
            if project.tracked is not None:
                self._put(str(TRACKED), "\0".join(project.tracked).encode("utf-8", "surrogateescape"))
            size = self._unpack(changed, ahead_ns)
        return Transfer(files=len(changed), bytes=size, seconds=time.monotonic() - began, kept=len(same))

    def install(self, project: Project, wheel: Wheel | None) -> None:
        """Install what the controller needs. Raises PreparationError."""
        packages = project.software.packages
        if wheel is not None:
            self._put(wheel.path, wheel.content)
            packages = tuple(str(self.there / each) if each == wheel.path else each for each in packages)
        self.session.install_software(replace(project.software, packages=packages))
        if project.told and self._there_in_shell(f"command -v {shlex.quote(project.told)}").exit_code:
            raise PreparationError(words.nobody_to_tell(project.told))

    def let_go_of_dead_runs(self) -> None:
        """A run that a crash of the machine has ended seems alive for minutes, by its heartbeat: from now on
        its lock alone tells."""
        runs = shlex.quote(str(self.there / FOLDER / "runs"))
        command = f"[ ! -d {runs} ] || find {runs} -type f -exec touch -d @0 {{}} +"
        self.connection.call(lambda host: host.run(command, timeout_s=60))

    def begin(self, key: str, project: Project, *, keep_s: int) -> None:
        """Start the workflow, detached; once for a key."""
        state = self.saved

        def start(host: Any) -> JobState:
            agent = AwayAgent(host)
            return agent.start(
                JobStart(
                    key=key,
                    command=command(project.arguments, agent.shorten_after(keep_s)),
                    cwd=str(state["workdir"]),
                    label=AWAY_RULE,
                    env=project.env,
                    unset=project.unset,
                    umask=own_umask(),
                    path_prepend=tuple(state["path"]),
                )
            )

        self.connection.call(start)

    def follow(self, key: str, show: Callable[[bytes], None]) -> Finished:
        """Show what Snakemake prints, from the beginning on, until it has ended. Raises InstanceLost."""
        position = Position()

        def follow(host: RemoteHost) -> Finished:
            nonlocal position
            for line in AwayAgent(host).follow(key, position):
                position = line.at
                if isinstance(line.event, Output):
                    show(line.event.data)
                if isinstance(line.event, Finished):
                    return line.event
                if isinstance(line.event, Interrupted | Unwatched):
                    raise InstanceLost(f"the workflow was interrupted: {line.event.reason}")
            raise ConnectionLost("the machine stopped reporting on the workflow")

        return self.connection.call(follow)

    def end(self, key: str) -> bool:
        """Have Snakemake end itself and its jobs' machines; whether it has, in time."""
        return self.connection.call(lambda host: AwayAgent(host).end(key, ENDS_S))

    def own_words(self, *command: str) -> str:
        """What this package's own command prints there."""
        done = self._there_in_shell(f"snakemake-ec2 {shlex.join(command)}")
        return (done.stdout if not done.exit_code else done.stderr).decode(errors="replace")

    def status(self, key: str) -> JobState:
        """How the workflow is."""
        return self.connection.call(lambda host: AwayAgent(host).status(key))

    def lease_left_s(self) -> float | None:
        """How long the machine stays if nobody looks at it."""
        return self.connection.call(lambda host: AwayAgent(host).lease_left_s())

    def finished(self, also: Iterable[str]) -> tuple[FinishedFile, ...]:
        """What is finished there."""
        return self.connection.call(lambda host: AwayAgent(host).finished(str(self.there), list(also)))

    def tail(self, key: str) -> str:
        """The end of what Snakemake has printed."""
        return self.connection.call(lambda host: AwayAgent(host).tail(key, _TAIL)).decode(errors="replace")

    def _there_in_shell(self, command: str) -> Completed:
        """What comes of a command in the folder there, with the PATH of the workflow."""
        path = shlex.quote(":".join(self.saved["path"]))
        line = f"cd {shlex.quote(str(self.there))} && PATH={path}:$PATH && {command}"
        return self.connection.call(lambda host: host.run(line, timeout_s=_WORDS_S, most_bytes=_WORDS_BYTES))

    def _put(self, name: str, content: bytes) -> None:
        """Write a file into the working directory there."""
        with tempfile.TemporaryDirectory(prefix="snakemake-ec2-") as folder:
            file = Path(folder, "file")
            file.write_bytes(content)
            entry = Entry(path=str(file), name=str(self.there / name))
            self.connection.call(Upload([entry]).over)

    def _unpack(self, sending: list[Sending], ahead_ns: int) -> int:
        outside = sorted({str(each.name.parent) for each in sending if self.there not in each.name.parents})
        if outside:
            for answer in self.connection.call(lambda host: AwayAgent(host).workdir([], parents=outside)):
                if not answer.ok:
                    raise StagingError(f"{answer.path} cannot be used on the machine: {answer.reason}")
        entries = [Entry(path=str(each.content), name=str(each.name)) for each in sending]
        if not entries:
            return 0
        return self.connection.call(Upload(entries, shift_ns=ahead_ns).over)


def bare_plan(key: str, workdir: Path, **changes: Any) -> JobPlan:
    """The plan of a machine that runs no job of Snakemake's, for what takes a plan."""
    facts: dict[str, Any] = {
        "rule": AWAY_RULE,
        "label": AWAY_RULE,
        "command": "",
        "env": {},
        "requirements": Requirements(threads=1, mem_mb=1, disk_mb=1),
        "sources": (),
        "inputs": (),
        "outputs": (),
    }
    return JobPlan(key=key, workdir=workdir, **{**facts, **changes})


def _sendings(paths: Iterable[Path], path_map: PathMap) -> list[Sending]:
    try:
        return sendings(paths, path_map)
    except OSError as error:
        raise StagingError(f"{error.filename} cannot be sent: {error.strerror}") from error


@contextmanager
def _written(sending: list[Sending], contents: Mapping[Path, bytes]) -> Iterator[list[Sending]]:
    """These, some with another content: a file that ends with the `with` has it, and the mode and time."""
    with tempfile.TemporaryDirectory(prefix="snakemake-ec2-") as folder:
        found: list[Sending] = []
        for each in sending:
            content = None if each.content.is_symlink() else contents.get(each.content.resolve())
            if content is not None:
                copy = Path(folder, str(len(found)))
                copy.write_bytes(content)
                shutil.copystat(each.content, copy)
                each = replace(each, content=copy)
            found.append(each)
        yield found


def _row(content: Path, ahead_ns: int) -> tuple[str, int | None, int]:
    """What tells whether a file is there already; mode and time it is to have."""
    digest, status = tree_digest(str(content)), os.lstat(content)
    if digest is None:
        raise StagingError(f"{content} cannot be sent: it cannot be read, or is neither file nor folder")
    is_file = stat.S_ISREG(status.st_mode)
    return digest, status.st_mode & 0o777 if is_file else None, status.st_mtime_ns + ahead_ns
