"""The lease: a machine that no controller contacts any more powers itself off.

One small file holds when the lease was last renewed (boot time, not wall clock) and for how
long. It is overwritten in place, so that a full disk does not end a lease that is renewed.
The `guard` process watches it; each job's supervisor does too, in case the guard was killed.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

from .state import (
    AgentError,
    boottime,
    home,
    leave_standard_streams,
    read_request,
    say,
    spawn_detached,
    try_lock,
)

_POWER_OFF = (
    ("sudo", "-n", "systemctl", "poweroff"),
    ("sudo", "-n", "shutdown", "-h", "now"),
    ("systemctl", "poweroff"),
    ("poweroff",),
)


def _path() -> str:
    return os.path.join(home(), "lease")


def _write(renewed: float, lease_s: float) -> None:
    record = b"%020.3f %016.3f\n" % (renewed, lease_s)
    fd = os.open(_path(), os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(fd, record, 0)
    finally:
        os.close(fd)


def _read() -> tuple[float, float] | None:
    for _ in range(3):
        try:
            with open(_path(), "rb") as file:
                renewed, lease_s = file.read(64).split()
            return float(renewed), float(lease_s)
        except FileNotFoundError:
            return None
        except ValueError:  # read while it was being written for the first time
            time.sleep(0.01)
    return None


def grant(lease_s: float | None) -> None:
    """Begin a lease of `lease_s` seconds from now; 0 or None: there is none."""
    _write(boottime(), max(0.0, float(lease_s or 0)))


def renew() -> None:
    """Start the lease again at its full length, from now. Nothing happens if there is none."""
    record = _read()
    if record is not None and record[1] > 0:
        _write(boottime(), record[1])


def length() -> float | None:
    """How long the lease is, in seconds; None if there is none."""
    record = _read()
    return record[1] if record is not None and record[1] > 0 else None


def remaining() -> float | None:
    """Seconds until the lease lapses, negative when it has; None if there is no lease."""
    record = _read()
    if record is None or record[1] <= 0:
        return None
    renewed, lease_s = record
    age = boottime() - renewed
    if age < 0:  # the machine was booted since
        renew()
        return lease_s
    return lease_s - age


def power_off(override: str | None = None) -> bool:
    """Power the machine off in the first way that works. `override` is a command, for tests."""
    ways = (("bash", "-c", override),) if override else _POWER_OFF
    for way in ways:
        try:
            done = subprocess.run(
                way,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return True
    return False


# --- the guard ----------------------------------------------------------------------------


def ensure_guard(lease_s: float | None, poweroff: str | None) -> None:
    """Begin a lease and make sure that a guard watches it."""
    grant(lease_s)
    if not lease_s:
        return
    log = os.path.join(home(), "guard.log")
    answer = spawn_detached(["guarding"], {"poweroff": poweroff}, log)
    if "error" in answer:
        raise AgentError(str(answer["error"]))


def guard() -> int:
    """`guard`: begin a lease before there is any job -> {"lease_s", "now"}, `now` by this machine's clock"""
    request = read_request()
    ensure_guard(request.get("lease_s"), request.get("poweroff"))
    say({"lease_s": length(), "now": time.time()})
    return 0


def guarding() -> int:
    """The guard itself: ends with the lease. A second one sees the first and ends at once."""
    request: dict[str, Any] = read_request()
    lock = try_lock(os.path.join(home(), "guard.lock"))
    say({"guarding": True})
    leave_standard_streams()
    if lock is None:
        return 0
    with lock:
        while (left := remaining()) is not None:
            if left > 0:
                time.sleep(min(1.0, max(0.05, left / 2)))
            elif not power_off(request.get("poweroff")):
                time.sleep(30)
            elif request.get("poweroff"):
                return 0
            else:
                time.sleep(60)  # the machine is going down; if it does not, try again
    return 0
