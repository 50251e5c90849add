"""A socket that notices when nobody is there any more.

A connection can be half open for hours: a laptop that changed networks, a machine that froze.
So, as OpenSSH's ServerAliveInterval does, a quiet connection is asked for a sign of life, and
one that says nothing at all for too long is an error of the socket, which ends whatever waits.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time

_POLL_S = 5.0
"""How often a waiting thread wakes up. paramiko's own 0.1 s would be felt with a thousand machines."""


class LiveSocket(socket.socket):
    """Raises OSError if nothing was received for `silence_s`, as paramiko never would."""

    silence_s: float | None = None
    _heard = 0.0

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        try:
            data = super().recv(bufsize, flags)
        except TimeoutError:
            self._check()
            raise
        self._heard = time.monotonic()
        return data

    def send(self, data: bytes, flags: int = 0, /) -> int:  # type: ignore[override]
        try:
            return super().send(data, flags)
        except TimeoutError:
            self._check()
            raise

    def _check(self) -> None:
        # not ETIMEDOUT: Python makes a TimeoutError of it, which paramiko takes for a reason to wait
        if self.silence_s is not None and time.monotonic() - self._heard > self.silence_s:
            raise OSError(errno.ECONNABORTED, f"no sign of life for {self.silence_s:.0f} s")

    def end(self) -> None:
        """Close it at once, waking up the threads that wait on it."""
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)
        self.close()

    def watch(self, silence_s: float) -> None:
        """From now on, silence is an error."""
        self._heard = time.monotonic()
        self.silence_s = silence_s
        self.settimeout(min(_POLL_S, silence_s / 4))


def open_socket(address: str, port: int, timeout_s: float) -> LiveSocket:
    """Connect. Raises OSError."""
    plain = socket.create_connection((address, port), timeout=timeout_s)
    live = LiveSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
    live.settimeout(timeout_s)
    live.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return live
