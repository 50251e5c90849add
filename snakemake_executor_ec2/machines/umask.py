"""The umask of this computer's user, which jobs have on their machines."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def own_umask() -> int:
    """This process's umask, read from /proc. Elsewhere it can only be read by setting it, for all threads."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    os.umask(own := os.umask(0o077))
    return own
