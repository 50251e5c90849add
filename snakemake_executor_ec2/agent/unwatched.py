"""A job whose supervisor was killed while its machine runs normally: the job did it, and fails by itself.

`kill -9 -1`, `pkill -u $USER`: the job runs as the user that watches it. Another machine would see the same.
"""

from __future__ import annotations

import os
import time
from typing import Any

from . import lease, procs
from .event_log import EventLog, events_of, last_event
from .state import try_lock

_SURE_AFTER_S = 1.0
_WHY = (
    "the process that supervised it was killed, while the machine runs normally: its command probably kills "
    "all processes of its user (`kill -9 -1`, `pkill -u`), or somebody did so on the machine"
)


def note_boot(folder: str) -> None:
    """Remember when the machine was booted, before a job starts."""
    with open(os.path.join(folder, "boot"), "w", encoding="ascii") as file:
        file.write(procs.boot_id())


def settle(folder: str) -> dict[str, Any] | None:
    """End a job whose supervisor is gone, and report how it ended; None if the machine went down."""
    with try_lock(os.path.join(folder, "unwatched.lock"), wait=True):  # type: ignore[union-attr]
        path = os.path.join(folder, "events.jsonl")
        event = last_event(path)
        if event is None or event.get("type") in ("finished", "interrupted"):
            return event
        if _boot_of(folder) != procs.boot_id() or procs.shutting_down():
            return None
        time.sleep(_SURE_AFTER_S)  # a machine that goes down ends us as well
        events = events_of(path)
        started = next((each for each in events if each.get("type") == "started"), None)
        if started is not None:
            procs.kill([pid for pid in procs.tree_of(int(started["pid"])) if pid != os.getpid()])
        if length := lease.length():
            lease.ensure_guard(length, None)  # it may have been killed as well
        samples = [each for each in events if each.get("type") == "sample"]
        EventLog(path).write(
            "finished",
            exit_code=-9,
            seconds=max(0.0, round(event["t"] - (started or event)["t"], 3)),
            peak_mem_mib=max([each["mem_mib"] for each in samples], default=0),
            cpu_seconds=max([each["cpu_seconds"] for each in samples], default=0.0),
            peak_disk_mib=max([each["disk_mib"] for each in samples], default=0),
            failure="signal",
            evidence=_WHY,
        )
        return last_event(path)


def _boot_of(folder: str) -> str | None:
    try:
        with open(os.path.join(folder, "boot"), encoding="ascii") as file:
            return file.read()
    except OSError:
        return None
