"""A limit on a host's memory, kept by the kernel's control groups: beyond it the kernel kills, as it
does on a machine whose memory is full. Only where we may make such a group, which root usually may."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_OLDER = Path("/sys/fs/cgroup/memory")
_NEWER = Path("/sys/fs/cgroup")
_REMOVE_WITHIN_S = 2.0


class MemoryLimit:
    """A control group with so much memory for a process and its descendants."""

    def __init__(self, name: str, size_bytes: int) -> None:
        """Raises OSError if no such group can be made."""
        newer = (_NEWER / "cgroup.controllers").exists()
        self._group = (_NEWER if newer else _OLDER) / f"snakemake-ec2-{name}"
        if newer and "memory" not in (_NEWER / "cgroup.subtree_control").read_text().split():
            (_NEWER / "cgroup.subtree_control").write_text("+memory")
        self._group.mkdir(exist_ok=True)  # one that a killed cloud has left
        try:
            memory, swap = (
                ("memory.max", "memory.swap.max") if newer else
                ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
            )  # fmt: skip
            (self._group / memory).write_text(str(size_bytes))
            with suppress(OSError):  # a computer without swap has no such file
                (self._group / swap).write_text("0" if newer else str(size_bytes))
        except OSError:
            self._group.rmdir()
            raise

    def hold(self, pid: int) -> None:
        """Put a process, and what it will start, under the limit."""
        (self._group / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Remove the group, once its last process has ended. Gives up quietly."""
        deadline = time.monotonic() + _REMOVE_WITHIN_S
        while time.monotonic() < deadline:
            try:
                self._group.rmdir()
            except OSError:
                time.sleep(0.02)
            else:
                return


def why_not() -> str:
    """Why no host's memory can be limited on this computer; empty if it can be."""
    try:
        MemoryLimit(f"probe-{os.getpid()}", 1 << 30).remove()
    except OSError as error:
        return f"no control group with a memory limit can be made here: {error}"
    return ""
