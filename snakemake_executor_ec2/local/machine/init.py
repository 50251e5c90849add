"""Process 1 of a host: starts what the cloud asks for, reaps, and powers off.

Requests come as one JSON object a line over a Unix socket, descriptors beside them; answers go back the same
way. The socket's end is the host's end, so that no host outlives its cloud. Signals mean what they mean to
busybox's init: USR1 halt, USR2 power off, TERM reboot.

    {"id": n, "op": "run", "argv": [...], "env": {...}, "cwd": "...", "pty": false}  with 3 descriptors
        → {"id": n, "pid": p} … {"id": n, "exit": status, "signal": number}
    {"id": n, "op": "sftp"}  with 3 descriptors                     → the same
    {"id": n, "op": "signal", "run": m, "signal": number}           → {"id": n}
    {"id": n, "op": "read", "path": "..."}                          → {"id": n, "data": base64 or null}
    {"id": n, "op": "write", "path", "data", "mode", "append"}      → {"id": n, "error": text or null}
    → {"event": "up", "isolated": true}, {"event": "shutdown", "how": "poweroff"}
"""

from __future__ import annotations

import array
import base64
import fcntl
import json
import os
import pty
import selectors
import signal
import socket
import sys
import termios
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import sftp
from .processes import Family

_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_LOOK_EVERY_S = None if sys.platform == "linux" else 1.0
_SHUTDOWN = {signal.SIGUSR1: "halt", signal.SIGUSR2: "poweroff", signal.SIGTERM: "reboot"}
# What Python changes for itself and a program must find as it is by default.
_IGNORED_BY_PYTHON = [getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name)]


def main() -> None:
    """Serve on the socket whose descriptor is the first argument, until its end or a shutdown."""
    control = socket.socket(fileno=int(sys.argv[1]))
    channel = _Channel(control)
    spec, _ = channel.next_request()
    family: Family | None = None
    if spec["sandbox"] is None:
        family = Family()
        Path(spec["pid_file"]).write_text(str(os.getpid()))
    else:
        from . import sandbox

        sandbox.enter(spec["sandbox"])
    os.umask(0o022)
    _Init(channel, family).serve()


class _Channel:
    """The socket to the cloud: lines of JSON, and descriptors in the order in which the lines want them."""

    def __init__(self, control: socket.socket) -> None:
        self.socket = control
        self._buffer = b""
        self._descriptors: list[int] = []

    def next_request(self) -> tuple[dict[str, Any], list[int]]:
        """Block for one request."""
        while True:
            if (taken := self.take()) is not None:
                return taken
            self.receive()

    def receive(self) -> None:
        """Read what is there. Raises EOFError when the cloud is gone."""
        space = socket.CMSG_SPACE(16 * array.array("i").itemsize)
        data, ancillary, _, _ = self.socket.recvmsg(1 << 18, space, _CLOSE_ON_EXEC)
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
                for descriptor in received:
                    os.set_inheritable(descriptor, False)
                    self._descriptors.append(descriptor)
        if not data:
            raise EOFError
        self._buffer += data

    def take(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next request that has arrived whole, with its descriptors."""
        if b"\n" not in self._buffer:
            return None
        line, self._buffer = self._buffer.split(b"\n", 1)
        request = json.loads(line)
        count = request.get("descriptors", 0)
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return request, taken

    def send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        data = json.dumps(message).encode() + b"\n"
        if descriptors:
            sent = socket.send_fds(self.socket, [data], descriptors)
            data = data[sent:]
        self.socket.sendall(data)


class _Init:
    def __init__(self, channel: _Channel, family: Family | None) -> None:
        self._channel = channel
        self._family = family
        self._runs: dict[int, int] = {}  # process id → the request that started it
        self._pending_shutdown: str | None = None

    def serve(self) -> None:
        woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _plain_pipe()
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in _SHUTDOWN:
            signal.signal(number, self._on_shutdown)
        selector = selectors.DefaultSelector()
        selector.register(self._channel.socket, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        self._channel.send({"event": "up", "isolated": self._family is None})
        while self._pending_shutdown is None:
            for key, _ in selector.select(_LOOK_EVERY_S if self._family else None):
                if key.fileobj == woken:
                    with suppress(BlockingIOError):
                        os.read(woken, 4096)
                elif not self._serve_requests():
                    self._end()
            if self._family and _LOOK_EVERY_S:
                self._family.look()
            self._reap()
        with suppress(OSError):
            self._channel.send({"event": "shutdown", "how": self._pending_shutdown})
        self._end()

    def _on_shutdown(self, number: int, _frame: object) -> None:
        self._pending_shutdown = _SHUTDOWN[signal.Signals(number)]

    def _end(self) -> None:
        """The end of process 1; with it the kernel ends every process of the namespace."""
        if self._family:
            self._family.end()
        os._exit(0)

    def _serve_requests(self) -> bool:
        try:
            self._channel.receive()
        except (EOFError, OSError):
            return False
        while (taken := self._channel.take()) is not None:
            self._handle(*taken)
        return True

    def _handle(self, request: dict[str, Any], descriptors: list[int]) -> None:
        operation = request["op"]
        if operation in ("run", "sftp"):
            self._start(request, descriptors)
            return
        answer: dict[str, Any] = {"id": request["id"]}
        if operation == "signal":
            self._signal(request["run"], request["signal"])
        elif operation == "read":
            answer["data"] = _read_file(request["path"])
        elif operation == "write":
            answer["error"] = _write_file(request)
        self._channel.send(answer)

    def _start(self, request: dict[str, Any], descriptors: list[int]) -> None:
        terminal: list[int] = []
        if request.get("pty"):
            controller, terminal_fd = pty.openpty()
            terminal = [controller]
            descriptors = [terminal_fd]
        pid = os.fork()
        if pid == 0:
            _become(request, descriptors)
        self._runs[pid] = request["id"]
        self._channel.send({"id": request["id"], "pid": pid}, terminal)
        for descriptor in descriptors + terminal:
            os.close(descriptor)

    def _signal(self, run: int, number: int) -> None:
        for pid, request in self._runs.items():
            if request == run:
                with suppress(ProcessLookupError):
                    os.killpg(pid, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            request = self._runs.pop(pid, None)
            if request is not None:
                code = os.waitstatus_to_exitcode(status)
                ended = {"id": request, "exit": max(code, 0), "signal": max(-code, 0)}
                self._channel.send(ended)


def _plain_pipe() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """In the child: turn into what was asked for. Never returns."""
    try:
        os.setsid()
        if request.get("pty"):
            fcntl.ioctl(descriptors[0], termios.TIOCSCTTY, 0)
            descriptors = descriptors * 3
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
        for number in (*_IGNORED_BY_PYTHON, signal.SIGINT, signal.SIGCHLD, *_SHUTDOWN):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        try:
            os.chdir(request["cwd"])
        except OSError:
            os.chdir("/")
        if request["op"] == "sftp":
            _serve_files()
        os.execvpe(request["argv"][0], request["argv"], request["env"])  # noqa: S606 -- sshd's job
    except BaseException as error:  # a forked child must not fall back into the caller's loop
        os.write(2, f"{error}\n".encode())
        os._exit(127)


def _serve_files() -> None:
    if sys.platform == "linux":
        from . import linux

        linux.drop_capabilities()
    sftp.serve(0, 1)
    os._exit(0)


def _read_file(path: str) -> str | None:
    try:
        return base64.b64encode(Path(path).read_bytes()).decode()
    except OSError:
        return None


def _write_file(request: dict[str, Any]) -> str | None:
    path = Path(request["path"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if request["append"] else "wb") as file:
            file.write(base64.b64decode(request["data"]))
        if request["mode"] is not None:
            path.chmod(request["mode"])
    except OSError as error:
        return str(error)
    return None


if __name__ == "__main__":
    main()
