"""The cloud's side of one host: starts its process 1 and asks it for what the host is to do."""

from __future__ import annotations

import array
import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .image import ROOT_PATH, SYSTEM_DIRECTORIES, USER, USER_PATH, Image, write_etc, write_programs
from .machine.sandbox import SandboxSpec
from .memory import MemoryLimit

_PACKAGE_ROOT = str(Path(__file__).parents[2])
_START = "import sys; sys.path.insert(0, {root!r}); from {package}.machine.init import main; main()"
_UP_WITHIN_S = 30.0


class HostError(Exception):
    """The host could not be started, or is gone."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a program of a host ended: by its own exit, or (then not 0) by a signal."""

    exit_status: int
    signal: int


class Program:
    """A program that runs in a host."""

    def __init__(self, host: Host, run_id: int) -> None:
        self._host = host
        self._run_id = run_id
        self.pid = 0
        self.terminal_fd: int | None = None
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    async def send_signal(self, number: int) -> None:
        await self._host.request({"op": "signal", "run": self._run_id, "signal": number})


class Host:
    """One host. All methods belong to the cloud's event loop."""

    def __init__(
        self,
        directory: Path,
        *,
        hostname: str,
        image: Image,
        isolated: bool,
        root_bytes: int | None,
        home: Path | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        """`home`: the user's home directory, where it is not on the host's own disk."""
        self.directory = directory
        self.hostname = hostname
        self.extra_variables: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.on_shutdown: Callable[[str], None] = lambda _how: None
        """Called once when the host powers off or reboots from inside."""
        self.on_gone: Callable[[], None] = lambda: None
        """Called once when process 1 is no more, for whatever reason."""
        self.log = directory / "init.log"
        """What process 1 has to say."""
        self._image = image
        self._isolated = isolated
        self._root_bytes = root_bytes
        self._home = home if isolated else None
        self._memory_bytes = memory_bytes
        self._memory: MemoryLimit | None = None
        self._socket: socket.socket | None = None
        self._received = b""
        self._terminals: list[int] = []
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._programs: dict[int, Program] = {}
        self._next_id = 0
        self._up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Return when process 1 takes requests. Raises HostError."""
        self._lay_out()
        if self._memory_bytes is not None:
            self._memory = MemoryLimit(self.hostname.split(".")[0], self._memory_bytes)
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        program = _START.format(root=_PACKAGE_ROOT, package=__package__)
        with theirs, self.log.open("ab") as log_file:
            self.process = subprocess.Popen(
                [sys.executable, "-IS", "-c", program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                env={"PATH": USER_PATH, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        if self._memory is not None:
            self._memory.hold(self.process.pid)
        ours.setblocking(False)
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours, self._receive)
        self._send({"sandbox": self._sandbox(), "pid_file": str(self.directory / "root/run/init.pid")})
        try:
            await asyncio.wait_for(asyncio.shield(self._up), _UP_WITHIN_S)
        except (TimeoutError, HostError) as error:
            self.kill()
            raise HostError(f"host {self.hostname} did not start: {self.log.read_text()[-2000:]}") from error

    def kill(self) -> None:
        """End process 1, and with it every process of the host, now."""
        if self._socket is not None:
            # Its end ends process 1; the signal is for one that does not look.
            self._lose_socket()
        if self.process is not None and self._isolated:
            self.process.kill()

    async def gone(self) -> None:
        """Return when no process of the host is left."""
        while self.process is not None and self.process.poll() is None:
            await asyncio.sleep(0.005)
        memory, self._memory = self._memory, None
        if memory is not None:
            await asyncio.get_running_loop().run_in_executor(None, memory.remove)

    async def run(
        self,
        argv: list[str],
        descriptors: list[int],
        *,
        root: bool = False,
        variables: dict[str, str] | None = None,
        terminal: bool = False,
        operation: str = "run",
    ) -> Program:
        """Start a program as the user (or as root would) in its home; takes the descriptors over."""
        run_id = self._new_id()
        program = Program(self, run_id)
        self._programs[run_id] = program
        environment = self.environment(root=root) | (variables or {})
        answer = await self._ask(
            run_id,
            {
                "op": operation,
                "argv": argv,
                "env": environment,
                "cwd": environment["HOME"],
                "pty": terminal,
            },
            descriptors,
        )
        program.pid = answer["pid"]
        program.terminal_fd = answer.get("terminal")
        return program

    async def read(self, path: str) -> bytes | None:
        """A file of the host, or None if it can't be read."""
        answer = await self.request({"op": "read", "path": self.path(path)})
        return None if answer["data"] is None else base64.b64decode(answer["data"])

    async def write(
        self, path: str, data: bytes, *, mode: int | None = None, append: bool = False
    ) -> str | None:
        """Write a file of the host; what went wrong, if something did."""
        encoded = base64.b64encode(data).decode()
        request = {"op": "write", "path": self.path(path), "data": encoded, "mode": mode, "append": append}
        error: str | None = (await self.request(request))["error"]
        return error

    async def request(self, message: dict[str, Any]) -> dict[str, Any]:
        """Ask process 1 for something and wait for its answer. Raises HostError when the host is gone."""
        return await self._ask(self._new_id(), message, [])

    def path(self, path: str) -> str:
        """Where a path of the host is for its process 1."""
        return path if self._isolated else f"{self.directory}/root{path}"

    def environment(self, *, root: bool) -> dict[str, str]:
        """The variables that a program gets; no other of this computer's."""
        user = "root" if root else USER
        home = self.path("/root" if root else f"/home/{USER}")
        path = ROOT_PATH if root else USER_PATH
        if not self._isolated:
            path = f"{self.directory}/root/usr/local/bin:{path}"
        base = {"HOME": home, "USER": user, "LOGNAME": user, "SHELL": "/bin/bash", "LANG": "C.UTF-8"}
        return base | {"PATH": path} | self._image.variables | self.extra_variables

    def _lay_out(self) -> None:
        root = self.directory / "root"
        root.mkdir(parents=True, exist_ok=True)
        (self.directory / "empty").mkdir(exist_ok=True)
        if self._isolated:
            etc = self.directory / "layers/etc/upper"
            etc.mkdir(parents=True, exist_ok=True)
            address = self.hostname.removeprefix("ip-").split(".")[0].replace("-", ".")
            known = Path("/etc/hosts").read_text() if Path("/etc/hosts").is_file() else ""
            (etc / "hosts").write_text(f"{known}\n{address} {self.hostname} {self.hostname.split('.')[0]}\n")
            (etc / "hostname").write_text(f"{self.hostname}\n")
            write_etc(etc, self._image.variables | self.extra_variables)
            # All hosts are on one network of this computer's. So ssh comes from its own address to others.
            (etc / "ssh").mkdir(exist_ok=True)
            (etc / "ssh" / "ssh_config").write_text(f"Host 127.*\n    BindAddress {address}\n")
            if self._home:
                self._home.mkdir(exist_ok=True, mode=0o700)
            return
        for name in (f"home/{USER}", "root", "tmp", "run", "etc", "var/log"):
            (root / name).mkdir(parents=True, exist_ok=True)
        write_etc(root / "etc", self._image.variables | self.extra_variables)
        write_programs(root / "usr/local/bin", root / "etc/ec2-root", host_dir=str(root))

    def _sandbox(self) -> SandboxSpec | None:
        if not self._isolated:
            return None
        home = [(str(self._home), f"/home/{USER}")] if self._home else []
        return SandboxSpec(
            root_dir=str(self.directory / "root"),
            scratch_dir=str(self.directory),
            image_dir=str(self._image.directory),
            hostname=self.hostname,
            system_directories=SYSTEM_DIRECTORIES,
            masked=self._image.masked,
            read_only=self._image.read_only,
            read_write=[*home, *self._image.read_write],
            root_bytes=self._root_bytes,
        )

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    async def _ask(self, request_id: int, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        try:
            self._send({"id": request_id, **message, "descriptors": len(descriptors)}, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return await answer

    def _send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        if self._socket is None:
            raise HostError(f"host {self.hostname} is gone")
        data = json.dumps(message).encode() + b"\n"
        try:
            self._socket.setblocking(True)
            sent = socket.send_fds(self._socket, [data], descriptors) if descriptors else 0
            self._socket.sendall(data[sent:])
            self._socket.setblocking(False)
        except OSError as error:
            self._lose_socket()
            raise HostError(f"host {self.hostname} is gone") from error

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            data, ancillary, _, _ = self._socket.recvmsg(1 << 18, socket.CMSG_SPACE(64))
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for _, _, payload in ancillary:
            received = array.array("i")
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
            self._terminals.extend(received)
        if not data:
            self._lose_socket()
            return
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("event") == "up":
            self._up.set_result(None)
        elif message.get("event") == "shutdown":
            self.on_shutdown(message["how"])
        elif "exit" in message:
            program = self._programs.pop(message["id"])
            program.ended.set_result(Ended(exit_status=message["exit"], signal=message["signal"]))
        elif answer := self._answers.pop(message["id"], None):
            program_asked = self._programs.get(message["id"])
            if program_asked is not None and self._terminals and "pid" in message:
                message["terminal"] = self._terminals.pop(0)
            if not answer.done():
                answer.set_result(message)

    def _lose_socket(self) -> None:
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        error = HostError(f"host {self.hostname} is gone")
        waiting: list[asyncio.Future[Any]] = [self._up, *self._answers.values()]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # seen: nobody needs to wait for it
        self._answers.clear()
        for program in self._programs.values():
            if not program.ended.done():
                program.ended.set_result(Ended(exit_status=0, signal=signal.SIGKILL))
        self._programs.clear()
        self.on_gone()


async def run_to_end(host: Host, argv: list[str], *, data: bytes = b"") -> tuple[int, bytes]:
    """Run a program as root and wait: (exit status as a shell would say it, what it wrote)."""
    # Files, not pipes: a program may leave others behind that hold its output open for as long as they live.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as written:
        given.write(data)
        given.seek(0)
        output_fd = os.dup(written.fileno())
        program = await host.run(argv, [os.dup(given.fileno()), output_fd, os.dup(output_fd)], root=True)
        status = await program.ended
        written.seek(0)
        output = written.read()
    return (128 + status.signal if status.signal else status.exit_status), output
