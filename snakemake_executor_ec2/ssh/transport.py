"""paramiko's Transport, with what it lacks. Everything that reaches into paramiko is in here."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, ClassVar, cast

import paramiko
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
    cMSG_CHANNEL_CLOSE,
    cMSG_CHANNEL_REQUEST,
    cMSG_GLOBAL_REQUEST,
)

_WINDOW = 16 << 20
"""How much may be under way: at 100 ms, 16 MiB let 160 MB/s through and paramiko's 2 MiB only 20."""
_PACKET = 65536
_REKEY_BYTES = 1 << 36
"""When new keys are agreed on: OpenSSH's own limit for AES. paramiko's is 512 MiB."""
_LONGEST_PACKET = 256 << 10
"""As in OpenSSH. paramiko believes any length, up to 4 GiB, before it knows who sends it."""
_BEYOND_WINDOW = 1 << 20
"""Bytes of grace for a server that counts otherwise than we do."""


class SshTransport(paramiko.Transport):
    """One connection. The stubs know nothing of the methods that begin with an underscore."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, default_window_size=_WINDOW, default_max_packet_size=_PACKET)
        self.packetizer.REKEY_BYTES = _REKEY_BYTES
        self.packetizer.read_all = _bounded(self.packetizer.read_all)  # type: ignore[method-assign]
        self.killed_by: dict[int, int] = {}
        """By channel: the signal that killed its command."""

    def ask_for_life(self, interval_s: float) -> None:
        """Have a request sent that the other side must answer, after every `interval_s` without one.

        paramiko's own keepalive wants no answer, so silence would mean nothing.
        """

        def ask() -> None:
            message = paramiko.Message()
            message.add_byte(cMSG_GLOBAL_REQUEST)
            message.add_string("keepalive@openssh.com")
            message.add_boolean(True)
            self._send_user_message(message)  # type: ignore[attr-defined]

        self.packetizer.set_keepalive(interval_s, ask)

    def open_session(
        self,
        window_size: int | None = None,
        max_packet_size: int | None = None,
        timeout: float | None = None,
    ) -> paramiko.Channel:
        """See paramiko."""
        channel = super().open_session(window_size, max_packet_size, timeout)
        channel.transport = cast(paramiko.Transport, _Orderly(self))
        return channel

    # Class attribute: paramiko looks here for what to do with a message about a channel.
    _channel_handler_table: ClassVar = {
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
        MSG_CHANNEL_DATA: lambda channel, message: _feed(channel, channel._feed, message),
        MSG_CHANNEL_EXTENDED_DATA: lambda channel, message: _feed(channel, channel._feed_extended, message),
        MSG_CHANNEL_REQUEST: lambda channel, message: _handle_request(channel, message),
        MSG_CHANNEL_CLOSE: lambda channel, message: _handle_close(channel, message),
    }


def _bounded(read_all: Callable[..., bytes]) -> Callable[..., bytes]:
    """Read no more at once than a packet can have."""

    def read(size: int, check_rekey: bool = False) -> bytes:
        if not 0 <= size <= _LONGEST_PACKET:
            raise paramiko.SSHException("the other side sends a packet that is too long")
        return read_all(size, check_rekey)

    return read


def _feed(channel: Any, feed: Callable[[paramiko.Message], None], message: paramiko.Message) -> None:
    """Keep what a command has printed. A server that sends more than it was allowed to, which paramiko does
    not look at, would fill the memory."""
    feed(message)
    if len(channel.in_buffer) + len(channel.in_stderr_buffer) > _WINDOW + _BEYOND_WINDOW:
        raise paramiko.SSHException("the other side sends more than it may")


def execute(channel: paramiko.Channel, command: bytes) -> None:
    """Have a command run, without waiting for the answer that it is: that would cost a round trip for each.

    If the server refuses, the channel is closed, and the command ends without a status.
    """
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("exec")
    message.add_boolean(True)
    message.add_string(command)
    channel.transport._send_user_message(message)  # type: ignore[union-attr]


class _Orderly:
    """What a channel has for its transport: after its close nothing more is sent for it.

    paramiko's threads make messages in the right order and send them in any. One that comes after the close,
    such as the end of input for a command that has just ended, is to OpenSSH reason to end the connection.
    """

    def __init__(self, transport: SshTransport) -> None:
        self._transport = transport
        self._in_turn = threading.Lock()
        self._is_closed = False

    def _send_user_message(self, message: paramiko.Message) -> None:
        with self._in_turn:
            if not self._is_closed:
                self._is_closed = message.asbytes()[:1] == cMSG_CHANNEL_CLOSE
                self._transport._send_user_message(message)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _handle_request(channel: paramiko.Channel, message: paramiko.Message) -> None:
    """Hear `exit-signal`, which comes instead of `exit-status` (RFC 4254 6.10) and paramiko ignores."""
    kind = message.get_text()
    if kind == "exit-signal":
        message.get_boolean()
        name = f"SIG{message.get_text()}"
        transport = cast(SshTransport, channel.transport)
        transport.killed_by[channel.chanid] = signal.Signals.__members__.get(name, signal.SIGKILL)
        channel.status_event.set()
        return
    message.rewind()
    message.get_int()  # the channel's number, which the transport has read
    channel._handle_request(message)  # type: ignore[attr-defined]


def _handle_close(channel: paramiko.Channel, message: paramiko.Message) -> None:
    """Answer a close. While new keys are agreed on nothing may be sent, and paramiko would wait for
    their end in the very thread that has to bring it about: so then another thread waits."""
    handle = channel._handle_close  # type: ignore[attr-defined]
    if cast(SshTransport, channel.transport).clear_to_send.is_set():
        handle(message)
    else:
        threading.Thread(target=handle, args=(message,), name="ssh close", daemon=True).start()


def why_lost(error: BaseException) -> str:
    """What an error of paramiko's or of a socket says of a connection, in a few words."""
    # The latter is how paramiko says that the handshake took too long.
    if isinstance(error, TimeoutError) or "No existing session" in str(error):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or "it was closed"
