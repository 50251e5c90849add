"""Stand-ins: what is on the controller and was not sent is here by name, size and time, and unreadable.

They are sparse files that anybody may write to and nobody may read, of another owner than the
job's if that can be had: a job that opens one fails, instead of computing with what is not there. A
job that writes its own file in the place of one, as it may at home, gets its way. Folders are the job's own.

Capabilities let root read anything; a job that runs as root does without those (`keep_from_reading`).
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .files import Ours
from .state import AgentError, say, stand_ins_table

MODE = 0o222
_CLOSED = 0o000
_IS_CLOSED, _CHANGES = 1, 2
"""What a line of a list is, beside a whole folder."""
_OTHERS = (0, 65534)
"""Owners of stand-ins: root, and nobody where the job is root."""
_DROP_FROM_BOUNDS = 24  # prctl's PR_CAPBSET_DROP
_OVERRIDES = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
_CHOWN = (
    "import os, sys\n"
    "for path in sys.stdin.buffer.read().split(b'\\0'):\n"
    "    path and os.chown(path, int(sys.argv[1]), int(sys.argv[1]), follow_symlinks=False)\n"
)


def main() -> int:
    """`stand-ins`: a line of JSON, then lists (see `staging/view.py`) -> {"made", "readable"}

    The request: {"roots": [[path, the controller's path], …], "own": [path, …], "shift_ns", "lists": [bytes,
    …]}. `own` is what the job makes: none of that gets a stand-in. What is here already stays.
    """
    stream = sys.stdin.buffer
    try:
        request = json.loads(stream.readline())
        folders = _folders([stream.read(int(size)) for size in request["lists"]])
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise AgentError(f"the list of files is damaged: {error}") from error
    os.umask(0)
    making = _Making(folders, request)
    for path, origin in request["roots"]:
        making.fill(path, origin)
    making.finish()
    say({"made": len(making.made), "readable": making.readable()})
    return 0


class StandIns:
    """Which files are stand-ins, whatever they are called now."""

    def __init__(self) -> None:
        numbers = array.array("q")
        with contextlib.suppress(FileNotFoundError), open(stand_ins_table(), "rb") as file:
            numbers.frombytes(file.read())
        self._times = dict(zip(numbers[::2], numbers[1::2]))  # noqa: B905 - not in Python 3.9

    def __bool__(self) -> bool:
        return bool(self._times)

    def has(self, status: os.stat_result) -> bool:
        """Whether a file is one: an inode may be given out again, but not with that time or mode."""
        time = self._times.get(status.st_ino)
        return time is not None and (status.st_mtime_ns == time or status.st_mode & 0o777 == MODE)

    def first_in(self, path: str) -> str | None:
        """A stand-in that is, or is below, a path."""
        if not self:
            return None
        return next((each for each, status in _below(path) if self.has(status)), None)


def keep_from_reading() -> None:
    """Let this process, and all that it starts, obey the modes of files even as root."""
    if os.geteuid() == 0:
        import ctypes

        library = ctypes.CDLL(None)
        for capability in _OVERRIDES:
            library.prctl(_DROP_FROM_BOUNDS, capability, 0, 0, 0)


class _Making:
    def __init__(self, folders: dict[str, _Folder], request: dict[str, Any]) -> None:
        self._folders = folders
        self._own = set(request["own"])
        self._shift_ns = int(request["shift_ns"])
        self._moved = [(path, origin) for path, origin in request["roots"] if path != origin]
        self._ours = Ours()
        self._known = StandIns()
        self._closed: list[str] = []
        self._times: list[tuple[str, int]] = []
        self._inodes = array.array("q")
        self.made: list[str] = []

    def fill(self, path: str, origin: str) -> None:
        """Make what is in one folder of the controller's, and in those below."""
        waiting = [(path, origin)]
        while waiting:
            path, origin = waiting.pop()
            folder = self._folders.get(origin)
            if not self._have(path, closed=folder is not None and folder.closed) or folder is None:
                continue
            self._times.append((path, folder.mtime_ns + self._shift_ns))
            for name, (size, time_ns) in folder.files.items():
                self._file(f"{path}/{name}", size, time_ns + self._shift_ns)
            for name, text in folder.links.items():
                if self._link(f"{path}/{name}", text):
                    waiting.append((f"{path}/{name}", os.path.normpath(os.path.join(origin, text))))
            waiting.extend(
                (f"{path}/{name}", f"{origin}/{name}")
                for name in folder.folders
                if f"{path}/{name}" not in self._own
            )

    def finish(self) -> None:
        """Give the stand-ins away, and the folders their times, the deepest first."""
        for path in self._closed:
            os.chmod(path, _CLOSED)
        _give_away([*self.made, *self._closed])
        for path, time_ns in sorted(self._times, reverse=True):
            with contextlib.suppress(OSError):
                os.utime(path, ns=(time_ns, time_ns))
        with open(stand_ins_table() + ".part", "wb") as file:
            self._inodes.tofile(file)
        os.replace(stand_ins_table() + ".part", stand_ins_table())

    def readable(self) -> bool:
        """Whether a job could read the stand-ins all the same: tried, as the job would."""
        if not self.made:
            return False
        keep_from_reading()
        import subprocess  # late: most commands only ask for what there is

        test = f"import sys; open({self.made[-1]!r}, 'rb')"
        done = subprocess.run([sys.executable, "-c", test], capture_output=True, check=False)
        return done.returncode == 0

    def _have(self, path: str, *, closed: bool) -> bool:
        """Have a folder that can be filled; one that is others' is not."""
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            is_folder = os.path.isdir(path) and not os.path.islink(path)
            return is_folder and not closed and self._ours.covers(path)
        if closed:
            self._closed.append(path)
        return not closed

    def _file(self, path: str, size: int, time_ns: int) -> None:
        if path in self._own:
            return
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        except FileExistsError:
            self._remember(os.lstat(path))
            return
        try:
            os.ftruncate(file, size)
            os.utime(file, ns=(time_ns, time_ns))
            self._inodes.extend((os.fstat(file).st_ino, time_ns))
        finally:
            os.close(file)
        self.made.append(path)

    def _remember(self, status: os.stat_result) -> None:
        """What is here was sent, or is a stand-in of an earlier call."""
        if self._known.has(status) or (status.st_mode & 0o777 == MODE and not status.st_blocks):
            self._inodes.extend((status.st_ino, status.st_mtime_ns))

    def _link(self, path: str, text: str) -> bool:
        """Make a symlink. Whether it is a folder here: something was sent by way of the link."""
        if path in self._own:
            return False
        for moved, origin in self._moved:
            if text == origin or text.startswith(origin + "/"):
                text = moved + text[len(origin) :]
        try:
            os.symlink(text, path)
        except FileExistsError:
            return os.path.isdir(path) and not os.path.islink(path)
        return False


class _Folder(NamedTuple):
    """One folder of the controller's."""

    mtime_ns: int
    closed: bool
    files: dict[str, tuple[int, int]]
    """Size and time, by name."""
    links: dict[str, str]
    """Text, by name."""
    folders: dict[str, None]


def _folders(lists: Iterable[bytes]) -> dict[str, _Folder]:
    """What the controller has told: of each folder all, and then maybe what has changed."""
    found: dict[str, _Folder] = {}
    for packed in lists:
        for line in zlib.decompress(packed).split(b"\n"):
            path, mtime_ns, how, names, sizes, steps, links, folders, *gone = json.loads(line)
            folder = _Folder(mtime_ns, how == _IS_CLOSED, {}, {}, {})
            if how == _CHANGES:
                folder = found[path]._replace(mtime_ns=mtime_ns)
                for name in gone[0]:
                    for part in (folder.files, folder.links, folder.folders):
                        part.pop(name, None)
            found[path], time_ns = folder, mtime_ns
            for name, size, step in zip(names, sizes, steps):  # noqa: B905 - not in Python 3.9
                time_ns += step
                folder.files[name] = size, time_ns
            folder.links.update(links)
            folder.folders.update(dict.fromkeys(folders))
    return found


def _give_away(paths: list[str]) -> None:
    """Make files another user's, so that the job cannot change their modes; if that is not allowed, they
    stay ours."""
    if not paths:
        return
    import subprocess

    if os.geteuid() == 0:
        command = [sys.executable, "-c", _CHOWN, str(_OTHERS[1])]
    else:
        command = ["sudo", "-n", sys.executable, "-c", _CHOWN, str(_OTHERS[0])]
    names = b"\0".join(map(os.fsencode, paths))
    with contextlib.suppress(OSError):
        subprocess.run(command, input=names, capture_output=True, check=False)


def _below(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """A path and all that is below it, as far as that can be seen."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        yield path, status
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path) as children:
                for child in children:
                    if child.is_dir(follow_symlinks=False):
                        yield from _below(child.path)
                    else:
                        with contextlib.suppress(FileNotFoundError):  # removed since
                            yield child.path, child.stat(follow_symlinks=False)
