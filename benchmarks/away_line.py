"""The simulated line of `benchmarks.away`: whatever goes to machines shares its uplink, and is counted."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

_CHUNK = 16 << 10
_PROXY = """\
import os, socket, sys, threading
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
line.sendall(f"{sys.argv[2]} {sys.argv[3]}\\n".encode())
def up():
    while data := os.read(0, 1 << 16):
        line.sendall(data)
    line.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := line.recv(1 << 16):
    while data:
        data = data[os.write(1, data):]
"""


class Line:
    """A way to machines, for `--ec2-ssh-proxy`: its connections share `bytes_per_s` upwards; each byte takes
    `one_way_s`, in both directions."""

    def __init__(self, folder: Path, *, bytes_per_s: float, one_way_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._one_way_s = one_way_s
        self._lock = threading.Lock()
        self._free_at = 0.0
        self.up = self.down = 0
        """Bytes."""
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        program = folder / "through_the_line.py"
        program.write_text(_PROXY)
        port = self._server.getsockname()[1]
        self.command = f"{sys.executable} -ISE {program} {port} %h %p"

    def __enter__(self) -> Line:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                here, _ = self._server.accept()
                threading.Thread(target=self._carry, args=(here,), daemon=True).start()

    def _carry(self, here: socket.socket) -> None:
        with here, contextlib.suppress(OSError):
            first = b""
            while not first.endswith(b"\n"):
                first += here.recv(1)
            address, port = first.decode().split()
            time.sleep(2 * self._one_way_s)  # the handshake
            with socket.create_connection((address, int(port))) as there:
                for each in (here, there):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                down = threading.Thread(target=self._pump, args=(there, here, False), daemon=True)
                down.start()
                self._pump(here, there, True)
                down.join()

    def _pump(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        """Carry all of one direction."""
        on_its_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
        arriving = threading.Thread(target=_arrive, args=(on_its_way, target), daemon=True)
        arriving.start()
        data = b"-"
        while data:
            try:
                data = source.recv(_CHUNK)
            except OSError:
                data = b""
            sent_at = self._sent(len(data)) if up else time.monotonic()
            time.sleep(max(0.0, sent_at - time.monotonic()))
            with self._lock:
                self.down += 0 if up else len(data)
            on_its_way.put((sent_at + self._one_way_s, data))
        arriving.join()

    def _sent(self, count: int) -> float:
        """When so many bytes have left, after those of other connections."""
        with self._lock:
            self.up += count
            self._free_at = max(self._free_at, time.monotonic()) + count / self._bytes_per_s
            return self._free_at


def _arrive(on_its_way: SimpleQueue[tuple[float, bytes]], target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            at, data = on_its_way.get()
            time.sleep(max(0.0, at - time.monotonic()))
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            target.sendall(data)
