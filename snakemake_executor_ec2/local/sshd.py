"""The sshd of every host: one listener an instance, all in the cloud's event loop, over asyncssh.

Who may connect, which key is shown and whether bytes flow is asked of a `Door` at every connection, so that
security groups, host-key rotation and faults take effect at once, as on a machine of its own.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Any, Protocol

import asyncssh

from .cloudinit import HOST_KEY
from .host import Host, HostError
from .image import USER
from .session import Session

_LOGIN_WITHIN_S = 60.0
_HOLD_FILTERED_S = 30.0
_SESSIONS_A_CONNECTION = 10  # OpenSSH's MaxSessions
_OPTIONS: dict[str, Any] = {
    "agent_forwarding": False,
    "allow_scp": False,
    "compression_algs": None,
    "gss_host": None,
    "line_editor": False,
    "login_timeout": _LOGIN_WITHIN_S,
    "x11_forwarding": False,
}


class Door(Protocol):
    """What an instance decides about its connections."""

    @property
    def host(self) -> Host:
        """The host behind the door."""

    def admits(self, address: str) -> bool:
        """Whether a security group lets this address in."""

    def takes_impostor_key(self) -> asyncssh.SSHKey | None:
        """Another host key to show to the connection that is being made, if it is to meet an impostor."""

    def counts(self, what: str) -> None:
        """Told of each connection `attempted`, `admitted` and `authenticated`."""

    def receives(self, size: int) -> None:
        """Told of bytes that clients send to programs."""

    async def flowing(self) -> None:
        """Return when bytes may flow; at once, unless connections are half-open."""


class Sshd:
    """sshd of one instance; `connections` are those whose key exchange has begun."""

    def __init__(self, address: str, port: int, door: Door) -> None:
        self._address = (address, port)
        self._door = door
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: set[Connection] = set()

    def open(self) -> None:
        """Start to listen. Raises OSError when the address can't be bound."""
        if self._listener is not None:
            return
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(self._address)
        except OSError:
            listener.close()
            raise
        listener.listen(128)
        listener.setblocking(False)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept)

    def close(self) -> None:
        """Stop listening: connections that come are refused."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def cut(self) -> None:
        """End every connection without a word."""
        for task in self._tasks:
            task.cancel()
        for connection in list(self.connections):
            connection.abort()

    def freeze(self) -> None:
        """Let no byte of the present connections through, in either direction."""
        for connection in self.connections:
            connection.freeze()

    def thaw(self) -> None:
        for connection in self.connections:
            connection.thaw()

    def _accept(self) -> None:
        while self._listener is not None:
            try:
                peer, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            peer.setblocking(False)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.get_running_loop().create_task(self._serve(peer, address[0]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, peer: socket.socket, address: str) -> None:
        self._door.counts("attempted")
        try:
            if not self._door.admits(address):
                # A filtered port: no answer, not even a refusal. Only TCP's own handshake can't be hidden.
                await asyncio.sleep(_HOLD_FILTERED_S)
                peer.close()
                return
            self._door.counts("admitted")
            await self._door.flowing()
            key = self._door.takes_impostor_key() or await self._host_key()
            if key is None:
                peer.close()
                return
        except HostError:
            peer.close()
            return
        except asyncio.CancelledError:
            peer.close()
            raise
        # Authentication failures, broken clients and clients that leave are theirs to report.
        with suppress(asyncssh.Error, OSError, HostError):
            await asyncssh.run_server(
                peer, server_host_keys=[key], server_factory=lambda: Connection(self, self._door), **_OPTIONS
            )

    async def _host_key(self) -> asyncssh.SSHKey | None:
        """The key that is on the machine now."""
        data = await self._door.host.read(HOST_KEY)
        try:
            return asyncssh.import_private_key(data or b"")
        except asyncssh.KeyImportError:
            return None


class Connection(asyncssh.SSHServer):
    """One connection of one client."""

    def __init__(self, sshd: Sshd, door: Door) -> None:
        self._sshd = sshd
        self._door = door
        self._connection: asyncssh.SSHServerConnection | None = None
        self._sessions: set[Session] = set()
        self._frozen = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._sshd.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncssh's
        self._sshd.connections.discard(self)

    async def begin_auth(self, username: str) -> bool:
        """Keys are asked for always; only the image's own user has any."""
        assert self._connection is not None
        if username == USER:
            text = await self._door.host.read(f"/home/{USER}/.ssh/authorized_keys") or b""
            with suppress(ValueError):
                keys = asyncssh.import_authorized_keys(text.decode(errors="replace"))
                self._connection.set_authorized_keys(keys)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def auth_completed(self) -> None:
        self._door.counts("authenticated")

    def session_requested(self) -> Any:
        assert self._connection is not None
        if len(self._sessions) >= _SESSIONS_A_CONNECTION:
            return False
        session = Session(self._door.host, self._connection, self._sessions.discard, self._door.receives)
        self._sessions.add(session)
        if self._frozen:
            session.freeze()
        return self._connection.create_server_channel(encoding=None), session

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    def freeze(self) -> None:
        self._frozen = True
        if (transport := self._transport()) is not None:
            transport.pause_reading()
        for session in self._sessions:
            session.freeze()

    def thaw(self) -> None:
        self._frozen = False
        if (transport := self._transport()) is not None:
            transport.resume_reading()
        for session in self._sessions:
            session.thaw()

    def _transport(self) -> asyncio.Transport | None:
        # asyncssh has no public way to stop reading from a connection; a cloud that can't is no rehearsal.
        transport: asyncio.Transport | None = getattr(self._connection, "_transport", None)
        return transport


logging.getLogger("asyncssh").setLevel(logging.CRITICAL)
