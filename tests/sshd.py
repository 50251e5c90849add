"""Real ssh servers on loopback, for tests: OpenSSH's own and asyncssh's, and a wire that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import queue
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import asyncssh

from snakemake_executor_ec2.model import KeyPair
from snakemake_executor_ec2.ssh.keys import new_key_pair

LOOPBACK = "127.0.0.1"

T = TypeVar("T")

_UNDER_WAY = 4096
"""How many pieces may be under way at once on a wire with a delay."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """An ssh server that lets one user in with one key. Its commands have `home` for HOME."""

    port: int
    user: str
    host_key: str
    login: KeyPair
    home: Path
    logins_tried: Callable[[], list[str]]
    """What the server has heard of attempts to log in, one entry for each."""


def find_sshd() -> str | None:
    """OpenSSH's server, which is seldom on a user's PATH."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")


@contextlib.contextmanager
def openssh(folder: Path) -> Iterator[Server]:
    """OpenSSH's sshd, as the present user, until the end of the `with`."""
    sshd = find_sshd()
    if sshd is None:
        raise FileNotFoundError("sshd is not installed")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd demands it of root, and packages make it at boot only
    host_key, login, home = new_key_pair(), new_key_pair(), folder / "home"
    home.mkdir(parents=True)
    _write_private(folder / "host_key", host_key.private)
    _write_private(folder / "authorized_keys", login.public + "\n")
    port = free_port()
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress {LOOPBACK}\nPort {port}\nHostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nPidFile none\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nLogLevel VERBOSE\n"
        f"SetEnv HOME={home}\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
    )
    log = folder / "sshd.log"

    def logins_tried() -> list[str]:
        return [line for line in log.read_text().splitlines() if "publickey" in line or "user " in line]

    process = subprocess.Popen([sshd, "-D", "-f", config, "-E", log])
    try:
        _wait_for_port(port, process)
        yield Server(
            port=port,
            user=getpass.getuser(),
            host_key=host_key.public,
            login=login,
            home=home,
            logins_tried=logins_tried,
        )
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def asyncssh_server(folder: Path, *, also: str = "") -> Iterator[Server]:
    """An asyncssh server in a thread, until the end of the `with`. `also`: lines of `authorized_keys`."""
    host_key, login, home = new_key_pair(), new_key_pair(), folder / "home"
    home.mkdir(parents=True)
    tried: list[str] = []

    class Door(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self._connection = conn

        def begin_auth(self, username: str) -> bool:
            tried.append(username)
            if also:
                self._connection.set_authorized_keys(asyncssh.import_authorized_keys(also))
            return True

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, _username: str, key: asyncssh.SSHKey) -> bool:
            return key.export_public_key("openssh").decode().split()[:2] == login.public.split()[:2]

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        await _run_command(process, home)

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            LOOPBACK,
            0,
            server_host_keys=[asyncssh.import_private_key(host_key.private)],
            server_factory=Door,
            process_factory=serve,
            encoding=None,
        )

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="asyncssh server", daemon=True)
    thread.start()

    def call(coroutine: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

    server = call(listen())
    try:
        yield Server(
            port=server.get_port(),
            user="somebody",
            host_key=host_key.public,
            login=login,
            home=home,
            logins_tried=lambda: list(tried),
        )
    finally:
        call(_stop(server))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _run_command(process: asyncssh.SSHServerProcess[bytes], home: Path) -> None:
    command = await asyncio.create_subprocess_exec(
        "/bin/bash",
        "-c",
        process.command or "",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": str(home)},
    )
    try:
        await _serve_command(process, command)
    finally:
        # There is no other way to close its streams, which what it has started may hold open.
        command._transport.close()  # type: ignore[attr-defined]


async def _serve_command(
    process: asyncssh.SSHServerProcess[bytes], command: asyncio.subprocess.Process
) -> None:
    assert command.stdin
    assert command.stdout
    assert command.stderr
    streams = [
        asyncio.create_task(_pump(process.stdin, command.stdin)),
        asyncio.create_task(_pump(command.stdout, process.stdout)),
        asyncio.create_task(_pump(command.stderr, process.stderr)),
    ]
    ended = asyncio.create_task(_wait_for_end(command, streams[1:]))
    closed = asyncio.create_task(process.wait_closed())
    await asyncio.wait([ended, closed], return_when=asyncio.FIRST_COMPLETED)
    if ended.done() and not closed.done():
        code = ended.result()
        if code < 0:
            process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
        else:
            process.exit(code)
    with contextlib.suppress(ProcessLookupError):
        command.terminate()  # the client left; sshd would close its streams instead
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(command.wait(), 5)
    for task in [*streams, ended]:
        task.cancel()
    await asyncio.gather(*streams, ended, closed, return_exceptions=True)


async def _wait_for_end(command: asyncio.subprocess.Process, streams: list[asyncio.Task[None]]) -> int:
    await asyncio.gather(*streams)
    return await command.wait()


async def _pump(
    source: asyncio.StreamReader | asyncssh.SSHReader[bytes],
    sink: asyncio.StreamWriter | asyncssh.SSHWriter[bytes],
) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    if isinstance(sink, asyncio.StreamWriter):
        sink.close()


async def _stop(server: asyncssh.SSHAcceptor) -> None:
    server.close()
    await server.wait_closed()
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    _done, waiting = await asyncio.wait(tasks, timeout=20) if tasks else (set(), set())
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.sleep(0.1)  # what was closed is gone in the next round


class Wire:
    """A TCP proxy in front of a server: what goes over it can be cut, or silently go nowhere. It delivers at
    once, or after `delay_s`, and no more than `bytes_per_s` in each direction."""

    def __init__(self, port: int, *, delay_s: float = 0.0, bytes_per_s: float = 0.0) -> None:
        self._target = port
        self._delay_s = delay_s
        self._bytes_per_s = bytes_per_s
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.carried = 0
        """Bytes that it has passed on, in both directions together."""
        self._flows = threading.Event()
        self._flows.set()
        self._threads = [threading.Thread(target=self._accept, name="wire", daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._flows.set()
        _shut(self._listener)
        self._listener.close()
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """Break every connection that there is; new ones are possible."""
        self._flows.set()
        for pair in self._pairs:
            for end in pair:
                _shut(end)
        self._pairs.clear()

    def freeze(self) -> None:
        """From now on nothing arrives, and nobody is told."""
        self._flows.clear()

    def thaw(self) -> None:
        """Deliver again, what was held back first."""
        self._flows.set()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
                there = socket.create_connection((LOOPBACK, self._target))
            except OSError:
                return
            self._pairs.append((here, there))
            for source, sink in ((here, there), (there, here)):
                thread = threading.Thread(target=self._carry, args=(source, sink), name="wire", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        under_way: queue.Queue[tuple[float, bytes]] = queue.Queue(_UNDER_WAY if self._delay_s else 1)
        thread = threading.Thread(
            target=self._deliver, args=(under_way, source, sink), name="wire", daemon=True
        )
        thread.start()
        free = 0.0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                now = time.monotonic()
                if self._bytes_per_s:
                    free = max(free, now) + len(data) / self._bytes_per_s
                    time.sleep(max(0.0, free - now))
                under_way.put((time.monotonic() + self._delay_s, data))
        under_way.put((0.0, b""))
        thread.join()
        source.close()

    def _deliver(
        self, under_way: queue.Queue[tuple[float, bytes]], source: socket.socket, sink: socket.socket
    ) -> None:
        due, data = under_way.get()
        while data:
            time.sleep(max(0.0, due - time.monotonic()))
            self._flows.wait()
            try:
                sink.sendall(data)
                self.carried += len(data)
            except OSError:
                _shut(source)
            due, data = under_way.get()
        _shut(sink)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    """A port of loopback that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
            return
        time.sleep(0.02)
    raise TimeoutError("sshd did not begin to listen")
