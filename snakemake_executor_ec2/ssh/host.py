"""RemoteHost over paramiko: one connection, a channel for every command."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from typing import BinaryIO, TypeVar

import paramiko

from snakemake_executor_ec2.errors import ConnectionLost, StagingError
from snakemake_executor_ec2.ports import ANSWER_BYTES, Completed
from snakemake_executor_ec2.ssh.conversation import SshConversation, too_much
from snakemake_executor_ec2.ssh.liveness import LiveSocket
from snakemake_executor_ec2.ssh.openssh import OpensshClient, Program, Unusable
from snakemake_executor_ec2.ssh.streams import ALL, Stdin, Stdout, begin_thread, keep_end, send_all
from snakemake_executor_ec2.ssh.transport import SshTransport, execute, why_lost

T = TypeVar("T")
_log = logging.getLogger(__name__)

_NEAR_S = 0.005
"""A round trip up to which OpenSSH's client is the faster one: of a channel of its own it lets 2 MiB be under
way, paramiko with our window 16."""
_BULK = 128 << 20
"""Bytes from which its login, and on a machine another process of sshd's, pay."""
_BUFFER = 1 << 20
_PIECE = 32768
_LONGEST_LINE = 1 << 20
"""Bytes. The longest that is sent is a piece of 64 KiB of a job's output, in JSON."""
_LONGEST_REST = 1 << 20
"""Bytes after the end of what was downloaded."""
_WORDS = 2000
_OPEN_S = 60.0
_FOREVER_S = 1e9


class SshHost:
    """See `ports.RemoteHost`. Threads may run several commands at once."""

    def __init__(
        self, transport: SshTransport, sock: LiveSocket, address: str, client: OpensshClient | None = None
    ) -> None:
        """`client`: what may carry much data."""
        self._transport = transport
        self._sock = sock
        self._address = address
        self._client = client
        self._is_client_used = client is not None
        # No method: who keeps a command for a host must not keep the host, too.
        self._lost = functools.partial(_lost, address)
        self.round_trip_s = 0.0

    @property
    def bulk_bytes(self) -> int:
        """See the port."""
        is_near = 0 < self.round_trip_s < _NEAR_S
        return _BULK if self._is_client_used and is_near else 0

    def pin(self, host_keys: Collection[str]) -> None:
        """See the port."""
        if self._client is not None:
            self._client.host_keys = tuple(host_keys)

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
            try:
                return execution.completed(execution.read_all(deadline, most_bytes), deadline)
            except TimeoutError as error:
                self.close()
                raise self._lost(f"a command took longer than {timeout_s:.0f} s") from error

    def upload(self, command: str, write: Callable[[BinaryIO], None], *, bulk: bool = False) -> Completed:
        """See the port."""
        with self._begun(command, bulk=bulk) as execution:
            execution.drain_stdout()
            raw = Stdin(execution)
            stream = io.BufferedWriter(raw, _BUFFER)
            try:
                write(stream)
                stream.flush()
            except BrokenPipeError:
                pass  # how the command ended says why
            finally:
                raw.is_over = True  # so that what is still buffered is dropped without a word
                stream.detach()
            execution.end_stdin()
            return execution.completed()

    def download(
        self, command: str, read: Callable[[BinaryIO], T], *, stdin: bytes = b"", bulk: bool = False
    ) -> T:
        """See the port."""
        with self._begun(command, bulk=bulk) as execution:
            execution.feed(stdin)
            stream = io.BufferedReader(execution.stdout(), _BUFFER)
            try:
                result = read(stream)
            except Exception as error:
                # a command that failed, or a connection that broke, is why its output was no good
                if execution.has_ended() and (done := execution.completed()).exit_code:
                    raise _failed(done) from error
                raise
            rest = 0
            while data := stream.read(_BUFFER):
                rest += len(data)
                if rest > _LONGEST_REST:
                    raise too_much("files")
            done = execution.completed()
        if done.exit_code:
            raise _failed(done)
        return result

    def lines(
        self, command: str, *, heartbeat_s: float | None = None, silence_s: float | None = None
    ) -> Iterator[bytes]:
        """See the port. Heartbeats are sent while the next line is waited for. Raises StagingError with
        the command's standard error if it fails."""
        heartbeat_s, silence_s = heartbeat_s or _FOREVER_S, silence_s or _FOREVER_S
        with self._execute(command, quiet=True) as execution:
            rest = b""
            heard = beat = time.monotonic()
            while True:
                now = time.monotonic()
                if now - beat >= heartbeat_s:
                    execution.beat()
                    beat = now
                wait_s = min(heard + silence_s, beat + heartbeat_s, now + _OPEN_S) - now
                try:
                    data = execution.receive(ALL, max(0.01, wait_s))
                except TimeoutError:
                    if time.monotonic() - heard < silence_s:
                        continue
                    self.close()
                    raise self._lost(f"no sign of life for {silence_s:.0f} s") from None
                if not data:
                    break
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    if len(line) > _LONGEST_LINE:
                        raise too_much("a line")
                    yield line
                if len(rest) > _LONGEST_LINE:
                    raise too_much("a line")
                heard = time.monotonic()  # now, because the consumer of the lines may be slow
            if rest:
                yield rest
            done = execution.completed()
        if done.exit_code:
            raise _failed(done)

    def converse(self, command: str) -> SshConversation:
        """See the port."""
        close = weakref.WeakMethod(self.close)
        return SshConversation(self._execute(command, quiet=True), lambda: (close() or _nothing)())

    def close(self) -> None:
        """See the port."""
        self._sock.end()
        self._transport.close()
        if self._client is not None:
            self._client.close()

    def _begun(self, command: str, *, bulk: bool) -> _Execution | Program:
        if bulk and self._is_client_used and self._client is not None:
            try:
                return self._client.execute(command, self._lost)
            except Unusable as error:
                _log.debug("OpenSSH's client is not used for %s: %s", self._address, error)
                self._is_client_used = False  # what it runs for other threads is still to end with us
        return self._execute(command)

    def _execute(self, command: str, *, quiet: bool = False) -> _Execution:
        began = time.monotonic()
        try:
            channel = self._transport.open_session(timeout=_OPEN_S)
            took = time.monotonic() - began
            self.round_trip_s = min(self.round_trip_s or took, took)
            execute(channel, command.encode("utf-8", "surrogateescape"))
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._lost(why_lost(error)) from error
        try:
            return _Execution(channel, self._transport, self._lost, quiet=quiet)
        except ConnectionLost:
            channel.close()
            raise


def _lost(address: str, why: str) -> ConnectionLost:
    return ConnectionLost(f"The connection to {address} broke off: {why}.")


def _nothing() -> None:
    """For a host that is gone."""


def _failed(done: Completed) -> StagingError:
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return StagingError(
        said[-1][-_WORDS:] if said else f"a command on the machine failed: exit status {done.exit_code}"
    )


class _Execution:
    """A command that runs; its standard error is read all the while, so that nothing blocks on it.

    `quiet`: it hardly has any, so that a look now and then is enough, and no thread is needed.
    """

    def __init__(
        self,
        channel: paramiko.Channel,
        transport: SshTransport,
        lost: Callable[[str], ConnectionLost],
        *,
        quiet: bool,
    ) -> None:
        self._channel = channel
        self._transport = transport
        self._lost = lost
        self._stderr = bytearray()
        self._quiet = quiet
        self._threads = [] if quiet else [self._thread(self._read_stderr)]

    def __enter__(self) -> _Execution:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()
        for thread in self._threads:
            thread.join()

    # --- standard input -------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Send all of it, and the end of it; at the side, for the command may not read it yet."""

        def send() -> None:
            with contextlib.suppress(OSError, ConnectionLost):
                send_all(self, data)
                self.end_stdin()

        if data:
            self._threads.append(self._thread(send))
        else:
            self.end_stdin()

    def send_without_limit(self) -> None:
        """From now on, for a command of which only one thread reads and writes."""
        self._channel.settimeout(None)

    def send(self, data: memoryview) -> int:
        """Send some of it. Raises BrokenPipeError if the command has ended."""
        piece = bytes(data[:_PIECE])
        try:
            sent = self._channel.send(piece)
        except (OSError, EOFError, paramiko.SSHException) as error:
            self._check_lost(error)
            raise BrokenPipeError("the command on the machine stopped reading") from error
        if not sent:
            self._check_lost(None)
            raise BrokenPipeError("the command on the machine stopped reading")
        return sent

    def beat(self) -> None:
        """Send a newline if there is room for it."""
        with contextlib.suppress(BrokenPipeError):
            self.send(memoryview(b"\n"))

    def end_stdin(self) -> None:
        """No more will come."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.shutdown_write()

    # --- standard output and error --------------------------------------------------------

    def stdout(self) -> io.RawIOBase:
        """Its standard output, as a stream."""
        return Stdout(self)

    def receive(self, size: int, timeout_s: float | None = None) -> bytes:
        """Some of the standard output, b"" at its end. Raises TimeoutError, ConnectionLost."""
        self._channel.settimeout(timeout_s)
        while self._quiet and self._channel.recv_stderr_ready():
            keep_end(self._stderr, self._channel.recv_stderr(_PIECE))
        try:
            data = self._channel.recv(size)
        except TimeoutError:
            raise
        except (OSError, EOFError, paramiko.SSHException) as error:  # it sends, too: that there is room again
            raise self._lost(why_lost(error)) from error
        if not data and not self._channel.eof_received:
            self._check_lost(None)
        return data

    def read_all(self, deadline: float | None, most_bytes: int) -> bytes:
        """The whole standard output. Raises TimeoutError after the deadline, ConnectionLost; InstanceLost if
        it is longer than it may be."""
        pieces: list[bytes] = []
        size = 0
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            data = self.receive(ALL, left)
            if not data:
                return b"".join(pieces)
            pieces.append(data)
            size += len(data)
            if size > most_bytes:
                raise too_much("an answer")

    def drain_stdout(self) -> None:
        """Keep the end of the standard output while something else goes on."""
        self._stdout = bytearray()

        def drain() -> None:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                while data := self._channel.recv(ALL):
                    keep_end(self._stdout, data)

        self._threads.append(self._thread(drain))

    def has_ended(self) -> bool:
        """Whether the command has closed its standard output."""
        return bool(self._channel.eof_received or self._channel.closed)

    def completed(self, output: bytes | None = None, deadline: float | None = None) -> Completed:
        """Wait for the end. Raises TimeoutError, and ConnectionLost if it cannot be known."""
        if not self._channel.status_event.wait(None if deadline is None else deadline - time.monotonic()):
            raise TimeoutError
        exit_code = self._channel.recv_exit_status()
        killed_by = self._transport.killed_by.pop(self._channel.chanid, None)
        if killed_by is not None:
            exit_code = -killed_by
        elif exit_code == -1:
            raise self._lost("the end of a command was not heard")
        for thread in self._threads:
            thread.join()
        if self._quiet:
            self._read_stderr()
        if output is None:
            output = bytes(getattr(self, "_stdout", b""))
        return Completed(exit_code=exit_code, stdout=output, stderr=bytes(self._stderr))

    def _read_stderr(self) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while data := self._channel.recv_stderr(ALL):
                keep_end(self._stderr, data)

    def _check_lost(self, error: BaseException | None) -> None:
        if not self._transport.is_active():
            raise self._lost(why_lost(error or self._transport.get_exception() or EOFError())) from error

    @staticmethod
    def _thread(target: Callable[[], None]) -> threading.Thread:
        return begin_thread(target, f"ssh {target.__name__}")
