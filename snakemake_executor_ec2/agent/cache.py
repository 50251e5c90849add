"""Large files that stay on a machine from one job to the next, so that they are sent once.

A file is kept if its job has not changed it, which the kernel's change time tells. It is moved and not copied
(unless it is on another disk than the home directory): into the cache when its job has ended, and from there
to where the next job reads it. The controller names a file by all that would differ if it were another one or
had changed (`staging/identity.py`). What the job has made is kept too, under its place and size; whether it
is what the controller has of it, a checksum has to say.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping

from . import local_disks
from .files import Ours
from .state import home, read_request, say, write_whole

_NAME = re.compile(r"[0-9a-f]{64}")
_MIB = 1 << 20


def place(name: str) -> str:
    """Where a file of this name is between two jobs. Raises FileNotFoundError for what is no name."""
    if not _NAME.fullmatch(name):
        raise FileNotFoundError(name)
    return os.path.join(folder(), name)


def folder() -> str:
    """Where they are between two jobs."""
    return os.path.join(local_disks.files(home()), "cache")


def take() -> int:
    """`take`: {"files": {path: name}, "status": {path: [mode, mtime_ns]}, "free_mib"} -> {"there": [path, …]}

    Puts files to where a job reads them, as far as they are here, with this mode and time where they are
    given. If less than `free_mib` is free on the disk then, the others are removed, which are of no use to
    this job.
    """
    request = read_request()
    files = {str(path): str(name) for path, name in request["files"].items()}
    already = _placed()
    write_whole(_note(), json.dumps({**already, **files}))
    ours = Ours()
    there = [path for path, name in files.items() if _put(path, name, ours) or _is_there(path, name, already)]
    for path, (mode, mtime_ns) in request["status"].items():
        if path in there:
            os.chmod(path, int(mode) & 0o777)
            os.utime(path, ns=(int(mtime_ns), int(mtime_ns)))
    if free_mib() < int(request["free_mib"]):
        forget()
    say({"there": there})
    return 0


def checksums() -> int:
    """`checksums`: {"names": [name, …]} -> {"sha256": {name: hexadecimal}}, of those that are here"""
    found = {}
    for name in map(str, read_request()["names"]):
        with contextlib.suppress(OSError), open(place(name), "rb") as file:
            digest = hashlib.sha256()
            while data := file.read(_MIB):
                digest.update(data)
            found[name] = digest.hexdigest()
    say({"sha256": found})
    return 0


def keep(files: Mapping[str, str], made: Mapping[str, str], since_ns: int) -> None:
    """Keep what a job has made, those of its files that have not changed since it began, and of the older
    ones too."""
    os.makedirs(folder(), mode=0o700, exist_ok=True)
    for each in list(os.scandir(folder())):
        if each.stat(follow_symlinks=False).st_ctime_ns > since_ns:
            os.unlink(each.path)
    ours = Ours()
    for path, name in (*files.items(), *made.items()):
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            alone = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and ours.covers(path)
            alone = alone and status.st_uid == os.getuid()  # else its mode could not be set
            if alone and (path in made or status.st_ctime_ns <= since_ns):
                _move(path, place(name))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_note())


def forget() -> None:
    """Remove what is kept."""
    with contextlib.suppress(FileNotFoundError):
        for each in list(os.scandir(folder())):
            os.unlink(each.path)


def free_mib() -> int:
    """What the disk has left."""
    space = os.statvfs(local_disks.files(home()))
    return space.f_bavail * space.f_frsize // _MIB


def size_mib() -> int:
    """What it would have left in addition after `forget`."""
    try:
        return sum(each.stat(follow_symlinks=False).st_blocks for each in os.scandir(folder())) * 512 // _MIB
    except FileNotFoundError:
        return 0


def _put(path: str, name: str, ours: Ours) -> bool:
    if not ours.covers(path) or os.path.lexists(path):
        return False
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _move(place(name), path)
        return True
    return False


def _move(path: str, to: str) -> None:
    """Move a file; whole or not at all, also to another file system."""
    path, to = local_disks.behind(path), local_disks.behind(to)
    try:
        os.rename(path, to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copy2(path, f"{to}.part")
        os.rename(f"{to}.part", to)
        os.unlink(path)


def _is_there(path: str, name: str, already: Mapping[str, str]) -> bool:
    """Whether an earlier call, whose answer was lost, has put it there."""
    return already.get(path) == name and not os.path.lexists(place(name)) and os.path.lexists(path)


def _note() -> str:
    return os.path.join(home(), "taken.json")


def _placed() -> dict[str, str]:
    try:
        with open(_note(), encoding="ascii") as file:
            return dict(json.load(file))
    except (OSError, ValueError):
        return {}
