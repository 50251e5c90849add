"""Reaches machines through a program, as OpenSSH's ProxyCommand does: AWS's Session Manager, a jump host.

paramiko has a class for this, which may block for ever, and knows nothing of a program that ends. Here the
program's input and output are one end of a socket pair, and the other end is a `LiveSocket` as any: it has
timeouts, and notices silence.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_ec2 import threads
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.ssh.liveness import LiveSocket

ATTEMPT_S = 30.0
"""How long one attempt to connect may take at least: AWS's program alone needs seconds."""
_OPTION = "--ec2-ssh-proxy"
_TOKENS = "%h (the machine's address), %p (the port), %n (the machine's id), %r (the user), %% (a %)"
_TOKEN = re.compile(r"%(.?)", re.DOTALL)
_WANTS_ID = ("--target", "--instance-id")
"""Options of AWS's own program; its documentation has %h there, because in it the id is the host's name."""
_SHELLS = re.compile(r"\d?[|&;<>]+.*|\$\w+|\$\{.*|\$\(.*|`.*")
_MOMENT_S = 0.5
_ENDS_WITHIN_S = 2.0
_KEPT = 4096
_MAX_SHOWN = 120
_MAX_SAID = 400
_BANNER = b"SSH-"


@dataclass(frozen=True)
class ProxyCommand:
    """A program with arguments. No shell sees it: a placeholder is filled within its own argument."""

    words: tuple[str, ...]

    def filled(self, *, address: str, name: str, port: int, user: str) -> list[str]:
        """The words for one machine; `name` is its id."""
        values = {"h": address, "n": name, "p": str(port), "r": user, "%": "%"}
        return [_TOKEN.sub(lambda token: values[token[1]], word) for word in self.words]

    def require_programs(self) -> None:
        """Raise ConfigurationError if this computer lacks what it calls, before a machine waits for it."""
        program = self.words[0]
        if shutil.which(program) is None:
            raise ConfigurationError(f"{_OPTION}: there is no program {program!r} on your computer")
        needs_plugin = Path(program).name == "aws" and "ssm" in self.words
        if needs_plugin and shutil.which("session-manager-plugin") is None:
            raise ConfigurationError(
                f"{_OPTION}: `aws ssm` needs AWS's Session Manager plugin (session-manager-plugin), which "
                "was not found on your computer: install it"
            )


def proxy_command(text: str | None) -> ProxyCommand | None:
    """What an option says; `none`, as in ssh, and nothing mean no proxy. Raises ConfigurationError."""
    if not text or text.strip().lower() in ("", "none"):
        return None
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"{_OPTION} {text!r}: {error}") from error
    words = words[1:] if words[0] == "exec" else words  # as ssh's manual has it, for a shell
    if not words:
        raise ConfigurationError(f"{_OPTION} {text!r} names no program")
    _check(text, words)
    return ProxyCommand(tuple(os.path.expanduser(word) if word[:2] == "~/" else word for word in words))  # noqa: PTH111 -- some are no paths


def _check(text: str, words: list[str]) -> None:
    for word in words:
        unknown = [char for char in _TOKEN.findall(word) if char not in {*"hnpr%"}]
        if unknown:
            raise ConfigurationError(
                f"{_OPTION} {text!r}: there is no placeholder %{unknown[0]}; there are {_TOKENS}"
            )
        if _SHELLS.fullmatch(word):
            raise ConfigurationError(
                f"{_OPTION} {text!r}: no shell reads it, so {word!r} would be an argument: "
                "write sh -c '…' around it"
            )
    for option, value in zip(words, [*words[1:], ""], strict=True):
        option, _, joined = option.partition("=")
        if Path(words[0]).name == "aws" and option in _WANTS_ID and "%h" in (joined or value):
            raise ConfigurationError(
                f"{_OPTION} {text!r}: {option} wants the machine's id, which is %n here; %h is its address"
            )


def open_proxy(words: list[str], name: str, timeout_s: float) -> ProxySocket:
    """Start a proxy program that is to reach the machine `name`. Raises OSError if it cannot be started."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            program = _Program(words, theirs)
        except OSError:
            ours.close()
            raise
    live = ProxySocket(ours.family, ours.type, ours.proto, fileno=ours.detach())
    live.name, live.program = name, program
    live.settimeout(timeout_s)
    return live


class ProxySocket(LiveSocket):
    """The connection through a proxy program, which ends with it."""

    name = ""
    program: _Program | None = None
    _first: bytes | None = b""
    """What the program has printed before the server's first words; None: these have come."""
    _rest = b""
    _is_over = False

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        while self._first is not None:
            try:
                data = super().recv(bufsize, flags)
            except ConnectionError:  # it has closed it without reading what we sent
                self._is_over = True
                raise
            if not data:
                self._is_over = True
                return b""
            self._first = (self._first + data)[-_KEPT:]
            # AWS's program greets. A server may, too (RFC 4253 4.2), and paramiko gives each line 2 s.
            *lines, last = self._first.splitlines(keepends=True)
            begun = [each for each in (*lines, last) if each.startswith(_BANNER)]
            if begun:
                self._rest = self._first[self._first.index(begun[0]) :]
                self._first = None
        if self._rest:
            data, self._rest = self._rest[:bufsize], self._rest[bufsize:]
            return data
        return super().recv(bufsize, flags)

    def send(self, data: bytes, flags: int = 0, /) -> int:  # type: ignore[override]
        try:
            return super().send(data, flags)
        except ConnectionError:
            self._is_over = True
            if self._first is not None:  # it ended before we spoke, and may have said why
                with contextlib.suppress(OSError):
                    self._first += super().recv(_KEPT)
            raise

    def close(self) -> None:
        super().close()
        if self.program is not None:
            self.program.end()

    def why_not(self, why: str) -> str:
        """What has become of an attempt to connect, in one sentence; `why`: as ssh saw it."""
        assert self.program is not None
        code = self.program.exit_code()
        said = self.program.said() or _readable(self._first or b"")
        if code is not None:
            how = f"it was ended by signal {-code}" if code < 0 else f"it ended with exit status {code}"
        elif self._first is None:
            how = f"the connection through it failed: {why}"
        else:
            how = "it closed the connection" if self._is_over else "it is running, and no ssh server answered"
        said = f"it said: {said}" if said else "it said nothing"
        return f"The proxy command `{self.program.shown}` did not reach {self.name}: {how}; {said}."


class _Program:
    """A proxy program that runs, in a session of its own: Ctrl-C is for the run to act upon."""

    def __init__(self, words: list[str], end: socket.socket) -> None:
        self.shown = shlex.join(words) if len(shlex.join(words)) <= _MAX_SHOWN else f"{words[0]} …"
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            words,
            stdin=end.fileno(),
            stdout=end.fileno(),
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._said = b""
        self._lock = threading.Lock()
        self._is_ending = self._was_told = False
        reader = threads.start(self._read, "ssh proxy")
        if reader is None:
            self.kill()
            self._process.communicate()
            raise OSError(threads.NONE_LEFT)
        self._reader = reader
        _RUNNING.add(self)

    def exit_code(self) -> int | None:
        """How it ended by itself; None if it has not. Its output may end a moment before it does."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(2 * _MOMENT_S)
            return None if self._was_told else code
        return None

    def said(self) -> str:
        """The end of its standard error, in one line."""
        if self._process.poll() is not None:
            self._reader.join(1.0)  # somebody that it has left may hold the other end
        return _readable(self._said)

    def end(self) -> None:
        """End it and what it has started. Does not wait; the interpreter's end does."""
        with self._lock:
            if self._is_ending:
                return
            self._is_ending = True
        try:
            threading.Thread(target=self._wait, name="ssh proxy end").start()
        except RuntimeError:  # the interpreter is ending
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def _wait(self) -> None:
        try:
            self._process.wait(_MOMENT_S)  # its connection has ended: mostly it does so, too
        except subprocess.TimeoutExpired:
            self._was_told = True
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDS_WITHIN_S)
        self._signal(signal.SIGKILL)  # also what outlived it
        self._process.wait()
        _RUNNING.discard(self)

    def _signal(self, number: signal.Signals) -> None:
        # Its group has its number for as long as any process is in it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _read(self) -> None:
        # All the while: a program that nobody listens to would stand still.
        stream = self._process.stderr
        assert stream is not None
        with stream:
            while data := os.read(stream.fileno(), _KEPT):
                self._said = (self._said + data)[-_KEPT:]


_RUNNING: weakref.WeakSet[_Program] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for program in list(_RUNNING):
        program.kill()


def _readable(said: bytes) -> str:
    lines = [
        "".join(filter(str.isprintable, line)).strip() for line in said.decode(errors="replace").splitlines()
    ]
    return "; ".join(line for line in lines if line)[-_MAX_SAID:]
