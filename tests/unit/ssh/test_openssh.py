"""OpenSSH's client as the carrier of much data, and what happens where it is of no use."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from snakemake_executor_ec2.errors import ConnectionLost
from snakemake_executor_ec2.ssh import host as host_module
from snakemake_executor_ec2.ssh import openssh as module
from snakemake_executor_ec2.ssh.connector import SshConnector
from snakemake_executor_ec2.ssh.host import SshHost
from snakemake_executor_ec2.ssh.keys import new_key_pair
from tests.contract.rigs import server
from tests.sshd import LOOPBACK, Server

__all__ = ["server"]

_MUCH = os.urandom(1 << 20) * 5


@pytest.fixture
def host(server: Server) -> SshHost:
    connector = SshConnector(user=server.user, login_keys=[server.login], port=server.port)
    host = connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=10)
    assert host.run("echo well").exit_code == 0
    return host


def _there_and_back(host: SshHost) -> None:
    def write(stream: BinaryIO) -> None:
        stream.write(_MUCH)

    done = host.upload('cat > "$HOME/much"; echo said; echo so >&2; exit 3', write, bulk=True)
    assert (done.exit_code, done.stdout, done.stderr) == (3, b"said\n", b"so\n")
    back = host.download('cat - "$HOME/much"', lambda stream: stream.read(), stdin=b"first", bulk=True)
    assert back == b"first" + _MUCH


def _program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def _logins(server: Server) -> int:
    return sum("Close" not in line for line in server.logins_tried())


def _clients() -> list[str]:
    """The command lines of this process's children that are, or play, ssh."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = status.read_text().rpartition(")")[2].split()[1]
            words = (status.parent / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == str(os.getpid()) and words[0].endswith(b"ssh"):
            found.append(b" ".join(words).decode())
    return found


def test_much_goes_over_a_connection_of_its_own(host: SshHost, server: Server) -> None:
    """Both ways, each with a login; exit code and both streams are the command's."""
    before = _logins(server)
    _there_and_back(host)
    assert _logins(server) > before
    assert not _clients()
    host.close()


def test_without_files_in_memory_it_has_private_ones(
    host: SshHost, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS; nothing of them is left."""
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    before = _logins(server)
    _there_and_back(host)
    assert _logins(server) > before
    assert not list((tmp_path / "temporary").iterdir())
    host.close()


@pytest.mark.parametrize("what", ["another host key", "no ssh", "an ssh that fails", "enough of them"])
def test_where_it_is_of_no_use_the_connection_has_to_do(
    host: SshHost, server: Server, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody notices, and it is not tried again."""
    if what == "another host key":
        host.pin([new_key_pair().public])
    elif what == "enough of them":
        monkeypatch.setattr(module, "_budget", threading.BoundedSemaphore(1))
        module._budget.acquire()
    else:
        fails = _program(tmp_path / "ssh", "echo 'unknown option' >&2; exit 255")
        monkeypatch.setattr(shutil, "which", lambda _: None if what == "no ssh" else fails)
    before = _logins(server)
    _there_and_back(host)
    assert _logins(server) == before
    assert host.bulk_bytes == 0
    host.close()


@pytest.mark.parametrize(
    "says", ["exec sleep 60", "while :; do echo noise; done"], ids=["nothing", "too much"]
)
def test_an_ssh_that_does_not_begin_is_ended(
    host: SshHost, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hangs, or talks of something else, costs its time and no more."""
    monkeypatch.setattr(module, "_BEGINS_WITHIN_S", 0.5)
    program = _program(tmp_path / "ssh", says)
    monkeypatch.setattr(shutil, "which", lambda _: program)
    began = time.monotonic()
    _there_and_back(host)
    assert time.monotonic() - began < 10
    assert not _clients()
    host.close()


def test_a_renewed_host_key_is_pinned_for_it_too(host: SshHost, server: Server) -> None:
    """Once the machine shows only the new one, the old one would keep it from being used."""
    host.pin([new_key_pair().public, server.host_key])
    before = _logins(server)
    _there_and_back(host)
    assert _logins(server) > before
    host.close()


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_what_ends_it_is_a_lost_connection(host: SshHost, how: str) -> None:
    """In the midst of a transfer, in either direction; nothing is left of it."""

    flows = threading.Event()

    def write(stream: BinaryIO) -> None:
        flows.set()
        while True:
            stream.write(bytes(1 << 20))

    def read(stream: BinaryIO) -> None:
        flows.set()
        while stream.read(1 << 20):
            pass

    def end() -> None:
        flows.wait()
        time.sleep(0.2)
        (client,) = host._client._running  # type: ignore[union-attr]
        host.close() if how == "closed" else client.kill()

    calls: list[Callable[[], object]] = [
        lambda: host.upload("cat > /dev/null", write, bulk=True),
        lambda: host.download("cat /dev/zero", read, bulk=True),
    ]
    for call in calls[: 1 if how == "closed" else 2]:
        flows.clear()
        threading.Thread(target=end, daemon=True).start()
        with pytest.raises(ConnectionLost):
            call()
        assert not _clients()
    host.close()


@pytest.mark.parametrize("when", ["in its midst", "before it begins"])
def test_an_ssh_that_is_a_script_ends_with_what_it_runs(
    host: SshHost, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its program would go on, and hold the streams that are waited for: for ever."""
    real = shutil.which("ssh")
    runs = f'{real} "$@"' if when == "in its midst" else "sleep 60"
    program = _program(tmp_path / "ssh", f"{runs}\nexit $?")
    monkeypatch.setattr(shutil, "which", lambda _: program)
    monkeypatch.setattr(module, "_BEGINS_WITHIN_S", 20.0 if when == "in its midst" else 0.5)
    began = time.monotonic()
    if when == "before it begins":
        _there_and_back(host)
    else:
        _close_in_its_midst(host)
        with pytest.raises(ConnectionLost):
            host.upload("cat > /dev/null", _endless, bulk=True)
    assert time.monotonic() - began < 30
    host.close()


def test_what_runs_ends_with_the_connection_though_more_is_of_no_use(
    host: SshHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that could not begin says nothing of those that have: a cancelled job's transfer must end."""

    def then_enough() -> None:
        _wait_for_client(host)
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "which", lambda _: None)
            assert host.upload("cat > /dev/null", lambda _: None, bulk=True).exit_code == 0
        host.close()

    thread = threading.Thread(target=then_enough, daemon=True)
    thread.start()
    ends = time.monotonic() + 20

    def write(stream: BinaryIO) -> None:
        while time.monotonic() < ends:
            stream.write(bytes(1 << 20))

    with pytest.raises(ConnectionLost):
        host.upload("cat > /dev/null", write, bulk=True)
    assert time.monotonic() < ends
    thread.join()


def _endless(stream: BinaryIO) -> None:
    while True:
        stream.write(bytes(1 << 20))


def _wait_for_client(host: SshHost) -> None:
    while not host._client._running:  # type: ignore[union-attr]
        time.sleep(0.01)
    time.sleep(0.3)


def _close_in_its_midst(host: SshHost) -> None:
    def close() -> None:
        _wait_for_client(host)
        host.close()

    threading.Thread(target=close, daemon=True).start()


def test_no_secret_is_seen(host: SshHost, server: Server) -> None:
    """The key is in no command line, and in no file that has a name."""
    seen: list[str] = []

    def read(stream: BinaryIO) -> None:
        seen.extend(_clients())
        stream.read()

    host.download("echo well; sleep 1", read, bulk=True)
    (client,) = seen
    secret = server.login.private.splitlines()[1]
    assert secret not in client
    assert "IdentityFile=/proc/" in client
    host.close()


def test_only_a_near_machine_has_it(host: SshHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a long line paramiko's window is the larger one."""
    host.round_trip_s = 0.001
    assert host.bulk_bytes == host_module._BULK
    host.round_trip_s = 0.02
    assert host.bulk_bytes == 0
    host.close()
