"""What a job does on its machine: the agent's commands, over a `Connection` (see `agent/`)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_ec2.agent.archive import Entry
from snakemake_executor_ec2.agent.client import Agent, Installed, JobStart
from snakemake_executor_ec2.agent.image_client import ImageAgent
from snakemake_executor_ec2.agent.protocol import (
    Finished,
    Interrupted,
    Line,
    Output,
    Position,
    SpotNotice,
    Unwatched,
)
from snakemake_executor_ec2.agent.transfer import Progress, Upload
from snakemake_executor_ec2.errors import (
    Cancelled,
    ConnectError,
    ConnectionLost,
    HostKeyMismatch,
    InstanceLost,
    NotFetched,
    PreparationError,
    StagingError,
)
from snakemake_executor_ec2.formatting import TellOnce
from snakemake_executor_ec2.machines.counting import Transfers
from snakemake_executor_ec2.machines.fetching import Fetching
from snakemake_executor_ec2.machines.host_keys import HostKeys
from snakemake_executor_ec2.machines.kept_files import KeptFiles
from snakemake_executor_ec2.machines.peer_files import PeerFiles
from snakemake_executor_ec2.machines.peers import Peers
from snakemake_executor_ec2.machines.sending import make_folders, to_send
from snakemake_executor_ec2.machines.umask import own_umask
from snakemake_executor_ec2.model import Cleaned, JobPlan, JobResult, Software, Transfer
from snakemake_executor_ec2.ports import Clock, RemoteHost
from snakemake_executor_ec2.records.live import Live
from snakemake_executor_ec2.report import messages
from snakemake_executor_ec2.report.transfers import files
from snakemake_executor_ec2.staging.paths import PathMap, Sending
from snakemake_executor_ec2.staging.view import View
from snakemake_executor_ec2.timing import ahead_s

if TYPE_CHECKING:
    from snakemake_executor_ec2.machines.connection import Connection

_HOME = re.compile(r"/[^\x00-\x1f]{0,1000}")
_PAUSE_S = 5.0
_AT_ONCE_S = 1.0
_SOFTWARE_TIMEOUT_S = 3600.0
"""Longer than any installation that is worth paying for with every job."""
_LAST_CALL_S = 60.0
"""How long a machine that could not be reached until then may take to say that it is done."""
_TOO_LONG = (
    "Software was not installed within an hour. Check whether --ec2-setup waits for something, ask for less "
    "in --ec2-requirements, or start from an image that has it all: --ec2-ami."
)
_WORTH_TELLING_S = 60.0


class MachineSession:
    """`ports.Session` for a machine with Python 3.9 or newer. One for each machine."""

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        tell: Callable[[str], None],
        locks: dict[Software, Installed],
        host_keys: HostKeys,
        install_s: list[float],
        *,
        reuse: bool = False,
        peers: Peers | None = None,
        live: Live | None = None,
        local_disks: bool = True,
    ) -> None:
        """A run's machines share `locks`, what a first one worked out, `host_keys`, `install_s`: how long
        software took on each, and `live`. `reuse`: its machine may be cleaned, for another job. `peers` pass
        on large files. `local_disks`: machines that are asked for them have them."""
        self._connection = connection
        self._clock = clock
        self._tell = tell
        self._locks = locks
        self._host_keys = host_keys
        self._install_s = install_s
        self._search_path: tuple[str, ...] = ()
        self._paths = PathMap(here=Path("/"), there=Path("/"))
        self._there: Path | None = None
        self._tell_once = TellOnce(tell)
        self._log_is_stuck = False
        self._ahead_ns = 0
        self._reuse = reuse
        self._spot_notice = self._used = False
        self._kept = KeptFiles(connection=connection)
        self._peers = PeerFiles(peers=peers, connection=connection)
        self._live = live
        self._local_disks = local_disks
        self._transfers = Transfers(clock=clock, tell=tell, live=live)

    def move_in(self, lease_s: float, *, used: bool = False) -> None:
        self._used = used

        def settle(host: RemoteHost) -> bool:
            Agent(host).settle()
            return True

        if not used:
            self._connection.call(settle)
        elif not self._connection.once(settle):
            # It has nothing that would be worth waiting for.
            raise InstanceLost(f"machine {self._connection.machine_id} does not answer after its last job")

        def guard(host: RemoteHost) -> float:
            before = self._clock.now()
            there = Agent(host).guard(lease_s)
            return ahead_s(before, there, self._clock.now())

        ahead = self._connection.call(guard)
        self._ahead_ns = round(ahead * 10**9)
        if abs(ahead) >= _WORTH_TELLING_S:
            self._tell(messages.clocks_differ(ahead))

    def saved_state(self) -> Mapping[str, Any]:
        return {
            "path": self._search_path,
            "workdir": str(self._paths.there),
            "ahead_ns": self._ahead_ns,
        }

    def resume(self, saved_state: Mapping[str, Any]) -> None:
        self._search_path = tuple(saved_state["path"])
        self._there = Path(saved_state["workdir"])
        self._ahead_ns = int(saved_state.get("ahead_ns", 0))
        self._peers.peers = None  # it does not know this run's key
        self._connection.call(lambda host: Agent(host).install())

    def lease(self, lease_s: float) -> None:
        self._connection.call(lambda host: Agent(host).guard(lease_s))

    def renew(self) -> None:
        self._connection.call(lambda host: Agent(host).renew())

    def let_go(self) -> bool:
        def guard(host: RemoteHost) -> bool:
            Agent(host).guard(_AT_ONCE_S)
            return True

        with suppress(StagingError, PreparationError):  # the agent is not there (yet), or cannot be run
            return self._connection.once(guard) or False
        return False

    def rotate_host_key(self, pin: Callable[..., None]) -> None:
        try:
            new = self._connection.call(lambda host: Agent(host).new_host_key())
            pin(*self._connection.host_keys, new)
            self._connection.call(lambda host: Agent(host).rotate_host_key())
            pin(new)
        except (ConnectionLost, HostKeyMismatch):
            raise
        except ConnectError as error:
            self._host_keys.not_renewed(self._connection.machine_id, error.message)
        else:
            self._host_keys.renewed()

    def install_software(self, software: Software) -> None:
        alike = replace(software, late=())
        like = self._locks.get(alike)
        deadline = self._clock.monotonic() + _SOFTWARE_TIMEOUT_S
        asked_last = False

        def install(host: RemoteHost) -> Installed:
            nonlocal asked_last
            if asked_last:
                log = host.run('tail -c 8192 "$HOME/.snakemake-ec2/software.log"', timeout_s=60)
                raise PreparationError(_TOO_LONG, log=log.stdout.decode(errors="replace"))
            left = deadline - self._clock.monotonic()
            asked_last = left <= 0  # it may have been finished while the line was down
            return Agent(host).software(software, like=like, timeout_s=max(left, _LAST_CALL_S))

        installed = self._connection.call(install)
        self._search_path = installed.path
        self._install_s.append(installed.seconds)
        if installed.locked:
            self._locks.setdefault(alike, installed)

    def before_image(self, keys: Collection[str]) -> tuple[str, ...]:
        self._connection.call(lambda host: Agent(host).install())
        # Once: it lets nobody in afterwards.
        private = self._connection.once(lambda host: ImageAgent(host).before_image(keys))
        if private is None:
            raise PreparationError("the connection broke while the machine was cleaned for an image")
        return private

    def stage_in(self, plan: JobPlan) -> Transfer:
        started = self._clock.monotonic()
        self._paths = PathMap(here=plan.workdir, there=plan.workdir)
        sending = to_send(plan, self._paths)
        on_local = plan.requirements.disk_mb if self._local_disks and plan.requirements.nvme_gb else None
        why_not = make_folders(self._connection, plan, self._paths, sending, on_local)
        if why_not:
            self._paths = self._other_workdir(plan, why_not, on_local)
            sending = to_send(plan, self._paths)
            make_folders(self._connection, plan, self._paths, sending, on_local)
        there = self._kept.take(plan, sending, used=self._used, ahead_ns=self._ahead_ns)
        missing = [each for each in sending if str(each.name) not in there]
        self._peers.has(sending, self._kept.sent, there, self._ahead_ns)
        send = partial(self._send, plan)
        size = self._peers.stage(plan, missing, self._kept.sent, send, self._ahead_ns)
        if plan.view is not None:
            self._show(plan, plan.view)
        seconds = self._clock.monotonic() - started
        return Transfer(files=len(missing), bytes=size, seconds=seconds, kept=len(there))

    def run(self, plan: JobPlan, log: Path) -> JobResult:
        if self._there is not None:
            self._paths = PathMap(here=plan.workdir, there=self._there)
        job = self._start_of(plan)
        self._connection.call(lambda host: Agent(host).start(job))
        # What is in the log already is not fetched again; the events, which are few, are.
        position = Position(output=log.stat().st_size if log.exists() else 0)

        def follow(host: RemoteHost) -> JobResult:
            nonlocal position
            with self._open(log) as file:
                for line in self._lines(Agent(host), plan, position):
                    if isinstance(line.event, Output):
                        # An offset that is not where the last piece ended would make a huge or a torn log.
                        if line.at.output != position.output + len(line.event.data):
                            raise InstanceLost("the machine sends the job's output out of order")
                        self._append(file, position.output, line.event.data)
                    if isinstance(line.event, SpotNotice):
                        # Most jobs are lost, but one that ends within the two minutes is done.
                        self._spot_notice = True
                        self._tell_once(messages.spot_notice(plan, line.event.at), about="spot notice")
                    if self._live is not None:
                        self._live.happens(plan.key, line.event)
                    position = line.at
                    if isinstance(line.event, Finished):
                        return line.event.result
                    if isinstance(line.event, Interrupted | Unwatched):
                        raise InstanceLost(f"the job was interrupted: {line.event.reason}")
            raise ConnectionLost("the machine stopped reporting on the job")

        try:
            return self._connection.call(follow)
        except Cancelled as error:
            if self._log_is_stuck:
                raise NotFetched(
                    "there is no room on your computer for what the job printed", here=True
                ) from error
            raise

    def stage_out(self, plan: JobPlan, *, succeeded: bool) -> Transfer:
        started = self._clock.monotonic()
        fetching = Fetching(
            plan=plan,
            paths=self._paths,
            connection=self._connection,
            ahead_ns=self._ahead_ns,
            tell=self._tell_once,
            transfers=self._transfers,
        )
        files, size = fetching.results(succeeded=succeeded)
        if succeeded:
            self._peers.made(plan.outputs, self._paths, self._ahead_ns)
        return Transfer(files=files, bytes=size, seconds=self._clock.monotonic() - started)

    def left(self, plan: JobPlan) -> Mapping[Path, int]:
        roots = [self._paths.to_machine(root) for root in (plan.view.roots if plan.view else [plan.workdir])]
        own = [str(self._paths.to_machine(path)) for path in plan.own]

        def ask(host: RemoteHost) -> dict[str, int]:
            return Agent(host).left(plan.key, [*map(str, roots)], own)

        with suppress(StagingError):  # it is only for a report
            found = self._connection.once(ask) or {}
            return {self._paths.to_controller(Path(path)): size for path, size in found.items()}
        return {}

    def clean(self, plan: JobPlan) -> Cleaned:
        if self._spot_notice:
            return Cleaned(changed="EC2 takes it back", free_mib=0)
        with self._peers.undisturbed():
            return self._kept.clean(plan, self._paths)

    # --- helpers ------------------------------------------------------------------------------

    def _send(self, plan: JobPlan, sending: Collection[Sending], progress: Progress) -> int:
        entries = [Entry(path=str(each.content), name=str(each.name)) for each in sending]
        what = f"sending {files(entries)} to {self._connection.machine_id} for {plan.label}"
        with self._transfers.going(plan.key, "to", what) as tell:

            def both(done: int, total: int) -> None:
                progress(done, total)
                tell(done, total)

            return self._connection.call(Upload(entries, shift_ns=self._ahead_ns, progress=both).over)

    def _start_of(self, plan: JobPlan) -> JobStart:
        runtime_min = plan.requirements.runtime_min
        return JobStart(
            key=plan.key,
            command=plan.command,
            cwd=str(self._paths.there),
            label=plan.label,
            env=plan.env,
            unset=plan.unset,
            umask=own_umask(),
            path_prepend=self._search_path,
            runtime_s=runtime_min * 60 if runtime_min else None,
            decision=plan.decision,
            direct=plan.direct if self._paths.there == plan.workdir else None,
            note=self._reuse,
        )

    def _lines(self, agent: Agent, plan: JobPlan, position: Position) -> Iterator[Line]:
        """What happens to the job. A machine that is out of memory or processes may be unable to report,
        while the job is still running; the job is lost only if the machine says that it knows no such
        job."""
        try:
            yield from agent.follow(plan.key, position)
        except StagingError as error:
            with suppress(StagingError):
                if agent.status(plan.key).state == "unknown":
                    raise InstanceLost(f"the machine does not know the job: {error.message}") from error
            self._tell_once(
                f"the machine of {plan.label} cannot report on it ({error.message}); trying again",
                about=f"no report on {plan.key}",
            )
            self._clock.sleep(_PAUSE_S)
            raise ConnectionLost("the machine cannot report on the job") from error

    def _open(self, log: Path) -> FileIO:
        with self._storing():
            log.parent.mkdir(parents=True, exist_ok=True)
            return log.open("ab", buffering=0)

    def _append(self, file: FileIO, at: int, data: bytes) -> None:
        """Write what the job printed to the log, where it belongs."""
        with self._storing():
            file.truncate(at)
            while data:
                data = data[file.write(data) or 0 :]
        self._log_is_stuck = False

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """If this computer cannot take what the job printed, the connection is given up for a
        while: the machine still has it."""
        try:
            yield
        except OSError as error:
            self._log_is_stuck = True
            self._tell_once(
                f"the job's log cannot be written on your computer ({error.strerror}); trying again until it "
                "can"
            )
            self._clock.sleep(_PAUSE_S)
            raise ConnectionLost(
                "what the job prints cannot be stored on your computer", came_further=True
            ) from error

    def _other_workdir(self, plan: JobPlan, why: str, on_local: int | None) -> PathMap:
        home = self._connection.call(lambda host: host.run('echo; printf %s "$HOME"', timeout_s=60))
        said = os.fsdecode(home.stdout.rpartition(b"\n")[2])
        if not _HOME.fullmatch(said):
            raise StagingError("the machine does not report its user's home directory")
        other = Path(said, ".snakemake-ec2", "work")
        again = self._connection.call(lambda host: Agent(host).workdir([str(other)], local_disk_mb=on_local))
        if not again[0].ok:
            raise StagingError(f"no working directory can be made on the machine: {again[0].reason}")
        self._tell(
            f"{plan.label} runs in {other} on its machine, because {plan.workdir} cannot be used there "
            f"({why}); absolute paths that lead into it will not work"
        )
        return PathMap(here=plan.workdir, there=other)

    def _show(self, plan: JobPlan, view: View) -> None:
        """Let the machine see what was not sent."""
        lists = view.encoded()
        roots = [(str(self._paths.to_machine(root)), str(root)) for root in view.roots]
        own = [str(self._paths.to_machine(path)) for path in plan.own]
        if self._connection.call(lambda host: Agent(host).stand_ins(lists, roots, own, self._ahead_ns)):
            self._tell(messages.stand_ins_readable(plan))
