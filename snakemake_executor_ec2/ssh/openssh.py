"""OpenSSH's own client as the carrier of much data: each command has a connection of its own.

It encrypts three times as fast as paramiko does, in another process. A machine of the same network, as a
controller has that is away (see docs/away.md), takes and sends more than paramiko can. It is never needed:
where there is no `ssh`, or it does not get through, paramiko's connection has to do.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from snakemake_executor_ec2.agent.descriptors import in_memory, path_of, widen
from snakemake_executor_ec2.errors import ConnectionLost
from snakemake_executor_ec2.model import KeyPair
from snakemake_executor_ec2.ports import Completed
from snakemake_executor_ec2.ssh.streams import begin_thread, keep_end, send_all

_OPTIONS = (
    "BatchMode=yes",
    # AES-GCM first, as over paramiko: OpenSSH prefers ChaCha20, which takes half as long again.
    "Ciphers=aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes128-ctr",
    "ClearAllForwardings=yes",
    "Compression=no",
    "ConnectTimeout=10",
    "ControlPath=none",
    "GlobalKnownHostsFile=/dev/null",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "LogLevel=ERROR",
    "PreferredAuthentications=publickey",
    "RequestTTY=no",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
)
_ALIAS = "machine"
"""What the machine is called for its host keys: its address may have been another one's."""
_BEGINS_WITHIN_S = 20.0
_NOISE = 64 << 10
"""Bytes that a login shell's startup files may print."""
_MOST_AT_ONCE = 8
_PIECE = 1 << 20
_FAILED = 255
"""ssh's own exit status. A command's own, 255, and one that a signal ended look the same."""
_WORDS = 400
_budget = threading.BoundedSemaphore(_MOST_AT_ONCE)


class Unusable(Exception):
    """OpenSSH's client did not begin the command."""


class OpensshClient:
    """Runs commands on one machine. Threads may run several at once; `close` ends them all."""

    def __init__(self, address: str, port: int, user: str, key: KeyPair, silence_s: float) -> None:
        """`key` logs in; `silence_s`: how long a connection may be without any sign of life."""
        self._address, self._port, self._user, self._key = address, port, user, key
        self._silence_s = silence_s
        self._lock = threading.Lock()
        self._running: set[Program] = set()
        self._is_closed = False
        self.host_keys: tuple[str, ...] = ()
        """Those that the machine may present."""

    def execute(self, command: str, lost: Callable[[str], ConnectionLost]) -> Program:
        """Begin a command; `lost` says that its connection broke. Raises Unusable."""
        ssh = shutil.which("ssh")
        if ssh is None:
            raise Unusable("there is no program ssh")
        token = secrets.token_hex(16)
        try:
            with _private_files(self._key.private, self._known()) as (key, known_hosts):
                words = [ssh, *self._words(key, known_hosts), f"echo {token}; {command}"]
                program = self._begun(words, lost)
                try:
                    program.await_begin(token)
                except BaseException:
                    program.__exit__()
                    raise
        except OSError as error:
            raise Unusable(str(error)) from error
        return program

    def _begun(self, words: list[str], lost: Callable[[str], ConnectionLost]) -> Program:
        with self._lock:
            if self._is_closed:
                raise Unusable("the connection was closed")
            if not _budget.acquire(blocking=False):
                raise Unusable("enough of them run already")
            try:
                program = Program(words, lost, self._ended)
            except BaseException:
                _budget.release()
                raise
            self._running.add(program)
            return program

    def _ended(self, program: Program) -> None:
        _budget.release()
        with self._lock:
            self._running.discard(program)

    def close(self) -> None:
        """End what runs, and begin nothing more."""
        with self._lock:
            self._is_closed = True
            running = list(self._running)
        for each in running:
            each.kill()

    def _known(self) -> str:
        return "".join(f"{_ALIAS} {' '.join(key.split()[:2])}\n" for key in self.host_keys)

    def _words(self, key: str, known_hosts: str) -> list[str]:
        interval_s = max(1, int(self._silence_s / 4))
        options = (
            *_OPTIONS,
            f"HostKeyAlias={_ALIAS}",
            f"IdentityFile={key}",
            f"ServerAliveInterval={interval_s}",
            f"ServerAliveCountMax={max(1, int(self._silence_s / interval_s) - 1)}",
            f"UserKnownHostsFile={known_hosts}",
        )
        words = [word for option in options for word in ("-o", option)]
        return ["-F", os.devnull, *words, "-l", self._user, "-p", str(self._port), "--", self._address]


class Program:
    """A command that ssh runs, with its streams: as `host._Execution` is one of paramiko's."""

    def __init__(
        self, words: list[str], lost: Callable[[str], ConnectionLost], ended: Callable[[Program], None]
    ) -> None:
        """Raises OSError if it cannot be started."""
        self._lost, self._ended = lost, ended
        # In a session of its own: Ctrl-C is for the run to act upon.
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self._stdin, self._stdout = self._process.stdin.fileno(), self._process.stdout.fileno()
        for pipe in (self._stdin, self._stdout):
            widen(pipe)
        self._output, self._errors = bytearray(), bytearray()
        self._threads: list[threading.Thread] = []
        self._is_over = False

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_over:
            return
        self._is_over = True
        self.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._ended(self)

    def kill(self) -> None:
        """End it at once, and what it runs: an `ssh` may be a script. From any thread."""
        if self._process.returncode is None:  # else its number may be another's
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def await_begin(self, token: str) -> None:
        """Wait until the command is about to begin: it prints the token. Raises Unusable."""
        self._keep(self._process.stderr, self._errors)
        deadline = time.monotonic() + _BEGINS_WITHIN_S
        seen, awaited = b"", f"{token}\n".encode()
        while not seen.endswith(awaited):
            if not self._is_readable(max(0.0, deadline - time.monotonic())):
                raise Unusable("ssh did not reach the machine in time")
            more = os.read(self._stdout, 1)  # what follows is the command's
            seen += more
            if not more or len(seen) > _NOISE:
                self.kill()
                self._process.wait()
                raise Unusable(self._last_words() or "ssh ended before the command began")

    # --- standard input -------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Send all of it, and the end of it; at the side, for the command may not read it yet."""

        def send() -> None:
            with contextlib.suppress(OSError):
                send_all(self, data)
            self.end_stdin()

        self._threads.append(begin_thread(send, "ssh program"))

    def send(self, data: memoryview) -> int:
        """Send some of it. Raises BrokenPipeError if the command has ended, or the connection."""
        return os.write(self._stdin, data)

    def end_stdin(self) -> None:
        """No more will come."""
        assert self._process.stdin
        self._process.stdin.close()

    # --- standard output and error --------------------------------------------------------

    def stdout(self) -> io.RawIOBase:
        """Its standard output, as a stream."""
        return io.FileIO(self._stdout, closefd=False)

    def drain_stdout(self) -> None:
        """Keep the end of the standard output while something else goes on."""
        self._keep(self._process.stdout, self._output)

    def has_ended(self) -> bool:
        """Whether the command has closed its standard output, and all of it was read."""
        return self._is_readable(0.0) and not os.read(self._stdout, 1)

    def completed(self) -> Completed:
        """Wait for the end. Raises ConnectionLost if it cannot be known."""
        code = self._process.wait()
        for thread in self._threads:
            thread.join()
        if code == _FAILED or code < 0:
            raise self._lost(self._last_words() or "OpenSSH's client ended")
        return Completed(exit_code=code, stdout=bytes(self._output), stderr=bytes(self._errors))

    def _is_readable(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def _keep(self, stream: IO[bytes] | None, kept: bytearray) -> None:
        assert stream is not None

        def read() -> None:
            with contextlib.suppress(OSError):
                while data := stream.read(_PIECE):
                    keep_end(kept, data)

        self._threads.append(begin_thread(read, "ssh program"))

    def _last_words(self) -> str:
        said = self._errors.decode(errors="replace").strip().splitlines()
        return "".join(filter(str.isprintable, said[-1]))[-_WORDS:] if said else ""


@contextlib.contextmanager
def _private_files(*texts: str) -> Iterator[list[str]]:
    """Paths of files with these texts that only this user can read; they end with the block. Where there are
    files in memory, that have no name, not even a crash leaves one behind."""
    with contextlib.ExitStack() as stack:
        if hasattr(os, "memfd_create"):
            files = []
            for text in texts:
                files.append(in_memory(text))
                stack.callback(os.close, files[-1])
            yield [*map(path_of, files)]
        else:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="snakemake-ec2-")))  # 0700
            paths = [folder / str(number) for number in range(len(texts))]
            for path, text in zip(paths, texts, strict=True):
                path.touch(0o600)
                path.write_text(text)
            yield [*map(str, paths)]
