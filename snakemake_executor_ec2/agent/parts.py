"""Names of files that are still arriving. Each says which process writes it, so that those of dead ones
can be removed."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import time
from collections.abc import Callable

_PART = ".ec2-part-"
_NAME = re.compile(r"\.ec2-part-([0-9a-f]{12})-([0-9a-f]{12})-([0-9a-f]{12})-(\d+)-(\d+)-[0-9a-f]{16}")


def new_part(folder: str) -> str:
    """A new name in a folder."""
    return os.path.join(folder, f"{_PART}{_owner(os.getpid())}-{os.urandom(8).hex()}")


def remove_dead(folder: str, remove: Callable[[str], None]) -> None:
    """Remove what processes of this computer that live no more have left half written in a folder."""
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            left = [entry.path for entry in entries if entry.name.startswith(_PART)]
        for path in left:
            if _is_dead(path):
                remove(path)


def _is_dead(path: str) -> bool:
    """Whether the writer is known to live no more: another computer's, or container's, is not judged."""
    told = _NAME.fullmatch(os.path.basename(path))
    if told is None:
        return False
    computer, boot, space = _place()
    if told[1] != computer:
        return False
    if told[2] != boot:  # two computers may have one name: what was written since we booted is not ours
        booted = time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
        return os.lstat(path).st_mtime < booted
    pid = int(told[4])
    return told[3] == space and (not _lives(pid) or _began(pid) != told[5])


@functools.lru_cache(maxsize=4)
def _owner(pid: int) -> str:
    return "-".join([*_place(), str(pid), _began(pid)])


@functools.lru_cache(maxsize=1)
def _place() -> tuple[str, str, str]:
    """This computer, its boot, and the space that its process numbers count in."""
    computer = os.uname().nodename + _text("/etc/machine-id")
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    told = (computer, _text("/proc/sys/kernel/random/boot_id"), space)
    return tuple(hashlib.sha256(each.encode()).hexdigest()[:12] for each in told)  # type: ignore[return-value]


def this_boot() -> str:
    """What tells this boot of the computer from others."""
    return _place()[1]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _began(pid: int) -> str:
    """When a process was started, in the kernel's ticks; 0 if that is unknown (macOS)."""
    with contextlib.suppress(OSError, IndexError, UnicodeError):
        return _text(f"/proc/{pid}/stat").rpartition(")")[2].split()[19]
    return "0"


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
