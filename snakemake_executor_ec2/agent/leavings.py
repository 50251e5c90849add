"""`left`: what a job has left beside its outputs, and what ends with the machine."""

from __future__ import annotations

import os
import stat
from typing import Any

from .state import job_dir, read_request, say

_ENTRIES = 200_000
"""No more are looked at, and no more than this are reported:"""
_FILES = 1000
_NAMES = 64_000
"""Characters of all their names: the answer is limited."""
_NEVER = ("__pycache__",)
_PART = ".ec2-part-"


def main() -> int:
    """`left`: {"key", "roots": […], "own": […]} -> {"files": [[path, bytes], …]}

    Regular files in the roots that were made or changed since the job began, the largest first, as many as an
    answer has room for. `own` is
    what it declares: what is there, or below, is not among them, nor what is in hidden folders.
    """
    request = read_request()
    began_ns = os.stat(os.path.join(job_dir(str(request["key"])), "start.lock")).st_mtime_ns
    own = set(map(str, request["own"]))
    found: dict[str, int] = {}
    for root in map(str, request["roots"]):
        _look(root, own, began_ns, found)
    largest = sorted(found.items(), key=lambda each: (-each[1], each[0]))
    say({"files": _told(largest[:_FILES])})
    return 0


def _told(files: list[tuple[str, int]]) -> list[tuple[str, int]]:
    room, told = _NAMES, []
    for path, size in files:
        room -= len(path)
        if room < 0:
            break
        told.append((path, size))
    return told


def _look(root: str, own: set[str], began_ns: int, found: dict[str, int]) -> None:
    entries = 0
    for folder, folders, names in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and name not in _NEVER and os.path.join(folder, name) not in own
        ]
        for path in (os.path.join(folder, name) for name in names):
            entries += 1
            if entries > _ENTRIES:
                return
            status = _status(path)
            if status is None or path in own or os.path.basename(path).startswith(_PART):
                continue
            if stat.S_ISREG(status.st_mode) and status.st_ctime_ns >= began_ns:
                found[path] = status.st_size


def _status(path: str) -> Any:
    try:
        return os.lstat(path)
    except OSError:
        return None
