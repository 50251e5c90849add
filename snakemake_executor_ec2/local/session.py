"""One ssh channel: a program, a shell or a file server of the host, its bytes passed on as they come."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from signal import Signals
from typing import Any

import asyncssh

from .host import Host, HostError, Program

_CHUNK = 1 << 17
_ENOUGH_WAITING = 1 << 22
_PIPE_SIZE = 1 << 20
_LOGIN_SHELL = ["/bin/bash", "--login"]


class Session(asyncssh.SSHServerSession[bytes]):
    """What asyncssh calls; data flows without a task or a copy that is not needed."""

    def __init__(
        self,
        host: Host,
        connection: asyncssh.SSHServerConnection,
        on_lost: Callable[[Session], None],
        on_received: Callable[[int], None],
    ) -> None:
        self._host = host
        self._connection = connection
        self._on_lost = on_lost
        self._on_received = on_received
        self._loop = asyncio.get_running_loop()
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._argv: list[str] = []
        self._operation = "run"
        self._terminal: tuple[str, tuple[int, int, int, int]] | None = None
        self._program: Program | None = None
        self._input: int | None = None
        self._waiting: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._input_ended = False
        self._outputs: dict[int, Callable[[bytes], None]] = {}
        self._drained = asyncio.Event()
        self._reading = False
        self._full = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._lost = False
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def pty_requested(  # the names are asyncssh's
        self,
        term_type: str,
        term_size: tuple[int, int, int, int],
        term_modes: Any,  # noqa: ARG002
    ) -> bool:
        self._terminal = (term_type, term_size)
        return True

    def shell_requested(self) -> bool:
        self._argv = _LOGIN_SHELL
        return True

    def exec_requested(self, command: str) -> bool:
        self._argv = ["/bin/bash", "-c", command]
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        self._operation = "sftp"
        return subsystem == "sftp"

    def session_started(self) -> None:
        self._task = self._loop.create_task(self._run())

    def data_received(self, data: bytes, datatype: int | None) -> None:  # noqa: ARG002 -- asyncssh's signature
        if self._input is None and self._program is not None:
            return  # the program has closed its input
        self._on_received(len(data))
        self._waiting.append(memoryview(data))
        self._waiting_bytes += len(data)
        if len(self._waiting) == 1 or self._waiting_bytes > _ENOUGH_WAITING:
            self._feed()

    def eof_received(self) -> bool:
        self._input_ended = True
        self._feed()
        return True  # what the program still has to say goes on

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self._terminal is not None and self._input is not None:
            _set_size(self._input, (width, height, pixwidth, pixheight))

    def signal_received(self, signal: str) -> None:
        with suppress(KeyError):
            number = Signals[f"SIG{signal}"]
            if self._program is not None:
                self._loop.create_task(self._program.send_signal(number))

    def pause_writing(self) -> None:
        self._full = True
        self._follow_outputs()

    def resume_writing(self) -> None:
        self._full = False
        self._follow_outputs()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncssh's
        """The program lives on, as under any sshd; only its pipes end here."""
        self._lost = True
        self._flowing.set()
        self._close_ends()
        self._on_lost(self)

    def freeze(self) -> None:
        """Let the client hear nothing, not even an end."""
        self._flowing.clear()
        self._follow_outputs()

    def thaw(self) -> None:
        self._flowing.set()
        self._follow_outputs()

    async def _run(self) -> None:
        assert self._channel is not None
        try:
            program = await self._start()
            self._program = program
            if self._lost:
                self._close_ends()
            self._follow_outputs()
            self._feed()
            ended = await program.ended
            await self._drained.wait()
            await self._flowing.wait()
        except HostError:
            await self._flowing.wait()
            self._channel.close()
            return
        if ended.signal:
            self._channel.exit_with_signal(Signals(ended.signal).name.removeprefix("SIG"))
        else:
            self._channel.exit(ended.exit_status)

    async def _start(self) -> Program:
        variables = self._connection_variables()
        if self._terminal is not None:
            variables["TERM"] = self._terminal[0]
            program = await self._host.run(self._argv, [], variables=variables, terminal=True)
            assert program.terminal_fd is not None
            os.set_blocking(program.terminal_fd, False)
            _set_size(program.terminal_fd, self._terminal[1])
            self._input = program.terminal_fd
            self._outputs = {os.dup(program.terminal_fd): self._write}
            return program
        their_input, self._input = _pipe(our_end=1)
        our_output, their_output = _pipe(our_end=0)
        our_errors, their_errors = _pipe(our_end=0)
        self._outputs = {our_output: self._write, our_errors: self._write_error}
        theirs = [their_input, their_output, their_errors]
        return await self._host.run(self._argv, theirs, variables=variables, operation=self._operation)

    def _connection_variables(self) -> dict[str, str]:
        client = self._connection.get_extra_info("peername")[:2]
        server = self._connection.get_extra_info("sockname")[:2]
        return {
            "SSH_CLIENT": f"{client[0]} {client[1]} {server[1]}",
            "SSH_CONNECTION": f"{client[0]} {client[1]} {server[0]} {server[1]}",
        }

    def _write(self, data: bytes) -> None:
        assert self._channel is not None
        self._channel.write(data)

    def _write_error(self, data: bytes) -> None:
        assert self._channel is not None
        self._channel.write_stderr(data)

    def _feed(self) -> None:
        """Give the program what the client sent, as far as it takes it."""
        if self._input is None:
            return
        while self._waiting:
            try:
                written = os.write(self._input, self._waiting[0])
            except BlockingIOError:
                break
            except OSError:
                self._close_input()
                return
            self._waiting_bytes -= written
            if written == len(self._waiting[0]):
                self._waiting.popleft()
            else:
                self._waiting[0] = self._waiting[0][written:]
        assert self._channel is not None
        if self._waiting_bytes > _ENOUGH_WAITING:
            self._channel.pause_reading()
        else:
            self._channel.resume_reading()
        if self._waiting:
            self._loop.add_writer(self._input, self._feed)
            return
        self._loop.remove_writer(self._input)
        if self._input_ended and self._program is not None and self._terminal is None:
            self._close_input()

    def _close_ends(self) -> None:
        self._close_input()
        for descriptor in list(self._outputs):
            self._close_output(descriptor)

    def _close_input(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._input is not None:
            self._loop.remove_writer(self._input)
            os.close(self._input)
            self._input = None
            assert self._channel is not None
            self._channel.resume_reading()

    def _follow_outputs(self) -> None:
        """Read what the program writes, unless the client does not take it or nothing may flow."""
        wanted = not self._full and self._flowing.is_set() and self._program is not None
        if wanted == self._reading:
            return
        self._reading = wanted
        for descriptor in self._outputs:
            if wanted:
                self._loop.add_reader(descriptor, self._pass_on, descriptor)
            else:
                self._loop.remove_reader(descriptor)

    def _pass_on(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # of a terminal: its last program has ended
        if data:
            self._outputs[descriptor](data)
        else:
            self._close_output(descriptor)

    def _close_output(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        del self._outputs[descriptor]
        os.close(descriptor)
        if not self._outputs:
            self._drained.set()


def _pipe(*, our_end: int) -> tuple[int, int]:
    ends = os.pipe()
    os.set_blocking(ends[our_end], False)
    with suppress(AttributeError, OSError):
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    return ends


def _set_size(terminal: int, size: tuple[int, int, int, int]) -> None:
    width, height, pixels_wide, pixels_high = size
    packed = struct.pack("HHHH", height, width, pixels_wide, pixels_high)
    with suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, packed)
