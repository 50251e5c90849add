"""`events.jsonl`: written by a job's supervisor, read by everybody; a line is complete or missing."""

from __future__ import annotations

import errno
import json
import os
import time
from typing import Any

_RESERVE = 256 * 1024


class EventLog:
    """Appends events. Even if the job fills the disk, its end is recorded: some space is kept in
    reserve, and after that this waits for space."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._reserve = path + ".reserve"
        with open(self._reserve, "wb") as file:
            file.write(bytes(_RESERVE))

    def write(self, kind: str, **facts: Any) -> None:
        """Append one event, dated now."""
        line = json.dumps({"t": round(time.time(), 3), "type": kind, **facts}).encode() + b"\n"
        while not self._append(line):
            try:
                os.unlink(self._reserve)
            except FileNotFoundError:
                time.sleep(1)

    def _append(self, line: bytes) -> bool:
        before = os.fstat(self._fd).st_size
        try:
            if os.write(self._fd, line) == len(line):
                return True
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        os.ftruncate(self._fd, before)  # half a line would spoil the next one
        return False


def last_event(path: str) -> dict[str, Any] | None:
    """The newest event of a job; None if it has none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 65536))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return None
    for line in reversed(lines[:-1]):
        event: dict[str, Any] = json.loads(line)
        return event
    return None


def events_of(path: str) -> list[dict[str, Any]]:
    """All events of a job."""
    with open(path, "rb") as file:
        return [json.loads(line) for line in file.read().split(b"\n")[:-1]]
