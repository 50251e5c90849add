"""What is mounted, and where anybody may put temporary files."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import NamedTuple

_NOW = "/proc/self/mounts"
_SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")  # noqa: S108 - they are looked into


def points(option: str = "", file: str = _NOW) -> frozenset[str]:
    """The mount points, or those with an option; of `file`, which may be an fstab."""
    return frozenset(each.point for each in _mounted(file) if not option or option in each.options)


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


def _mounted(file: str = _NOW) -> list[_Mount]:
    """Nothing if the system does not say."""
    with contextlib.suppress(OSError), open(file, encoding="utf-8", errors="surrogateescape") as table:
        lines = [line.split() for line in table if not line.startswith("#")]
        rows = [line for line in lines if len(line) >= 4]
        return [
            _Mount(source, _plain(point), kind, tuple(options.split(",")))
            for source, point, kind, options, *_ in rows
        ]
    return []


def _plain(point: str) -> str:
    """A path whose spaces, tabs, newlines and backslashes are written in octal, as fstab(5) has them."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)
