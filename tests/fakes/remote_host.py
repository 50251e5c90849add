"""A RemoteHost without ssh: commands are processes of this computer, the connection is made up.

`FakeMachine` is what commands run on: a home directory of its own. `FakeConnector` reaches
machines by their address. A connection can be told to break: at once, after so many bytes,
or at a command; or to fall silent.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

from snakemake_executor_ec2.errors import (
    ConnectError,
    ConnectionLost,
    HostKeyMismatch,
    InstanceLost,
    StagingError,
)
from snakemake_executor_ec2.ports import ANSWER_BYTES, Completed
from tests.fakes.conversation import FakeConversation

T = TypeVar("T")

_CHUNK = 1 << 20
_TICK_S = 0.02
_MOST = 1 << 20


@dataclass(kw_only=True)
class FakeMachine:
    """A machine that commands run on. Change its attributes to have something happen."""

    home: Path
    host_key: str
    is_up: bool = True
    """Whether it answers at all."""
    cut_at: str | None = None
    """Break the connection once, when a command that contains this text is run."""
    starved_at: str | None = None
    """Let a command that contains this text fail once, as where there is no memory for it."""
    cut_after_bytes: int | None = None
    """Break the connection once, after so many bytes of streams in either direction."""
    commands: list[str] = field(default_factory=list)
    """What was run on it."""
    round_trip_s: float = 0.0
    bulk_bytes: int = 0
    hosts: list[FakeRemoteHost] = field(default_factory=list)
    """Every connection that there was."""


class FakeConnector:
    """Reaches `FakeMachine`s by address."""

    def __init__(self, machines: dict[str, FakeMachine]) -> None:
        self.machines = machines

    def connect(
        self,
        address: str,
        *,
        name: str = "",  # noqa: ARG002 - the address will do
        host_keys: Collection[str],
        timeout_s: float,  # noqa: ARG002 - it answers at once
    ) -> FakeRemoteHost:
        """See `ports.Connector.connect`."""
        machine = self.machines.get(address)
        if machine is None or not machine.is_up:
            raise ConnectError(f"{address} does not answer.")
        if machine.host_key not in host_keys:
            raise HostKeyMismatch(f"The computer that answers at {address} is not the run's machine.")
        return FakeRemoteHost(machine)


class FakeRemoteHost:
    """See `ports.RemoteHost`."""

    def __init__(self, machine: FakeMachine, *, silence_s: float = 60.0) -> None:
        self.machine = machine
        self.round_trip_s = machine.round_trip_s
        self.bulk_bytes = machine.bulk_bytes
        self._silence_s = silence_s
        self._lost = threading.Event()
        self._frozen = threading.Event()
        machine.hosts.append(self)

    def cut(self) -> None:
        """Break the connection. What runs on the machine finds its streams closed."""
        self._lost.set()

    def freeze(self) -> None:
        """Let nothing through any more, without saying so."""
        self._frozen.set()

    def close(self) -> None:
        """See the port."""
        self.cut()

    def run(
        self,
        command: str,
        *,
        stdin: bytes = b"",
        timeout_s: float | None = None,
        most_bytes: int = ANSWER_BYTES,
    ) -> Completed:
        """See the port."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._execute(command) as execution:
            execution.feed(stdin)
            pieces = []
            while data := execution.receive(_CHUNK, deadline):
                pieces.append(data)
                if sum(map(len, pieces)) > most_bytes:
                    raise InstanceLost("the machine sends an answer without end")
            return execution.completed(b"".join(pieces), deadline)

    def pin(self, host_keys: Collection[str]) -> None:
        """See the port."""

    def upload(self, command: str, write: Callable[[BinaryIO], None], **_: bool) -> Completed:
        """See the port; all its streams are as fast."""
        with self._execute(command) as execution:
            output = bytearray()
            drain = threading.Thread(target=execution.drain, args=(output,), daemon=True)
            drain.start()
            with contextlib.suppress(BrokenPipeError):
                write(_Stream(execution))
            execution.end_stdin()
            drain.join()
            return execution.completed(bytes(output))

    def download(self, command: str, read: Callable[[BinaryIO], T], *, stdin: bytes = b"", **_: bool) -> T:
        """See the port."""
        with self._execute(command) as execution:
            execution.feed(stdin)
            stream = io.BufferedReader(_Stream(execution), _CHUNK)
            try:
                result = read(stream)
            except Exception as error:
                if execution.at_end and (done := execution.completed(b"")).exit_code:
                    raise _failed(done) from error
                raise
            rest = 0
            while data := stream.read(_CHUNK):
                rest += len(data)
                if rest > _MOST:
                    raise InstanceLost("the machine sends files without end")
            done = execution.completed(b"")
        if done.exit_code:
            raise _failed(done)
        return result

    def lines(
        self, command: str, *, heartbeat_s: float | None = None, silence_s: float | None = None
    ) -> Iterator[bytes]:
        """See the port."""
        with self._execute(command) as execution:
            rest = b""
            heard = beat = time.monotonic()
            while True:
                now = time.monotonic()
                if heartbeat_s is not None and now - beat >= heartbeat_s:
                    beat = now
                    with contextlib.suppress(BrokenPipeError):
                        execution.send(b"\n")
                if silence_s is not None and now - heard > silence_s:
                    self.cut()
                try:
                    data = execution.receive(_CHUNK, time.monotonic() + _TICK_S)
                except _Timeout:
                    continue
                if not data:
                    break
                *whole, rest = (rest + data).split(b"\n")
                if max(map(len, (*whole, rest))) > _MOST:
                    raise InstanceLost("the machine sends a line without end")
                yield from whole
                heard = time.monotonic()
            if rest:
                yield rest
            done = execution.completed(b"")
        if done.exit_code:
            raise _failed(done)

    def converse(self, command: str) -> FakeConversation:
        """See the port."""
        return FakeConversation(self._execute(command))

    def check(self, since: float) -> None:
        """Raise ConnectionLost where the connection is gone, or was silent for too long since then."""
        if self._frozen.is_set() and time.monotonic() - since > self._silence_s:
            self.cut()
        if self._lost.is_set():
            raise ConnectionLost("The connection broke off.")

    def flows(self, count: int) -> bool:
        """Account for bytes that are to go over the connection; False while it is frozen."""
        machine = self.machine
        if machine.cut_after_bytes is not None:
            machine.cut_after_bytes -= count
            if machine.cut_after_bytes < 0:
                machine.cut_after_bytes = None
                self.cut()
        return not self._frozen.is_set()

    def _execute(self, command: str) -> _Execution:
        self.check(time.monotonic())
        self.machine.commands.append(command)
        if self.machine.cut_at is not None and self.machine.cut_at in command:
            self.machine.cut_at = None
            self.cut()
        if self.machine.starved_at is not None and self.machine.starved_at in command:
            self.machine.starved_at = None
            command = "echo 'fork: Cannot allocate memory' >&2; exit 254"
        return _Execution(self, command)


class _Timeout(ConnectionLost):
    pass


def _failed(done: Completed) -> StagingError:
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return StagingError(said[-1] if said else f"exit status {done.exit_code}")


class _Execution:
    """A process, its three streams, and the connection that they go over."""

    def __init__(self, host: FakeRemoteHost, command: str) -> None:
        self._host = host
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "HOME": str(host.machine.home)},
        )
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self._stdin, self._stdout, self._stderr = (
            self._process.stdin,
            self._process.stdout,
            self._process.stderr,
        )
        os.set_blocking(self._stdin.fileno(), False)
        self.at_end = False
        self._said = bytearray()
        self._threads = [threading.Thread(target=self._read_stderr, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> _Execution:
        return self

    def __exit__(self, *_: object) -> None:
        """As sshd does it: the streams are closed, the process is left to notice."""
        for stream in (self._stdin, self._stdout):
            stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        for thread in self._threads:
            thread.join(5)
        self._stderr.close()

    def feed(self, data: bytes) -> None:
        def send() -> None:
            with contextlib.suppress(BrokenPipeError, ConnectionLost, ValueError):
                view = memoryview(data)
                while view:
                    view = view[self.send(view) :]
                self.end_stdin()

        self._threads.append(threading.Thread(target=send, daemon=True))
        self._threads[-1].start()

    def send(self, data: bytes | memoryview) -> int:
        since = time.monotonic()
        while True:
            self._host.check(since)
            if not self._host.flows(0) or not select.select([], [self._stdin], [], _TICK_S)[1]:
                time.sleep(_TICK_S / 2)
                continue
            sent = os.write(self._stdin.fileno(), data[:65536])
            self._host.flows(sent)
            return sent

    def end_stdin(self) -> None:
        self._stdin.close()

    def receive(self, size: int, deadline: float | None = None) -> bytes:
        since = time.monotonic()
        while True:
            self._host.check(since)
            if deadline is not None and time.monotonic() > deadline:
                raise _Timeout("No answer in time.")
            if not self._host.flows(0):
                time.sleep(_TICK_S)
            elif select.select([self._stdout], [], [], _TICK_S)[0]:
                data = os.read(self._stdout.fileno(), size)
                self._host.flows(len(data))
                self._host.check(since)
                self.at_end = not data
                return data

    def drain(self, output: bytearray) -> None:
        with contextlib.suppress(ConnectionLost, ValueError, OSError):
            while data := self.receive(_CHUNK):
                output += data

    def completed(self, output: bytes, deadline: float | None = None) -> Completed:
        since = time.monotonic()
        while self._process.poll() is None:
            self._host.check(since)
            if deadline is not None and time.monotonic() > deadline:
                raise _Timeout("No answer in time.")
            time.sleep(_TICK_S / 4)
        self._host.check(since)
        self._threads[0].join()
        return Completed(exit_code=self._process.returncode, stdout=output, stderr=bytes(self._said))

    def _read_stderr(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := self._stderr.read(65536):
                self._said += data


class _Stream(io.RawIOBase, BinaryIO):
    """Both ends of an execution's streams, as `upload` and `download` hand them out."""

    def __init__(self, execution: _Execution) -> None:
        self._execution = execution

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._execution.receive(len(view))
        view[: len(data)] = data
        return len(data)

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        while view:
            view = view[self._execution.send(view) :]
        return len(memoryview(data))  # type: ignore[arg-type]
