"""System V's shared memory, semaphores and message queues: they outlive the processes that made them.

A program finds them by a key, so a job could find those of an earlier one. Some (STAR, for instance) leave
gigabytes of shared memory behind on purpose.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Collection

_KINDS = {"shm": "-m", "sem": "-s", "msg": "-q"}
"""Names in /proc/sysvipc, and the options of `ipcrm` that remove one."""


def there() -> frozenset[str]:
    """Those of ours, each as "kind id"."""
    found = set[str]()
    for kind in _KINDS:
        with contextlib.suppress(OSError), open(f"/proc/sysvipc/{kind}", encoding="ascii") as file:
            owner = file.readline().split().index("uid")
            rows = [line.split() for line in file]
            found.update(f"{kind} {row[1]}" for row in rows if int(row[owner]) == os.getuid())
    return frozenset(found)


def remove(before: Collection[str]) -> str:
    """Remove those that are new; one that is still there, or nothing."""
    for each in there().difference(before):
        kind, number = each.split()
        with contextlib.suppress(OSError):
            command = ["ipcrm", _KINDS[kind], number]
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return min(there().difference(before), default="")
