"""`clean`: a machine between two jobs, so that the next one sees nothing of the one before.

Before a job is started, what is there is noted (`note`). After it, what is new is removed: its working
directory, temporary files, what it left in the home directory, its processes. What was there and has changed
(software, a profile, a system file, a mount) cannot be put back: then the answer says what, and the machine
is not used again. The kernel's change time (ctime) tells; a job cannot set it.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from . import cache, ipc, lease, mounts, procs, units
from .files import Ours
from .state import boottime, home, job_dir, read_request, say, try_lock, write_whole

_NOTED = "before-job"
_SYSTEM = (
    *("/etc", "/usr", "/opt", "/srv", "/mnt", "/media", "/home", "/root"),
    *("/var/spool", "/var/www", "/var/lib/rpm", "/var/lib/dpkg"),
)
"""Where only root may write: what a job has added, replaced or removed there with sudo stays."""
_NOT_OF_JOBS = ("*/__pycache__*", "/etc/resolv.conf*", "/etc/mtab", "/etc/adjtime")
_FIND_SPECIAL = re.compile(r"[*?\[\]\\]")
_LOOK_S = 40
_CLOCK_S = 0.25
"""By how much two readings of the clocks may differ without one of them having been set."""
_MOST = 50_000
"""Files in the home and temporary directories. With more, a look would take too long."""
_ENDINGS = (".lock", ".log", ".pyc")
"""Of files beside the software that change when it is used."""
_AT_ONCE = 500
_BOOT = "/var/lib/cloud/instance"
_BOOT_S = 15.0
_PATIENCE_S = 5.0
_CONTAINERS = ("containerd-shim", "conmon")
_LOGIN = ("systemd", "(sd-pam)", "dbus-")
"""What the system starts for a user who logs in."""


class Dirty(Exception):
    """What a job has changed and cannot be undone: half a sentence."""


class _Before(NamedTuple):
    names: Mapping[str, int]
    """Of all files and directories in the home and temporary directories; a directory's mode, else 0."""
    processes: frozenset[int]
    mounts: frozenset[str]
    ipc: frozenset[str]
    units: frozenset[str]
    software: int
    """How many files it has."""
    clock: float
    """The time of day less that since the boot: it changes only when the clock is set."""


def note(key: str) -> None:
    """Note what is there before a job is started. What cloud-init still changes would count as the job's: it
    is waited for, for a while."""
    path = os.path.join(home(), _NOTED)
    deadline = time.monotonic() + _BOOT_S
    while os.path.isdir(_BOOT) and not os.path.exists(f"{_BOOT}/boot-finished"):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    names = {each.path: each.mode() for each in islice(_everything(), _MOST + 1)}
    told: dict[str, Any] = {"key": key, "names": names, "processes": _pids(), "clock": _clock()}
    told.update(mounts=sorted(mounts.points()), ipc=sorted(ipc.there()), units=sorted(units.there()))
    told.update(software=sum(1 for _ in _software()))
    if len(names) > _MOST:
        told = {"key": key, "too_many": True}
    write_whole(path, json.dumps(told))


def _clock() -> float:
    return time.time() - boottime()


def main() -> int:
    """`clean`: {"key", "keep": {path: name}, "made": {path: name}} -> {"changed", "free_mib"}

    `keep` are large files that were sent for the job, `made` those that it has made: they may stay for the
    next one (see `cache.py`).
    `changed` says what the job of this key has changed for good; empty: the machine is as it was before it,
    but for its caches. `free_mib` is what the disk of the home directory has left without those.
    """
    request, changed = read_request(), ""
    try:
        _clean(str(request["key"]), request["keep"], request["made"])
    except Dirty as error:
        changed = str(error)
    lease.ensure_guard(lease.length(), None)
    say({"changed": changed, "free_mib": cache.free_mib() + cache.size_mib()})
    return 0


def _clean(key: str, keep: Mapping[str, str], made: Mapping[str, str]) -> None:
    before, since_ns = _noted(key)
    if _clock() < before.clock - _CLOCK_S:
        raise Dirty("the clock was set back, so what it has changed cannot be told")
    _wait_for_supervisor(job_dir(key))
    _end_processes(before.processes)
    if stays := ipc.remove(before.ipc):
        raise Dirty(f"it has left what cannot be removed: {stays}")
    if new := sorted(mounts.points() - before.mounts):
        raise Dirty(f"it has left a mount: {new[0]}")
    if unit := units.new(before.units):
        raise Dirty(f"it has left a unit of systemd: {unit}")
    _look_at_system(os.path.join(home(), _NOTED), since_ns)
    _look_at_software(before.software, since_ns)
    cache.keep(keep, made, since_ns)
    _remove_new(before.names, since_ns)
    _remove_trees()
    for name in ("stand-ins", "late/waited.json", "late/failed", "looked", _NOTED):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(home(), name))
    for folder in ("jobs", "arriving"):
        shutil.rmtree(os.path.join(home(), folder), ignore_errors=True)


def _noted(key: str) -> tuple[_Before, int]:
    path = os.path.join(home(), _NOTED)
    try:
        with open(path, encoding="ascii") as file:
            told = json.load(file)
        since_ns = os.stat(path).st_mtime_ns
    except (OSError, ValueError):
        told, since_ns = {}, 0
    if told.get("key") != key:
        raise Dirty("what was there before it was not noted")
    if told.get("too_many"):
        raise Dirty(f"there were more than {_MOST:,} files in its home and temporary directories before")
    sets = {name: frozenset(told[name]) for name in ("processes", "mounts", "ipc", "units")}
    return _Before(names=told["names"], software=told["software"], clock=told["clock"], **sets), since_ns


# --- processes and mounts -----------------------------------------------------------------


def _wait_for_supervisor(folder: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while (lock := try_lock(os.path.join(folder, "supervisor.lock"))) is None:
        if time.monotonic() > deadline:
            raise Dirty("its supervisor has not ended")
        time.sleep(0.02)
    lock.close()


def _end_processes(before: frozenset[int]) -> None:
    """End what the job has started outside of its own process tree (`systemd-run --user`, for instance)."""
    deadline = time.monotonic() + _PATIENCE_S
    while left := list(_left(before)):
        if time.monotonic() > deadline:
            raise Dirty(f"a process that it started cannot be ended: {left[0].name}")
        procs.kill([each.pid for each in left])
        time.sleep(0.05)


def _left(before: frozenset[int]) -> Iterator[procs.Named]:
    """Processes of ours that were not there before; those that belong to an ssh login are the user's."""
    known = {each.pid: each for each in procs.named()}
    spared = {*before, *(each.pid for each in _above(known[os.getpid()], known))}
    for each in known.values():
        if each.pid in spared:
            continue
        if each.name.startswith(_CONTAINERS):
            raise Dirty("it has left a container running")
        ours = each.uid == os.getuid() and not each.name.startswith(_LOGIN)
        # What the kernel starts for itself is root's, as a job may be.
        if ours and not any(above.name.startswith(("sshd", "kthreadd")) for above in _above(each, known)):
            yield each


def _above(process: procs.Named, known: dict[int, procs.Named]) -> Iterator[procs.Named]:
    """A process, its parent, and so on."""
    seen: set[int] = set()
    current: procs.Named | None = process
    while current is not None and current.pid not in seen:
        seen.add(current.pid)
        yield current
        current = known.get(current.parent)


def _pids() -> list[int]:
    return [each.pid for each in procs.named()]


# --- what was there before ----------------------------------------------------------------


def _look_at_system(reference: str, since_ns: int) -> None:
    """Whether anything has changed where only root may write. If sudo is not allowed, it was not to the job
    either, and what we may not look into does not matter."""
    if os.stat("/").st_ctime_ns > since_ns:
        raise Dirty("it has changed what is in /")
    # The last place has changed for certain: where find does not name it, it has not looked at all.
    probe = os.path.join(home(), "looked")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(probe)
    with open(probe, "w", encoding="ascii"):
        pass
    places = [place for place in _SYSTEM if os.path.isdir(place) and not os.path.islink(place)]
    literal = [
        os.path.expanduser("~"),
        *mounts.temporary(),
        *_uppermost(Ours().directories),
        *sorted(mounts.points("ro")),
    ]
    skipped = [*(_FIND_SPECIAL.sub(r"\\\g<0>", path) for path in literal), *_NOT_OF_JOBS]
    pruned = [word for pattern in skipped for word in ("-path", pattern, "-o")][:-1]
    # Of /usr the uppermost directories, and what package managers note: to read 50,000 inodes from a new disk
    # takes many seconds.
    deep = ["(", "-path", "/usr/*/*", "-not", "-path", "/usr/local/*", ")"]
    command = ["timeout", str(_LOOK_S), "find", *places, probe, "-xdev", "(", *pruned, "-o", *deep, ")"]
    command += ["-prune", "-o", "-cnewer", reference, "-print", "-quit"]
    if os.geteuid() != 0 and _may_sudo():
        command[:0] = ["sudo", "-n"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise Dirty("the programs find and timeout, which would tell, are not on the image") from error
    found = os.fsdecode(done.stdout.split(b"\n")[0])
    if not found:
        why = os.fsdecode(done.stderr.strip().split(b"\n")[-1]) or f"it took longer than {_LOOK_S} s"
        raise Dirty(f"what it has changed in the system could not be looked up ({why})")
    if found != probe:
        raise Dirty(f"it has changed {found}")


def _uppermost(paths: Iterable[str]) -> list[str]:
    """Those that are not below another one."""
    known = set(paths)
    return sorted(path for path in known if os.path.dirname(path) not in known)


def _may_sudo() -> bool:
    with contextlib.suppress(OSError):
        sudo = subprocess.run(
            ["sudo", "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        return not sudo.returncode
    return False


def _look_at_software(before: int, since_ns: int) -> None:
    """Whether what the agent has installed is as it was; an installation during the job has its own time."""
    for note_of in glob.glob(os.path.join(glob.escape(home()), "software-*.json")):
        since_ns = max(since_ns, os.stat(note_of).st_ctime_ns)
    number = 0
    for each in _software():
        number += 1
        if each.status().st_ctime_ns > since_ns:
            raise Dirty(f"it has changed the software on its machine: {each.path}")
    if number < before:
        raise Dirty("it has removed some of the software on its machine")


def _software() -> Iterator[_Found]:
    """The files of the agent and of what it has installed."""
    state = home()
    own = {state, os.path.join(state, "late")}
    skipped = {os.path.join(state, "jobs"), cache.folder(), *Ours().directories}
    for each in _below(state):
        if each.path in skipped or each.name == "__pycache__":
            each.enter = False
        elif not (each.is_dir or os.path.dirname(each.path) in own or each.name.endswith(_ENDINGS)):
            yield each


# --- what is new ----------------------------------------------------------------------------


class _Found:
    """A file or directory; whether what is in it is looked at as well."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self.path, self.name = entry.path, entry.name
        self.is_dir = self.enter = entry.is_dir(follow_symlinks=False)

    def status(self) -> os.stat_result:
        return os.lstat(self.path)

    def mode(self) -> int:
        """Of a directory; 0 of what is none, or has just been removed."""
        with contextlib.suppress(FileNotFoundError):
            return self.status().st_mode if self.is_dir else 0
        return 0


def _below(place: str) -> Iterator[_Found]:
    """What is in a directory and those below it, a directory before its content. Links are not followed."""
    waiting = [place]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for found in map(_Found, entries):
                yield found
                if found.enter:
                    waiting.append(found.path)


def _everything() -> Iterator[_Found]:
    """All that is in the home and temporary directories, but for what is the agent's own."""
    skipped = {home(), *Ours().directories}
    for place in (os.path.expanduser("~"), *mounts.temporary(), f"/run/user/{os.getuid()}"):
        for each in _below(place):
            if each.path in skipped:
                each.enter = False
            else:
                yield each


def _remove_new(before: Mapping[str, int], since_ns: int) -> None:
    """Remove what the job has left in the home and temporary directories."""
    in_home = os.path.expanduser("~") + "/"
    new, there = [], set()
    for each in _everything():
        if each.path not in before:
            each.enter = False
            new.append(each.path)
            continue
        there.add(each.path)
        with contextlib.suppress(FileNotFoundError):
            if _has_changed(each, before[each.path], since_ns, in_home):
                raise Dirty(f"it has changed {each.path}")
    if gone := sorted(path for path in before.keys() - there if path.startswith(in_home)):
        raise Dirty(f"it has removed {gone[0]}")
    _remove(path for path in new if path.startswith(in_home) or _is_a_job_s(path))


def _has_changed(each: _Found, mode: int, since_ns: int, in_home: str) -> bool:
    """Whether a job has changed what was there: anything at home, and our files in temporary directories.
    The system changes its own there, and in /run/user ours."""
    status = each.status()
    if not each.path.startswith(in_home):
        ours = status.st_uid == os.getuid() and stat.S_ISREG(status.st_mode)
        if not ours or each.path.startswith("/run/user/"):
            return False
    return status.st_mode != mode if each.is_dir else status.st_ctime_ns > since_ns


def _is_a_job_s(path: str) -> bool:
    """Whether something new in a temporary directory was left by a job: services have some of their own."""
    try:
        uid = os.lstat(path).st_uid
    except FileNotFoundError:
        return False
    name = os.path.basename(path)
    return not name.startswith(("systemd-private-", "snap-private-tmp")) or 0 < uid == os.getuid()


def _remove_trees() -> None:
    """Remove the directories that were made for the job, and files that were put elsewhere for it."""
    with try_lock(os.path.join(home(), "ours.lock"), wait=True):  # type: ignore[union-attr]
        ours = Ours()
        stay = {path for path in ours.directories if os.path.ismount(path) or os.path.islink(path)}
        inside = [os.path.join(path, name) for path in stay for name in os.listdir(path)]
        _remove([*(ours.directories - stay), *inside, *ours.files])
        ours.directories, ours.files = stay, set()
        ours.save()


def _remove(paths: Iterable[str]) -> None:
    """Remove files and trees, with sudo what is others'. Raises Dirty if one is still there."""
    left = [path for path in paths if os.path.lexists(path)]
    for prefix in ((), ("sudo", "-n")):
        for i in range(0, len(left), _AT_ONCE):
            with contextlib.suppress(OSError):
                command = [*prefix, "rm", "-rf", "--one-file-system", "--", *left[i : i + _AT_ONCE]]
                subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        left = [path for path in left if os.path.lexists(path)]
        if not left:
            return
    for path in left:  # directories of ours that are closed, and there is no sudo
        with contextlib.suppress(OSError):
            os.chmod(path, stat.S_IRWXU)
        for each in _below(path):
            if each.is_dir:
                with contextlib.suppress(OSError):
                    os.chmod(each.path, stat.S_IRWXU)
        shutil.rmtree(path, ignore_errors=True)
        if os.path.lexists(path):
            raise Dirty(f"what it has left cannot be removed: {path}")
