"""What is mounted, and where anybody may put temporary files."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import NamedTuple

_SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")  # noqa: S108 - they are looked into


def points(option: str = "") -> frozenset[str]:
    """The mount points, or those with an option."""
    return frozenset(each.point for each in _mounted() if not option or option in each.options)


def temporary() -> list[str]:
    """Where anybody may put files: also a disk of the machine's own that a setup script has mounted so."""
    found = dict.fromkeys(_SHARED)
    for each in _mounted():
        if each.source.startswith("/dev/") or each.kind in ("tmpfs", "mqueue"):
            with contextlib.suppress(OSError):
                mode = os.stat(each.point).st_mode
                if stat.S_ISDIR(mode) and mode & stat.S_ISVTX and mode & stat.S_IWOTH:
                    found[each.point] = None
    return list(found)


class _Mount(NamedTuple):
    source: str
    point: str
    kind: str
    options: tuple[str, ...]


def _mounted() -> list[_Mount]:
    with contextlib.suppress(OSError), open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
        lines = [line.split() for line in file]
        return [
            _Mount(source, point, kind, tuple(more.split(","))) for source, point, kind, more, *_ in lines
        ]
    return []
