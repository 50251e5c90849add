"""File descriptors, on the machine and on the controller."""

from __future__ import annotations

import contextlib
import fcntl
import os

_PIPE = 1 << 20


def widen(pipe: int) -> None:
    """If it is a pipe, let it hold more than 64 KiB: that saves most context switches."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, getattr(fcntl, "F_SETPIPE_SZ", 1031), _PIPE)


def in_memory(text: str) -> int:
    """A file without a name, that ends with this process, and that ssh takes for a private one: its
    descriptor. Raises AttributeError or OSError where there is no such thing (macOS)."""
    file = os.memfd_create("private")
    os.fchmod(file, 0o600)  # ssh takes no key that others could read
    os.write(file, text.encode())
    return file


def path_of(file: int) -> str:
    """Where other programs find a file that this process has open."""
    return f"/proc/{os.getpid()}/fd/{file}"
