"""`workdir`, `unpack`, `pack`: directories and files on the machine, at their absolute paths."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, BinaryIO

from .descriptors import widen
from .state import AgentError, home, read_request, say, stand_ins_table, try_lock

# What only one of the commands needs is imported there: from the agent's zip file, a module is compiled anew
# each time, and who waits for files waits for that.

_BUFFER = 1 << 20
_PACKED = ("directory", "file", "symlink")
_MOST_REASONS, _LONGEST_REASON = 16, 1000


# --- what is ours -------------------------------------------------------------------------


class Ours:
    """The directories that this agent made, and the files that it put into others' directories.

    Kept outside of them, so that a job finds nothing beside its own files.
    """

    def __init__(self) -> None:
        self._path = os.path.join(home(), "ours.json")
        try:
            with open(self._path, encoding="ascii") as file:
                known = json.load(file)
        except FileNotFoundError:
            known = {}
        self.directories: set[str] = set(known.get("directories", []))
        self.files: set[str] = set(known.get("files", []))

    def covers(self, path: str) -> bool:
        """Whether a path is a directory that we made, or below one."""
        while path not in self.directories:
            parent = os.path.dirname(path)
            if parent == path:
                return False
            path = parent
        return True

    def save(self) -> None:
        part = f"{self._path}.{os.getpid()}"
        with open(part, "w", encoding="ascii") as file:
            json.dump({"directories": sorted(self.directories), "files": sorted(self.files)}, file)
        os.replace(part, self._path)


def _lock_ours() -> Any:
    return try_lock(os.path.join(home(), "ours.lock"), wait=True)


# --- workdir ------------------------------------------------------------------------------


def workdir() -> int:
    """`workdir`: {"paths": […], "parents": […], "local_disk_mb"} -> {"answers": [{"path", "ok", "reason"}]}

    `paths` are trees that are to be ours alone: made here, or empty, or ours from before.
    `parents` are directories that single files will be put into: they may exist and hold
    other things, as long as we may write there. With `local_disk_mb` the machine's local disks
    are to be used, for the trees as well if so much room is on them.
    """
    from .local_disks import Disks

    request = read_request()
    disks, disk_mb = Disks(), request.get("local_disk_mb")
    with _lock_ours():
        ours = Ours()
        if disk_mb is not None:
            disks.mount(os.path.join(home(), "local-disks"))
        answers = [_prepare(str(path), ours, alone=True) for path in request.get("paths", [])]
        if disk_mb is not None:
            for answer in filter(itemgetter("ok"), answers):
                disks.hold(answer["path"], int(disk_mb))
        answers += [_prepare(str(path), ours, alone=False) for path in request.get("parents", [])]
        ours.save()
    say({"answers": answers})
    return 0


def _prepare(path: str, ours: Ours, *, alone: bool) -> dict[str, Any]:
    try:
        reason = _obstacle(path, ours, alone=alone)
    except (AgentError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return {"path": path, "ok": not reason, "reason": reason}


def _obstacle(path: str, ours: Ours, *, alone: bool) -> str:
    """Make a directory usable; what keeps it from being, or an empty string."""
    if not os.path.isabs(path):
        return "it is not an absolute path"
    path = os.path.normpath(path)
    ours.directories.update(_make(path))
    if alone and not ours.covers(path) and os.listdir(path):
        return "it exists there and is not empty"
    if not os.access(path, os.W_OK | os.X_OK):
        return "it exists there and is not writable"
    if alone:
        ours.directories.add(path)
    return ""


def _make(path: str) -> list[str]:
    """Make a directory and its parents, with sudo if necessary; returns those that are new."""
    missing = []
    parent = path
    while not os.path.lexists(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        raise AgentError(f"{parent} exists there and is no directory")
    missing.reverse()
    if not missing:
        return []
    try:
        os.makedirs(path, exist_ok=True)
    except PermissionError as error:
        _sudo("mkdir", "-p", "--", path, because=error)
        _sudo("chown", "-h", _owner(), "--", *missing, because=error)
    return missing


def _owner() -> str:
    return f"{os.getuid()}:{os.getgid()}"


def _sudo(*command: str, because: OSError) -> None:
    import subprocess

    try:
        done = subprocess.run(
            ["sudo", "-n", *command], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except (FileNotFoundError, PermissionError):  # the latter, if PATH has folders closed to us
        raise because from None
    if done.returncode:
        raise AgentError(done.stderr.decode(errors="replace").strip() or f"sudo {command[0]} failed")


# --- unpack and pack ----------------------------------------------------------------------


def unpack(transfer: str = "", lanes: Sequence[str] = ()) -> int:
    """`unpack [TRANSFER [LANE …]]`: an archive on standard input, and lanes -> {"placed": N, "bytes": N}

    Never replaces what it did not put there, except in directories that we made. What an archive that breaks
    off has brought waits for another attempt at the same transfer (see `arriving.py`).
    """
    from .archive import ArchiveError, read_archive
    from .arriving import Arriving
    from .lanes import open_lanes

    # No lock while the archive comes: over a connection that is half open it may never end.
    ours = Ours()
    foreign: list[str] = []

    def place(name: str) -> str:
        if not ours.covers(name):
            if os.path.lexists(name) and name not in ours.files:
                raise ArchiveError(f"{name} exists on the machine and is not ours")
            foreign.append(name)
        return name

    fds = [0, *open_lanes(lanes)]
    with _input(fds) as stream, Arriving(transfer, fds) as arriving:
        contents = read_archive(stream, place, stash=arriving.stash)
        if foreign:
            with _lock_ours():
                ours = Ours()
                ours.files.update(foreign)
                ours.directories.update(name for name in foreign if _is_directory(name))
                ours.save()
        arriving.answer = {"placed": len(contents.placed), "bytes": contents.size}
    say(arriving.answer)
    return 0


def _input(fds: Sequence[int]) -> BinaryIO:
    """Standard input, and what comes over more lanes."""
    for fd in fds:
        widen(fd)
    if len(fds) > 1:
        from .lanes import Joined

        return io.BufferedReader(Joined(fds), _BUFFER)
    return open(0, "rb", buffering=_BUFFER, closefd=False)


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def pack() -> int:
    """`pack`: {"paths": […], "must": […], "have": {key: bytes}, "most"} -> an archive of those that exist

    On standard output; the content that the other side has (see `stash.py`) is left out. If it would be of
    more than `most` bytes, nothing is sent but {"later": true} at its beginning: it will be asked for again.

    It begins with {"paths": {path: {"kind", "bytes"}}}, kind being `file`, `directory`, `symlink`,
    `missing`, `pipe`, `socket`, `device`, `unreadable` ("why" says it of the first ones) or `stand-in` (is
    or holds one). Only the first three are packed; where one of `must` is not, nothing is sent.
    """
    from .archive_writer import Entry, write_archive

    request = read_request()
    must = [str(path) for path in request.get("must", [])]
    wanted = [*must, *(str(path) for path in request.get("paths", []))]
    found, closed = _look_at(wanted)
    _tell_unreadable({path: told for path, told in found.items() if path in closed})
    _tell_stand_ins(found)
    there = [path for path in found if found[path]["kind"] in _PACKED]
    if not set(must) <= set(there):
        there = []
    begin: dict[str, Any] = {"paths": found}
    have = request.get("have", {})
    if sum(found[path]["bytes"] for path in there) - sum(have.values()) > request.get("most", float("inf")):
        begin["later"], there = True, []
    widen(1)
    with open(1, "wb", buffering=_BUFFER, closefd=False) as stream:
        write_archive(stream, (Entry(path, path) for path in there), begin=begin, open_up=True, have=have)
    return 0


def _tell_stand_ins(found: dict[str, dict[str, Any]]) -> None:
    """What was never sent here does not come back as a result: a job may have moved it into its own."""
    if not os.path.exists(stand_ins_table()):
        return
    from .standins import StandIns

    stand_ins = StandIns()
    for path, told in found.items():
        if stand_ins.first_in(path):
            told.update(kind="stand-in")


def _tell_unreadable(found: dict[str, dict[str, Any]]) -> None:
    reasons = 0
    for path, told in found.items():
        if told["kind"] in ("file", "directory"):
            closed = _closed_in(path)
            if closed:
                told.update(kind="unreadable")
                if reasons < _MOST_REASONS:  # the reader takes a note of no more bytes than it expects
                    told.update(why=f"{closed[:_LONGEST_REASON]}: Permission denied")
                reasons += 1


def _closed_in(path: str) -> str:
    """The parts of a file or directory that cannot be read; our own files can be, whatever their mode."""
    status = os.lstat(path)
    is_directory = stat.S_ISDIR(status.st_mode)
    if not (is_directory or stat.S_ISREG(status.st_mode)):
        return ""
    if not os.access(path, os.R_OK | os.X_OK if is_directory else os.R_OK):
        return "" if status.st_uid == os.geteuid() else path
    children = sorted(child.path for child in os.scandir(path)) if is_directory else []
    return next(filter(None, map(_closed_in, children)), "")


def _look_at(paths: list[str]) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """What each of the paths is, and which of them something prevented from being read.

    Files that a step with sudo has left to root alone are taken over, if sudo allows it; otherwise reading
    them fails and says why.
    """
    found, locks, closed = {}, {}, _closed_folders(paths)
    for path in paths:
        lock = closed.get(os.path.dirname(path), "")
        if not lock:
            found[path], is_readable = _describe(path)
            lock = "" if is_readable else path
        if lock:
            locks[path] = lock
    if locks:
        with contextlib.suppress(AgentError, PermissionError):
            locked = sorted({*locks.values()})
            _sudo("chown", "-R", "-h", _owner(), "--", *locked, because=PermissionError())
        found.update((path, _describe(path)[0]) for path in locks)
    return found, set(locks)


def _closed_folders(paths: list[str]) -> dict[str, str]:
    """By the folders that paths are in: one of ours on the way that keeps us from them, if there is one."""
    ours = Ours()
    found = {}
    for folder in {os.path.dirname(path) for path in paths}:
        parts = folder.split(os.sep)
        on_the_way = (os.sep.join(parts[:depth]) for depth in range(2, len(parts) + 1))
        closed = (each for each in on_the_way if os.path.isdir(each) and not os.access(each, os.X_OK))
        first = next(closed, "")
        if first and ours.covers(first):
            found[folder] = first
    return found


def _describe(path: str) -> tuple[dict[str, Any], bool]:
    """What a path is, and whether all of it can be read."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"kind": "missing", "bytes": 0}, True
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        size, is_readable = _inside(path)
        return {"kind": "directory", "bytes": size}, is_readable
    if stat.S_ISLNK(mode):
        return {"kind": "symlink", "bytes": 0}, True
    is_readable = _is_readable(path, status)
    if stat.S_ISREG(mode):
        return {"kind": "file", "bytes": status.st_size}, is_readable
    kinds = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"))
    kind = next((kind for is_one, kind in kinds if is_one(mode)), "device")
    return {"kind": kind, "bytes": 0}, is_readable


def _inside(folder: str) -> tuple[int, bool]:
    """The bytes of what is in a folder, as far as it can be read; and whether all of it can."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return 0, False
    size, is_readable = 0, True
    with os.scandir(folder) as children:
        for child in children:
            if child.is_dir(follow_symlinks=False):
                below, can_be_read = _inside(child.path)
            elif child.is_symlink():
                continue
            else:
                try:
                    status = child.stat(follow_symlinks=False)
                except FileNotFoundError:  # removed since
                    continue
                below, can_be_read = status.st_size, _is_readable(child.path, status)
            size += below
            is_readable &= can_be_read
    return size, is_readable


def _is_readable(path: str, status: os.stat_result) -> bool:
    """Whether we can read what is not a folder. The mode of our own files tells that, without a question."""
    return (status.st_uid == os.geteuid() and bool(status.st_mode & stat.S_IRUSR)) or os.access(path, os.R_OK)
