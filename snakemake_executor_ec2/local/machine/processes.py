"""Ends every process of a host that has no process-id namespace to do it for us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

_PATIENCE_S = 5.0


class Family:
    """This process's descendants.

    On Linux orphans come back to us, so that looking at the end is enough. Elsewhere a process that detached
    is nobody's child any more: `look` must have been called while its parent lived.
    """

    def __init__(self) -> None:
        self._known: dict[int, str] = {}
        if sys.platform == "linux":
            from . import linux

            linux.adopt_orphans()

    def look(self) -> None:
        """Remember who is there now."""
        started, parents = _process_table()
        self._known = {pid: start for pid, start in self._known.items() if started.get(pid) == start}
        members = {os.getpid(), *self._known}
        while found := {pid for pid, parent in parents.items() if parent in members and pid not in members}:
            members |= found
        members.discard(os.getpid())
        self._known = {pid: started[pid] for pid in members}

    def end(self) -> None:
        """Kill them all, also those that appear meanwhile."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            self.look()
            if not self._known:
                return
            for pid in self._known:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.01)


def _process_table() -> tuple[dict[int, str], dict[int, int]]:
    """(when each process started, whose child it is), without the `ps` that looks and without zombies."""
    with subprocess.Popen(
        ["ps", "-A", "-o", "pid=,ppid=,stat=,lstart="], stdout=subprocess.PIPE, text=True
    ) as lister:
        lines = lister.communicate()[0].splitlines()
    started: dict[int, str] = {}
    parents: dict[int, int] = {}
    for line in lines:
        pid, parent, state, start = line.split(None, 3)
        if int(pid) != lister.pid and not state.startswith("Z"):
            started[int(pid)], parents[int(pid)] = start, int(parent)
    return started, parents
