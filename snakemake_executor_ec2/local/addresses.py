"""Where hosts can be reached: a loopback address for each, and one ssh port for all."""

from __future__ import annotations

import errno
import random
import socket
import sys
import threading
from collections.abc import Iterator

_MAC_ADDRESSES = range(2, 255)


class NoAddressError(Exception):
    """No loopback address is left for another host; the text says what to do."""


class Addresses:
    """Loopback addresses, each for one host at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._taken: set[str] = set()
        self._lock = threading.Lock()
        # Two clouds on one computer shall not count through the same addresses.
        self._prefix = f"127.{random.randrange(64, 255)}"  # noqa: S311 -- nothing secret
        self._next = 0

    def take(self) -> str:
        """An address on which the ssh port is free. Raises NoAddressError."""
        with self._lock:
            for address in self._candidates():
                if address not in self._taken and _can_bind(address, self._port):
                    self._taken.add(address)
                    return address
        message = "no loopback address is free"
        if sys.platform == "darwin":
            message += "; add some: for i in $(seq 2 99); do sudo ifconfig lo0 alias 127.0.0.$i; done"
        raise NoAddressError(message)

    def give_back(self, address: str) -> None:
        with self._lock:
            self._taken.discard(address)

    def is_inside(self, address: str) -> bool:
        """Whether an address is of hosts' own network, as another host's or a jump host's is, and not this
        computer's usual one. On macOS, which has few, that cannot be told apart."""
        return sys.platform == "darwin" or address.startswith(f"{self._prefix}.")

    def _candidates(self) -> Iterator[str]:
        if sys.platform == "darwin":
            yield from (f"127.0.0.{last}" for last in _MAC_ADDRESSES)
            return
        for _ in range(256 * 254):
            number, self._next = self._next, (self._next + 1) % (256 * 254)
            yield f"{self._prefix}.{number // 254}.{number % 254 + 1}"


def choose_ssh_port(wanted: int | None) -> int:
    """The port that is wanted; else 22, if it may be bound; else a free one, the same for all hosts."""
    if wanted:
        return wanted
    probe = "127.0.0.2" if sys.platform == "darwin" else "127.96.0.1"
    if wanted is None and _can_bind(probe, 22):
        return 22
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _can_bind(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EPERM):
                return False
            raise
    return True
