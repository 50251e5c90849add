"""The embedded cloud's jump host, a program for `--ec2-ssh-proxy`: `python jump.py %h %p`.

It connects from an address of the machines' own network, so that it reaches those without a public address,
which this computer does not. Standard library only: it is run as a file.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from pathlib import Path

COMMAND = (sys.executable, "-I", str(Path(__file__).resolve()), "%h", "%p")
_BUFFER = 1 << 16


def main(host: str, port: str) -> int:
    """Carry standard input to a machine, and what it sends to standard output."""
    try:
        machine = socket.create_connection((host, int(port)), source_address=(_source(host), 0))
    except OSError as error:
        print(f"{host} port {port}: {error.strerror or error}", file=sys.stderr)
        return 1
    threading.Thread(target=_send, args=(machine,), daemon=True).start()
    with contextlib.suppress(OSError):
        while data := machine.recv(_BUFFER):
            _write(data)
    return 0


def _source(host: str) -> str:
    """An address of the cloud's network that no machine has (see `addresses.py`)."""
    if sys.platform == "darwin":
        return "127.0.0.1"  # where this computer's other addresses are few
    return ".".join([*host.split(".")[:2], "0", "255"])


def _send(machine: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(0, _BUFFER):
            machine.sendall(data)
        machine.shutdown(socket.SHUT_WR)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    # Not `sys.exit`: the other thread may wait for input for ever.
    os._exit(main(*sys.argv[1:3]))
