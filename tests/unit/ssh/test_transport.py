"""What paramiko would believe of a server, and we do not."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import paramiko
import pytest

from snakemake_executor_ec2.errors import ConnectError, ConnectionLost
from snakemake_executor_ec2.ssh import transport as module
from snakemake_executor_ec2.ssh.connector import SshConnector
from snakemake_executor_ec2.ssh.host import SshHost
from snakemake_executor_ec2.ssh.keys import new_key_pair
from snakemake_executor_ec2.ssh.proxy import proxy_command
from snakemake_executor_ec2.ssh.transport import SshTransport
from tests.fakes.threads import no_threads

if TYPE_CHECKING:
    from snakemake_executor_ec2.ssh.liveness import LiveSocket

_TICK_S = 0.02


class _LetsIn(paramiko.ServerInterface):
    def check_auth_none(self, username: str) -> int:
        del username
        return int(paramiko.common.AUTH_SUCCESSFUL)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        del kind, chanid
        return int(paramiko.common.OPEN_SUCCEEDED)


@pytest.fixture
def pair() -> Iterator[tuple[SshTransport, paramiko.Transport]]:
    """A connection, and the server at its other end."""
    ours, theirs = socket.socketpair()
    client, server = SshTransport(ours), paramiko.Transport(theirs)
    server.add_server_key(paramiko.ECDSAKey.generate())
    server.start_server(server=_LetsIn(), event=threading.Event())
    client.start_client(timeout=30)
    client.auth_none("user")
    yield client, server
    client.close()
    server.close()


def _wait_for_end(transport: SshTransport) -> str:
    until = time.monotonic() + 20
    while transport.is_active() and time.monotonic() < until:
        time.sleep(_TICK_S)
    return str(transport.saved_exception)


@pytest.mark.parametrize("size", [2**32 - 4, (256 << 10) + 12])
def test_a_packet_that_is_too_long_ends_the_connection(size: int) -> None:
    """It says so before it is read, and before anybody knows who sends it."""
    ours, theirs = socket.socketpair()
    client = SshTransport(ours)
    client.start_client(event=threading.Event())
    theirs.sendall(b"SSH-2.0-x\r\n" + struct.pack(">I", size) + bytes(1024))
    assert "too long" in _wait_for_end(client)
    client.close()
    theirs.close()


@pytest.mark.parametrize("extended", [False, True])
def test_a_server_that_sends_more_than_it_may_is_left(
    pair: tuple[SshTransport, paramiko.Transport], monkeypatch: pytest.MonkeyPatch, *, extended: bool
) -> None:
    """paramiko keeps all of it, in memory, whatever was allowed."""
    monkeypatch.setattr(module, "_WINDOW", 1 << 20)
    monkeypatch.setattr(module, "_BEYOND_WINDOW", 1 << 20)
    client, server = pair
    channel = client.open_session(timeout=30)
    for _ in range(80):
        message = paramiko.Message()
        message.add_byte(
            paramiko.common.cMSG_CHANNEL_EXTENDED_DATA if extended else paramiko.common.cMSG_CHANNEL_DATA
        )
        message.add_int(channel.chanid)
        if extended:
            message.add_int(1)
        message.add_string(bytes(32 << 10))
        with contextlib.suppress(EOFError):  # it has been left
            server._send_user_message(message)  # type: ignore[attr-defined]
    assert "more than it may" in _wait_for_end(client)


def test_a_command_without_a_thread_is_no_fault_of_the_machine(
    pair: tuple[SshTransport, paramiko.Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be run again, when there are threads again; its channel is closed."""
    client, _ = pair
    host = SshHost(client, cast("LiveSocket", client.sock), "203.0.113.1")
    no_threads(monkeypatch, "ssh")
    with pytest.raises(ConnectionLost, match="no more threads") as lost:
        host.run("true")
    assert lost.value.came_further
    assert all(each.closed for each in client._channels.values())  # type: ignore[attr-defined]


@pytest.mark.parametrize("proxied", [False, True])
def test_a_connection_without_a_thread_says_why(monkeypatch: pytest.MonkeyPatch, *, proxied: bool) -> None:
    """It is tried again as any other that fails; a proxy's program does not outlive it."""
    no_threads(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server:
        connector = SshConnector(
            user="user",
            port=server.getsockname()[1],
            login_keys=[new_key_pair()],
            proxy=proxy_command("sleep 3456") if proxied else None,
        )
        with pytest.raises(ConnectError, match="no more threads"):
            connector.connect("127.0.0.1", host_keys=[new_key_pair().public], timeout_s=10)
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert b"sleep\x003456\x00" not in commands
