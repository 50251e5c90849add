"""What the contract of RemoteHost is tested on: OpenSSH, asyncssh and the fake."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from snakemake_executor_ec2.local.jump import COMMAND
from snakemake_executor_ec2.ports import RemoteHost
from snakemake_executor_ec2.ssh.connector import SshConnector
from snakemake_executor_ec2.ssh.proxy import ProxyCommand
from tests.fakes.remote_host import FakeMachine, FakeRemoteHost
from tests.sshd import LOOPBACK, Server, Wire, asyncssh_server, find_sshd, openssh

SILENCE_S = 3.0
_BYTES_PER_S = 30e6
_SERVERS = {"openssh": openssh, "asyncssh": asyncssh_server}


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A machine, and a connection to it that can be broken."""

    home: Path
    host: RemoteHost
    connect: Callable[[], RemoteHost]
    cut: Callable[[], None]
    freeze: Callable[[], None]
    carried: Callable[[], int] = lambda: 0
    """The bytes that went over the wire, if there is one."""


class Bulk:
    """A host all of whose transfers are told to be much, and so go through OpenSSH's client."""

    def __init__(self, host: RemoteHost) -> None:
        self._host = host
        self.upload = functools.partial(host.upload, bulk=True)
        self.download = functools.partial(host.download, bulk=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)


@pytest.fixture(params=["openssh", "asyncssh", "proxied", "bulk to openssh", "bulk to asyncssh", "fake"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    kind = request.param.rpartition(" ")[2]
    with contextlib.ExitStack() as stack:
        if kind == "fake":
            made = _fake_rig(tmp_path)
        else:
            served = serve(stack, "asyncssh" if kind == "proxied" else kind, tmp_path / "server")
            made = _ssh_rig(stack, served, ProxyCommand(COMMAND) if kind == "proxied" else None)
        if request.param.startswith("bulk"):
            connect = made.connect
            made = replace(
                made,
                host=cast("RemoteHost", Bulk(made.host)),
                connect=lambda: cast("RemoteHost", Bulk(connect())),
            )
        yield made
        made.host.close()
    _assert_nothing_left(made.home)


@pytest.fixture(params=["openssh", "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with contextlib.ExitStack() as stack:
        yield serve(stack, request.param, tmp_path / "server")


def serve(stack: contextlib.ExitStack, kind: str, folder: Path) -> Server:
    if kind == "openssh" and find_sshd() is None:
        pytest.skip("OpenSSH's sshd is not installed (package openssh-server)")
    return stack.enter_context(_SERVERS[kind](folder))


def _fake_rig(folder: Path) -> Rig:
    home = folder / "home"
    home.mkdir()
    machine = FakeMachine(home=home, host_key="ssh-ed25519 AAAA")

    def connect() -> FakeRemoteHost:
        return FakeRemoteHost(machine, silence_s=SILENCE_S)

    host = connect()

    def cut() -> None:
        for each in machine.hosts:
            each.cut()

    return Rig(home=home, host=host, connect=connect, cut=cut, freeze=host.freeze)


def _ssh_rig(stack: contextlib.ExitStack, server: Server, proxy: ProxyCommand | None) -> Rig:
    wire = stack.enter_context(Wire(server.port, bytes_per_s=_BYTES_PER_S))
    connector = SshConnector(
        user=server.user, login_keys=[server.login], port=wire.port, proxy=proxy, silence_s=SILENCE_S
    )

    def connect() -> RemoteHost:
        return connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=10)

    return Rig(
        home=server.home,
        host=connect(),
        connect=connect,
        cut=wire.cut,
        freeze=wire.freeze,
        carried=lambda: wire.carried,
    )


def _assert_nothing_left(home: Path) -> None:
    """No process of the machine's may outlive its test."""
    deadline = time.monotonic() + 15
    while (left := _processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def _processes_of(home: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"HOME={home}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found
