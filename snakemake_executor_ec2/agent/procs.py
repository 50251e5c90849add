"""What a job uses, read from /proc; if there is none (macOS), only what `wait` reports."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from typing import NamedTuple

_MIB = 1 << 20
_SET_CHILD_SUBREAPER = 36  # prctl's
_NO_LIMIT = 1 << 60  # the older hierarchy says so with a number near 2^63


class Sample(NamedTuple):
    """What a job's processes use at one moment."""

    cpu_seconds: float
    rss_mib: int
    disk_used: int
    """Bytes in use on the working directory's file system."""
    disk_free: int
    """Bytes that we may still write there, or in the temporary directory where that is fuller."""
    disk_size: int


class _Process(NamedTuple):
    pid: int
    parent: int
    session: int
    ticks: int
    rss_pages: int


def sample(root_pid: int, cwd: str) -> Sample:
    """Measure the process tree below (and of the session of) `root_pid`."""
    tree = _tree(root_pid, _processes())
    used, free, size = disk(cwd)
    return Sample(
        cpu_seconds=sum(process.ticks for process in tree) / os.sysconf("SC_CLK_TCK"),
        rss_mib=sum(process.rss_pages for process in tree) * os.sysconf("SC_PAGE_SIZE") // _MIB,
        disk_used=used,
        disk_free=free,
        disk_size=size,
    )


def _processes() -> list[_Process]:
    found = []
    try:
        names = os.listdir("/proc")
    except FileNotFoundError:
        return []
    for name in names:
        if not name.isdigit():
            continue
        # processes come and go while we look
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
            # utime, stime, and those of children that were waited for
            ticks = sum(int(field) for field in fields[11:15])
            found.append(_Process(int(name), int(fields[1]), int(fields[3]), ticks, int(fields[21])))
    return found


def _tree(root_pid: int, processes: list[_Process]) -> list[_Process]:
    children: dict[int, list[_Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    tree = {process.pid: process for process in processes if root_pid in (process.pid, process.session)}
    waiting = list(tree.values())
    while waiting:
        for child in children.get(waiting.pop().pid, []):
            if child.pid not in tree:
                tree[child.pid] = child
                waiting.append(child)
    return list(tree.values())


class Named(NamedTuple):
    """A process of any user."""

    pid: int
    parent: int
    uid: int
    name: str
    """Its program's, or what it calls itself: at most 15 characters."""


def named() -> list[Named]:
    """All processes of the machine."""
    found = []
    for name in os.listdir("/proc"):
        # processes come and go while we look
        with contextlib.suppress(OSError, ValueError, IndexError):
            if name.isdigit():
                said = _read(f"/proc/{name}/stat")
                title = os.fsdecode(said[said.index(b"(") + 1 : said.rindex(b")")])
                parent = int(said.rpartition(b")")[2].split()[1])
                found.append(Named(int(name), parent, os.stat(f"/proc/{name}").st_uid, title))
    return found


def adopt_orphans() -> None:
    """Let what descends from us and loses its parent (a daemon that forks twice) become our child."""
    with contextlib.suppress(OSError, AttributeError):  # not on macOS
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants(patience_s: float = 10.0) -> None:
    """Kill all our descendants, with sudo those of other users; returns when none is left. What cannot
    be killed now (it waits for a file system that does not answer) is left after a while."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        below = [process.pid for process in _tree(os.getpid(), _processes()) if process.pid != os.getpid()]
        if not below:
            return
        kill(below)
        time.sleep(0.01)


def kill(pids: list[int]) -> None:
    """Kill processes, with sudo those of other users."""
    others = []
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        except PermissionError:
            others.append(str(pid))
    if others:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                ["sudo", "-n", "kill", "-9", *others],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=5,
                check=False,
            )


def tree_of(root_pid: int) -> list[int]:
    """The processes below (and of the session of) `root_pid`."""
    return [process.pid for process in _tree(root_pid, _processes())]


def boot_id() -> str:
    """An id that changes with every boot; empty if the system has none (macOS)."""
    with contextlib.suppress(OSError):
        return _read("/proc/sys/kernel/random/boot_id").decode().strip()
    return ""


def disk(cwd: str) -> tuple[int, int, int]:
    """Bytes used on a directory's file system; free bytes and size of the fuller of that and /tmp."""
    try:
        here = os.statvfs(cwd)
    except OSError:  # the job removed its own directory
        return 0, _MIB << 20, 0
    used = (here.f_blocks - here.f_bfree) * here.f_frsize
    fullest = here
    with contextlib.suppress(OSError):
        temporary = os.statvfs(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - asked, not written
        if temporary.f_blocks and temporary.f_bavail * temporary.f_frsize < here.f_bavail * here.f_frsize:
            fullest = temporary
    return used, fullest.f_bavail * fullest.f_frsize, fullest.f_blocks * fullest.f_frsize


def max_rss_mib(ru_maxrss: int) -> int:
    """`ru_maxrss` in MiB: it is KiB on Linux and bytes on macOS."""
    return ru_maxrss // (_MIB if sys.platform == "darwin" else 1024)


def oom_kills() -> int:
    """How often the kernel has killed for lack of memory: in our control group, or the nearest above it,
    that has a limit of its own (the machine's count may then be of others), else on the machine."""
    with contextlib.suppress(OSError, ValueError):
        for folder, limit, events in _memory_groups():
            told = _read(os.path.join(folder, limit)).strip()
            if told != b"max" and int(told) < _NO_LIMIT:
                return _count(_read(os.path.join(folder, events)))
    with contextlib.suppress(OSError):
        return _count(_read("/proc/vmstat"))
    return 0


def _memory_groups() -> list[tuple[str, str, str]]:
    """Our control group in the kernel's older or newer hierarchy, there with those above it, as their
    counts are of all below: folder, file of the limit and of the count."""
    found = []
    for line in _read("/proc/self/cgroup").decode().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            found.append((f"/sys/fs/cgroup/memory{path}", "memory.limit_in_bytes", "memory.oom_control"))
        elif not controllers:
            groups = [path.rstrip("/")]
            while groups[-1]:
                groups.append(os.path.dirname(groups[-1]).rstrip("/"))
            folders = [f"/sys/fs/cgroup{group}" for group in groups]
            found += [
                (folder, "memory.max", "memory.events")
                for folder in folders
                if os.path.exists(f"{folder}/memory.max")
            ]
    return found


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _count(counters: bytes) -> int:
    found = re.search(rb"^oom_kill (\d+)$", counters, re.MULTILINE)
    return int(found[1]) if found else 0


def oom_line() -> str:
    """The kernel's last word on a process that it killed, where we may read its log."""
    for command in (["dmesg"], ["sudo", "-n", "dmesg"]):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=False
            )
            lines = re.findall(rb"Killed process \d+ \([^)]*\)", done.stdout)
            if lines:
                return str(lines[-1].decode(errors="replace"))
    return ""


def shutting_down() -> bool:
    """Whether the machine is on its way down, so that a job's death is not its own."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            ["systemctl", "is-system-running"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=3,
            check=False,
        )
        return done.stdout.strip() == b"stopping"
    return False
