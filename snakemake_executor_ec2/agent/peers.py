"""Files from machine to machine: `serve` gives them away, `fetch` gets them over ssh.

`fetch` is called by the controller, before a job starts; its key is good for one `serve` of one other machine
(see `machines/peers.py`) and is nowhere but in memory. What comes is compared with the controller's checksum
before it is in the cache: the one that serves may be hostile.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import select
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from typing import IO, Any, BinaryIO

from . import cache
from .descriptors import in_memory, path_of
from .state import AgentError, home, read_request, say, try_lock

BEGIN = b"\n--- files of a peer ---\n"
"""What a login shell prints comes before it."""
HERE, MISSING = b"+", b"-"
_CHUNK = 1 << 20
_NOISE = 1 << 16
_NICE = 10
_WINDOW_S, _LEAST = 30.0, 30 << 20
"""A peer is given up that sends less than so many bytes while it is waited for so many seconds."""
_SSH_OPTIONS = (
    *("BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none", "PreferredAuthentications=publickey"),
    *("StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null", "HostKeyAlias=peer", "CheckHostIP=no"),
    *("HostKeyAlgorithms=ssh-ed25519", "UpdateHostKeys=no", "ControlMaster=no", "ControlPath=none"),
    *("ClearAllForwardings=yes", "ForwardAgent=no", "PermitLocalCommand=no", "ProxyCommand=none"),
    *("ConnectTimeout=10", "ConnectionAttempts=1", "Compression=no", "LogLevel=ERROR"),
    *("ServerAliveInterval=10", "ServerAliveCountMax=3"),
)


class _Broken(Exception):
    """The peer cannot be reached, or sends no (more) files."""


def serve(told: str) -> int:
    """`serve FILES`: files of this machine one after the other on standard output, those that are there.

    FILES is JSON in base64, [[name in the cache, path in a job's tree, size], …]. Each is preceded by one
    byte that says whether it follows.
    """
    os.nice(_NICE)  # the job comes first
    files = json.loads(base64.urlsafe_b64decode(told))
    with open(1, "wb", buffering=0, closefd=False) as out:
        _write(out, BEGIN)
        for name, path, size in files:
            file = _open(str(name), str(path), int(size))
            _write(out, HERE if file else MISSING)
            if file:
                with file:
                    _send(file, out, int(size))
    return 0


def _open(name: str, path: str, size: int) -> BinaryIO | None:
    # While it is looked for, it may be moved from the one place to the other.
    for each in (path, cache.place(name), path):
        with contextlib.suppress(OSError):
            file = open(each, "rb", buffering=0, opener=_no_link)  # noqa: SIM115 - the caller closes it
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size == size:
                return file
            file.close()
    return None


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _send(file: BinaryIO, out: BinaryIO, size: int) -> None:
    while size:
        data = file.read(min(_CHUNK, size))
        if not data:
            raise AgentError("a file has become shorter while it was read")
        _write(out, data)
        size -= len(data)


def _write(out: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]


# --- the other side -------------------------------------------------------------------------


def fetch() -> int:
    """`fetch`: {"address", "port", "user", "host_keys", "key", "certificate", "files": [[name, size, sum]…]}
    -> {"there": [name, …], "missing": […], "wrong": […], "why", "reached"}

    Puts files of a peer into the cache, in the order in which it serves them. `missing` are those that it has
    not, `wrong` those that it has with other content. `why` is why it could not be asked for all, `reached`
    whether it has answered at all.
    """
    request = read_request()
    answer: dict[str, Any] = {"there": [], "missing": [], "wrong": [], "why": "", "reached": False}
    with _alone():
        if request["files"]:
            try:
                _fetch(request, answer)
            except (_Broken, OSError) as error:
                answer["why"] = str(error)
    say(answer)
    return 0


def _fetch(request: dict[str, Any], answer: dict[str, Any]) -> None:
    os.makedirs(cache.folder(), mode=0o700, exist_ok=True)
    files = [(str(name), int(size), str(sha256)) for name, size, sha256 in request["files"]]
    if cache.free_mib() << 20 < sum(size for _, size, _ in files):
        cache.forget()
    with (
        _in_memory(request) as (key, certificate, known_hosts),
        _ssh(request, key, certificate, known_hosts) as stream,
    ):
        stream.skip_to(BEGIN)
        answer["reached"] = True
        for name, size, sha256 in files:
            begin = stream.read(1)
            if begin == MISSING:
                answer["missing"].append(name)
            elif begin == HERE:
                answer["there" if _receive(stream, name, size, sha256) else "wrong"].append(name)
            else:
                raise _Broken("the peer does not send what was asked for")


def _receive(stream: _Stream, name: str, size: int, sha256: str) -> bool:
    """One file; whether it is what the controller has."""
    path = cache.place(name)
    part, digest = f"{path}.part", hashlib.sha256()
    try:
        with open(part, "wb", buffering=0) as file:
            while size:
                data = stream.read_some(size)
                digest.update(data)
                _write(file, data)
                size -= len(data)
        if digest.hexdigest() == sha256:
            os.rename(part, path)
            return True
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


class _Stream:
    """What the peer sends, as long as it comes fast enough."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._waited, self._got = 0.0, 0
        """Seconds and bytes of this window: that this machine writes slowly is not the peer's fault."""
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)
        self._poll.register(1, 0)  # only whether its reader is gone

    def read_some(self, most: int) -> bytes:
        """At least one byte."""
        left = _WINDOW_S - self._waited
        if left <= 0 and self._got >= _LEAST:
            self._waited, self._got, left = 0.0, 0, _WINDOW_S
        began = time.monotonic()
        ready = dict(self._poll.poll(left * 1000)) if left > 0 else {}
        self._waited += time.monotonic() - began
        if 1 in ready:
            raise _Broken("nobody hears the answer any more")
        if not ready:
            raise _Broken("the peer is too slow")
        data = os.read(self._pipe, min(most, _CHUNK))
        if not data:
            raise _Broken("the connection to the peer has ended")
        self._got += len(data)
        return data

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.read_some(size - len(data))
        return data

    def skip_to(self, mark: bytes) -> None:
        seen = b""
        while not seen.endswith(mark):
            if len(seen) > _NOISE:
                raise _Broken("the peer does not answer as an agent does")
            seen += self.read(1)


@contextlib.contextmanager
def _ssh(request: dict[str, Any], key: str, certificate: str, known_hosts: str) -> Iterator[_Stream]:
    program = shutil.which("ssh")
    if program is None:
        raise _Broken("the machine's image has no ssh client")
    options = [f"IdentityFile={key}", f"CertificateFile={certificate}", f"UserKnownHostsFile={known_hosts}"]
    # The system's own configuration and nobody else's: it may say which algorithms are allowed.
    command = [program, "-F", _configuration(), "-T", "-p", str(int(request["port"]))]
    command += [word for option in (*_SSH_OPTIONS, *options) for word in ("-o", option)]
    command += ["-l", str(request["user"]), "--", str(request["address"]), "serve"]
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    assert child.stdout is not None
    assert child.stderr is not None
    with child.stdout, child.stderr:
        try:
            yield _Stream(child.stdout.fileno())
        except _Broken as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1)
            raise _Broken(_last_line(child.stderr) or str(error)) from error
        finally:
            child.kill()
            child.wait()


def _configuration() -> str:
    path = "/etc/ssh/ssh_config"
    return path if os.path.isfile(path) else "/dev/null"


def _last_line(errors: IO[bytes]) -> str:
    """Of what a pipe holds: a peer that says more has to wait, and is too slow then."""
    os.set_blocking(errors.fileno(), False)
    lines = (errors.read(_NOISE) or b"").decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


@contextlib.contextmanager
def _in_memory(request: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Paths of the key, its certificate and the peer's host keys: files without a name, which end with this
    process."""
    known_hosts = "".join(f"peer {key}\n" for key in request["host_keys"])
    texts = (str(request["key"]), f"{request['certificate']}\n", known_hosts)
    files: list[int] = []
    try:
        for text in texts:
            try:
                files.append(in_memory(text))
            except (AttributeError, OSError) as error:
                raise _Broken("the machine has no files in memory") from error
        key, certificate, known = map(path_of, files)
        yield key, certificate, known
    finally:
        for file in files:
            os.close(file)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """End an earlier `fetch`, whose controller has lost it, and what that has left."""
    path = os.path.join(home(), "fetch.lock")
    note = os.path.join(home(), "fetch.pid")
    deadline = time.monotonic() + 10
    while (lock := try_lock(path)) is None:
        with contextlib.suppress(OSError, ValueError), open(note, encoding="ascii") as file:
            os.killpg(int(file.read()), signal.SIGKILL)
        if time.monotonic() > deadline:
            raise AgentError("an earlier fetch does not end")
        time.sleep(0.05)
    with lock:
        _remove_parts()
        with contextlib.suppress(PermissionError):  # it leads a session, and so a group, already
            os.setpgid(0, 0)  # with its ssh
        with open(note, "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
        try:
            yield
        finally:
            _remove_parts()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(note)


def _remove_parts() -> None:
    with contextlib.suppress(FileNotFoundError):
        for each in list(os.scandir(cache.folder())):
            if each.name.endswith(".part"):
                os.unlink(each.path)
