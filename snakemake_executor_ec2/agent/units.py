"""Units of systemd that a job has left: a service goes on, a timer starts one in the middle of another job.

Read from the files that systemd keeps of them: no program has to be asked, and where there is no systemd
there are none.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Collection, Iterator

_KINDS = (".service", ".timer", ".path", ".socket")
_OF_SYSTEM = ("systemd-", "user@", "user-runtime-dir@", "sshd@", "ssh@", "dbus-")
_INSTALLED = ("/etc/systemd/*", "/usr/lib/systemd/*", "/lib/systemd/*", "/run/systemd/generator*")


def there(root: str = "/") -> frozenset[str]:
    """Names of units that have been made for a time, that somebody has written, or that are active."""
    found = set[str]()
    for folder in _folders(root):
        with contextlib.suppress(OSError):
            names = os.listdir(folder)
            # There a name has what is noted about the unit before it: `invocation:cron.service`
            of_active = folder.endswith("/units")
            found.update(name.partition(":")[2] if of_active else name for name in names)
    return frozenset(name for name in found if name.endswith(_KINDS))


def new(before: Collection[str], root: str = "/") -> str:
    """A unit that is new, and that the system would not have begun by itself; or nothing."""
    return min((name for name in there(root).difference(before) if not _of_system(name, root)), default="")


def _folders(root: str) -> Iterator[str]:
    of_user = f"/run/user/{os.getuid()}/systemd"
    for place in ("/run/systemd", of_user):
        for name in ("transient", "units", "system", "user"):
            yield f"{root.rstrip('/')}{place}/{name}"
    for place in (".config", ".local/share"):
        yield os.path.join(os.path.expanduser("~"), place, "systemd/user")


def _of_system(name: str, root: str) -> bool:
    """Whether the boot, a timer of the system's or a call over D-Bus starts it."""
    if name.startswith(_OF_SYSTEM):
        return True
    unit, timer = glob.escape(name), glob.escape(os.path.splitext(name)[0]) + ".timer"
    for place in (root.rstrip("/") + place for place in _INSTALLED):
        if glob.glob(f"{place}/*.wants/{unit}") or glob.glob(f"{place}/{timer}"):
            return True
        if any(_has_bus_name(path) for path in glob.glob(f"{place}/{unit}")):
            return True
    return False


def _has_bus_name(path: str) -> bool:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return any(line.startswith("BusName=") for line in file)
    return False
