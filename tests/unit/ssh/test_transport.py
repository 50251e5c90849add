"""What paramiko would believe of a server, and we do not."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import paramiko
import pytest

from snakemake_executor_ec2.ssh import transport as module
from snakemake_executor_ec2.ssh.transport import SshTransport

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
