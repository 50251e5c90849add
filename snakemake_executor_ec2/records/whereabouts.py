"""On which computer and in which folder a run is, and what may be said of one that is not this one.

Whether a run lives is told by its lock, as far as locks reach: to the end of this computer's boot. Of
a run of another computer, or of a folder that ours is a copy of, nothing is known but its heartbeat,
and nothing of it may be ended or taken over.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

FRESH_S = 150.0
"""A live run shows itself every 30 s; on a slow file system, a few of them may be missed."""

_TAG_CHARS = set(" +-=._:/@")
_TAG_LENGTH = 256


class Verdict(Enum):
    """What is known of a run that a folder's journal names."""

    ALIVE = "alive"
    DEAD = "dead"
    """It ended, here: what it left is this folder's."""
    ELSEWHERE = "elsewhere"
    """Cannot be judged here: of another computer, or of a folder that this one is a copy of."""


@dataclass(frozen=True, kw_only=True)
class Whereabouts:
    """A run's computer and folder, as it saw them itself."""

    host: str
    boot: str
    """Changes when the computer is booted; the same in all containers on it. Empty: not known."""
    folder: str
    inode: int
    device: int
    pid: int = 0

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))

    def is_copy_of(self, other: Whereabouts) -> bool:
        """Whether this is another folder than the one that was noted, on whatever computer."""
        return not _is_same_folder(self, other, self.boot == other.boot)

    @property
    def tag(self) -> str:
        """For the machines' tag: which computer and folder they belong to, as people read it."""
        text = f"{self.host}:{self.folder}"
        fit = "".join(char if char.isalnum() or char in _TAG_CHARS else "_" for char in text)
        if fit == text and len(text) <= _TAG_LENGTH:
            return text
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        return f"{fit[: _TAG_LENGTH - 13]}@{digest}"


def here(folder: Path) -> Whereabouts:
    """Of this process, working in a folder."""
    seen = folder.stat()
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Whereabouts(
        host=socket.gethostname(),
        boot=boot,
        folder=os.path.realpath(folder),
        inode=seen.st_ino,
        device=seen.st_dev,
        pid=os.getpid(),
    )


def of_json(facts: Any) -> Whereabouts | None:
    """What `as_json` gave; None if it is anything else."""
    try:
        return Whereabouts(**facts)
    except TypeError:
        return None


def judge(
    theirs: Whereabouts | None, ours: Whereabouts, *, locked: bool | None, seen_at: float, ended: bool = False
) -> Verdict:
    """What is known of a run. `locked`: whether somebody holds its lock, as this computer sees it; None:
    there are no locks here. `seen_at`: when it last showed itself. `ended`: it noted its own end."""
    if locked:
        return Verdict.ALIVE
    fresh = time.time() - seen_at < FRESH_S
    if theirs is None:  # of a version that did not note it
        return Verdict.ALIVE if locked is None and fresh else Verdict.DEAD
    same_boot = theirs.boot == ours.boot and (bool(ours.boot) or theirs.host == ours.host)
    if ended and _is_same_folder(theirs, ours, same_boot):
        return Verdict.DEAD  # wherever it was: its machines were left for the next run
    if not same_boot and theirs.host != ours.host:
        return Verdict.ALIVE if fresh and _is_same_folder(theirs, ours, same_boot) else Verdict.ELSEWHERE
    if not _is_same_folder(theirs, ours, same_boot):
        # A copy, unless this is the folder itself, restored in place after its run had ended.
        in_place = theirs.folder == ours.folder and not (same_boot and _is_process(theirs.pid))
        return Verdict.DEAD if in_place else Verdict.ELSEWHERE
    if same_boot and locked is not None:
        return Verdict.DEAD  # a lock reaches all processes of this computer, and none holds it
    if same_boot and _is_process(theirs.pid):
        return Verdict.ALIVE
    return Verdict.ALIVE if fresh else Verdict.DEAD


def is_locked(path: Path) -> bool | None:
    """Whether a process holds the lock of a file, as far as this computer sees; None: no locks here."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _is_same_folder(theirs: Whereabouts, ours: Whereabouts, same_boot: bool) -> bool:
    """The same also after it was moved. Devices are numbered anew with every boot, and by every computer."""
    return theirs.inode == ours.inode and (theirs.device == ours.device or not same_boot)


def _is_process(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
