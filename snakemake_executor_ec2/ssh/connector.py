"""Connector over paramiko: reach a machine, make sure that it is the one, log in."""

from __future__ import annotations

import io
import logging
from collections.abc import Collection, Sequence

import paramiko

from snakemake_executor_ec2 import threads
from snakemake_executor_ec2.errors import ConnectError, ConnectionLost, HostKeyMismatch, LoginRefused
from snakemake_executor_ec2.model import KeyPair
from snakemake_executor_ec2.ssh.host import SshHost
from snakemake_executor_ec2.ssh.keys import fingerprint
from snakemake_executor_ec2.ssh.liveness import LiveSocket, open_socket
from snakemake_executor_ec2.ssh.openssh import OpensshClient
from snakemake_executor_ec2.ssh.proxy import ATTEMPT_S, ProxyCommand, ProxySocket, open_proxy
from snakemake_executor_ec2.ssh.transport import SshTransport, why_lost

# What paramiko has to say reaches the user through our own errors; its tracebacks do not.
_LOGGER = "paramiko.ec2"
logging.getLogger(_LOGGER).setLevel(logging.CRITICAL + 1)

_KEEPALIVE_S = 15.0


class SshConnector:
    """Logs in as `user` with one of `login_keys`; uses no ssh agent, no `~/.ssh` and no password.
    `proxy`: the program that connects instead. `silence_s`: a connection without any sign of life for this
    long, although the other side was asked, is lost."""

    def __init__(
        self,
        *,
        user: str,
        login_keys: Sequence[KeyPair],
        port: int = 22,
        proxy: ProxyCommand | None = None,
        silence_s: float = 60.0,
    ) -> None:
        self._user = user
        self._port = port
        self._login_keys = tuple(login_keys)
        self._proxy = proxy
        self._silence_s = silence_s

    def connect(
        self, address: str, *, name: str = "", host_keys: Collection[str], timeout_s: float
    ) -> SshHost:
        """See `ports.Connector.connect`."""
        if self._proxy is not None:
            timeout_s = max(timeout_s, ATTEMPT_S)
        refused: Exception | None = None
        for key in self._login_keys:
            # a connection for each key: not every server bears a second attempt on the same one
            try:
                return self._connect(address, name or address, host_keys, key, timeout_s)
            except paramiko.AuthenticationException as error:
                refused = error
            except RuntimeError as error:  # each connection is a thread of paramiko's
                if not threads.is_refusal(error):
                    raise
                raise ConnectError(threads.NONE_LEFT) from error
        raise LoginRefused(f"{address} refuses to log in {self._user!r} with the run's key.") from refused

    def _connect(
        self, address: str, name: str, host_keys: Collection[str], key: KeyPair, timeout_s: float
    ) -> SshHost:
        sock = self._open(address, name, timeout_s)
        try:
            transport = _transport(sock, host_keys, timeout_s)
            _negotiate(transport, sock, address, host_keys, timeout_s)
            self._log_in(transport, address, key)
            sock.watch(self._silence_s)
            transport.ask_for_life(min(_KEEPALIVE_S, self._silence_s / 4))
        except BaseException:
            sock.end()
            raise
        return SshHost(transport, sock, address, self._client(address, host_keys, key))

    def _client(self, address: str, host_keys: Collection[str], key: KeyPair) -> OpensshClient | None:
        if self._proxy is not None:
            return None
        client = OpensshClient(address, self._port, self._user, key, self._silence_s)
        client.host_keys = tuple(host_keys)
        return client

    def _open(self, address: str, name: str, timeout_s: float) -> LiveSocket:
        try:
            if self._proxy is not None:
                words = self._proxy.filled(address=address, name=name, port=self._port, user=self._user)
                return open_proxy(words, name, timeout_s)
            return open_socket(address, self._port, timeout_s)
        except OSError as error:
            if self._proxy is not None:
                raise ConnectError(f"The proxy command cannot be started: {error}.") from error
            raise ConnectError(
                f"{address} does not answer on port {self._port}: {why_lost(error)}."
            ) from error

    def _log_in(self, transport: SshTransport, address: str, key: KeyPair) -> None:
        try:
            transport.auth_publickey(self._user, _private_key(key))
        except paramiko.AuthenticationException as error:
            if transport.is_active():
                raise
            raise ConnectionLost(f"{address} closed the connection during login.") from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise ConnectionLost(
                f"{address} closed the connection during login: {why_lost(error)}."
            ) from error


def _transport(sock: LiveSocket, host_keys: Collection[str], timeout_s: float) -> SshTransport:
    transport = SshTransport(sock)
    transport.set_log_channel(_LOGGER)
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = timeout_s
    options = transport.get_security_options()
    options.key_types = _algorithms(host_keys)
    # AES-GCM first: paramiko prefers CTR with an HMAC, which costs a second pass over all data
    fast = [name for name in options.ciphers if "gcm" in name]
    options.ciphers = fast + [name for name in options.ciphers if name not in fast and "cbc" not in name]
    return transport


def _algorithms(host_keys: Collection[str]) -> list[str]:
    """The signature algorithms of the pinned keys' types."""
    types = {key.split()[0] for key in host_keys}
    if "ssh-rsa" in types:
        types = (types - {"ssh-rsa"}) | {"rsa-sha2-512", "rsa-sha2-256"}
    return sorted(types)


def _negotiate(
    transport: SshTransport, sock: LiveSocket, address: str, host_keys: Collection[str], timeout_s: float
) -> None:
    """Agree on keys, and compare the host's with the pinned ones. No data is sent before that."""
    try:
        transport.start_client(timeout=timeout_s)
        key = transport.get_remote_server_key()
    except (paramiko.SSHException, OSError, EOFError) as error:
        if isinstance(error, paramiko.SSHException) and "host key" in str(error):
            raise _mismatch(address, host_keys, "none of that kind") from error
        why = why_lost(error)
        if isinstance(sock, ProxySocket):
            raise ConnectError(sock.why_not(why)) from error
        raise ConnectError(f"{address} does not speak ssh (yet): {why}.") from error
    presented = f"{key.get_name()} {key.get_base64()}"
    if presented not in {" ".join(pinned.split()[:2]) for pinned in host_keys}:
        raise _mismatch(address, host_keys, fingerprint(presented))


def _mismatch(address: str, host_keys: Collection[str], presented: str) -> HostKeyMismatch:
    wanted = " or ".join(sorted(map(fingerprint, host_keys)))
    return HostKeyMismatch(
        f"The computer that answers at {address} is not the run's machine: its host key is {presented} "
        f"instead of {wanted}. Nothing was sent to it."
    )


def _private_key(key: KeyPair) -> paramiko.PKey:
    kind = key.public.split()[0]
    file = io.StringIO(key.private)
    if kind == "ssh-ed25519":
        return paramiko.Ed25519Key.from_private_key(file)
    if kind == "ssh-rsa":
        return paramiko.RSAKey.from_private_key(file)
    return paramiko.ECDSAKey.from_private_key(file)
