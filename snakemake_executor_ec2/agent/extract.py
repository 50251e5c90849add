"""Files that arrive: first under another name beside their target, and in place only when complete."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Optional

from .frames import ArchiveError
from .parts import new_part, remove_dead
from .resolving import link_here, resolve

if TYPE_CHECKING:
    from .stash import Stash

_MOST_ENTRIES = 10_000_000
_MOST_NAME = 4096  # characters: no system takes a longer path
_MOST_NAMES = 512 << 20
"""Characters of all names together, and of the folders on the way to them. They are in memory meanwhile."""
_AT_ONCE = 256 << 10
"""Bytes. For 1 MiB newer kernels look for memory in one piece, which took three to ten times as long (6.18,
ext4)."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Judge = Callable[[str, str, Optional[str]], str]
"""Is asked for each link that arrives: its target, its text, where it leads in the end (None: in a
circle). Returns the text that it gets here; raises Refused."""


class Refused(ArchiveError):
    """An archive that holds what it must not: the same will come again."""


class Item(NamedTuple):
    """One member of an archive, without its content."""

    name: str
    kind: str
    """`file`, `directory` or `symlink`."""
    mode: int
    mtime_ns: int
    size: int = 0
    link: str = ""
    key: str = ""
    """What tells a file, in its present state, from others (see `stash.py`)."""
    have: int = 0
    """Up to where it has arrived in an earlier attempt."""
    coming: Optional[int] = None
    """How much of its content follows in frames of its own; None: it is with the item."""


class _Arrival(NamedTuple):
    """An entry, or a folder below one."""

    part: str
    target: str
    real: str
    """The target, without links among its folders."""


class _Link(NamedTuple):
    part: str
    target: str
    item: Item


class _Growing:
    """A file whose content follows, in frames of its own."""

    def __init__(self, item: Item, part: str, fd: int) -> None:
        self.item = item
        self.part = part
        self.fd = fd
        self.end = item.have
        self.left = item.coming or 0

    def write(self, at: int, data: memoryview) -> None:
        """Write what comes next."""
        if at < self.end or at + len(data) > self.item.size or len(data) > self.left:
            raise ArchiveError(
                f"the archive is damaged: /{self.item.name}: its data is not where it could be"
            )
        _write_all(self.fd, at, data)
        self.end = at + len(data)
        self.left -= len(data)


class Landing:
    """A set of files, directories and symlinks that appear together, or not at all.

    A context manager: what was not committed is removed at its end, or goes into the `stash`.
    """

    def __init__(
        self, judge: Judge | None, progress: Callable[[int], None] | None = None, stash: Stash | None = None
    ) -> None:
        self._judge = judge
        self._progress = progress
        self._stash = stash
        self._links: dict[str, _Link] = {}
        self._parents: dict[str, str] = {}
        self._checked: set[str] = set()
        self._last: tuple[str, _Arrival | None] = "", None
        """The last member's folder, and what `_within` says of it: most often the next one is there, too."""
        self._arrivals: list[_Arrival] = []
        self._trees: dict[str, _Arrival] = {}
        self._kinds: dict[str, str] = {}
        self._names = 0
        """Characters in these."""
        self._directories: list[tuple[str, Item]] = []
        self._whole: list[tuple[str, str, int]] = []
        self._growing: _Growing | None = None
        self.size = self._told = 0

    def __enter__(self) -> Landing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        growing, self._growing = self._growing, None
        if growing is not None:
            os.close(growing.fd)
            self._whole.append((growing.item.key, growing.part, growing.end))
        if self._stash is not None and not isinstance(error, (OSError, Refused)):
            self._stash.keep([arrival.part for arrival in self._arrivals], self._whole)
            return
        for arrival in self._arrivals:
            remove(arrival.part)

    def add(self, item: Item, place: Callable[[str], str | None], content: memoryview | None = None) -> None:
        """Write one member under a temporary name. Raises ArchiveError if it is not to be trusted."""
        self._finish()
        folder, _, base = item.name.rpartition("/")
        self._check_name(item, folder, base)
        within = self._within(folder)
        if within is not None:
            part, target = f"{within.part}/{base}", f"{within.target}/{base}"
            real = f"{within.real}/{base}"
        else:
            chosen = place("/" + item.name)
            if chosen is None:
                self._skip(item)
                return
            target = chosen
            parent, base = os.path.split(target)
            part, real = new_part(parent), os.path.join(self._parent(parent), base)
            self._arrivals.append(_Arrival(part, target, real))
        self._kinds[item.name] = item.kind
        if item.kind == "symlink":
            if not item.link or "\0" in item.link:
                raise Refused(f"/{item.name} is a symlink that leads nowhere")
            self._links[real] = _Link(part, target, item)
        elif item.kind == "directory":
            os.mkdir(part, 0o700)
            self._directories.append((part, item))
            if within is None:
                self._trees[item.name] = self._arrivals[-1]
        elif content is None:
            self._grow(item, part)
        else:
            self._write(item, part, content)

    def data(self, at: int, data: memoryview) -> None:
        """Write more of the last member. Raises ArchiveError if that cannot be."""
        if self._growing is None:
            raise ArchiveError("the archive is damaged: it holds what belongs to no file")
        self._growing.write(at, data)
        self.size += len(data)

    def tell(self) -> None:
        """Tell how much more has arrived."""
        if self._progress and self.size > self._told:
            self._progress(self.size - self._told)
            self._told = self.size

    def commit(self) -> list[str]:
        """Let everything appear under its own name; returns the targets of the entries."""
        self._finish()
        self._make_links()
        for part, item in reversed(self._directories):
            os.chmod(part, item.mode)
            os.utime(part, ns=(item.mtime_ns, item.mtime_ns))
        for arrival in self._arrivals:
            _rename(arrival.part, arrival.target)
        targets = [arrival.target for arrival in self._arrivals]
        self._arrivals.clear()
        self._whole.clear()
        return targets

    def _parent(self, parent: str) -> str:
        """Make a folder that entries are put into; what it is without links."""
        if parent not in self._parents:
            os.makedirs(parent, exist_ok=True)
            remove_dead(parent, remove)
            self._parents[parent] = os.path.realpath(parent)
        return self._parents[parent]

    def _skip(self, item: Item) -> None:
        if item.coming:
            self._growing = _Growing(item, "", os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
        self._kinds[item.name] = "skipped"

    def _write(self, item: Item, part: str, content: memoryview) -> None:
        fd = os.open(part, _NEW, 0o600)
        try:
            _write_all(fd, 0, content)
            os.fchmod(fd, item.mode)
            os.utime(fd, ns=(item.mtime_ns, item.mtime_ns))
        finally:
            os.close(fd)
        self._whole.append((item.key, part, item.size))
        self.size += item.size

    def _grow(self, item: Item, part: str) -> None:
        """Begin a large file, or go on with what has arrived of it."""
        if item.have:
            if self._stash is None:
                raise ArchiveError(f"the archive begins in the midst of /{item.name}")
            self._stash.take(item.key, item.have, part)
            os.chmod(part, 0o600)
            self.size += item.have
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC if item.have else _NEW
        self._growing = _Growing(item, part, os.open(part, flags, 0o600))

    def _finish(self) -> None:
        """Finish the file that has grown."""
        growing = self._growing
        if growing is None:
            return
        item = growing.item
        if growing.left:
            raise ArchiveError(f"the archive is damaged: /{item.name} is not whole")
        if growing.part:
            os.ftruncate(growing.fd, item.size)
            os.fchmod(growing.fd, item.mode)
            os.utime(growing.fd, ns=(item.mtime_ns, item.mtime_ns))
            self._whole.append((item.key, growing.part, item.size))
        os.close(growing.fd)
        self._growing = None

    def _check_name(self, item: Item, folder: str, base: str) -> None:
        name = item.name
        if len(name) > _MOST_NAME or len(item.link) > _MOST_NAME:
            raise Refused(f"the archive holds a name that is too long: /{name[:100]}…")
        if folder not in self._checked:
            self._check_folder(folder, name)
        if name[:1] == "/" or base in ("", ".", "..") or "\0" in base or not _is_text(name + item.link):
            raise Refused(f"the archive holds a name that it must not: {name!r}")
        if len(self._kinds) >= _MOST_ENTRIES:
            raise Refused(f"the archive holds more than {_MOST_ENTRIES} files")
        self._names += len(name) + len(item.link)
        if self._names > _MOST_NAMES:
            raise Refused(f"the archive holds names of more than {_MOST_NAMES} characters")
        if name in self._kinds:
            raise Refused(f"/{name} is in the archive twice, or before its directory")

    def _check_folder(self, folder: str, name: str) -> None:
        """Whether something may be in that folder. What a name is once, it stays."""
        parts = folder.split("/") if folder else []
        if "\0" in folder or any(part in ("", ".", "..") for part in parts):
            raise Refused(f"the archive holds a name that it must not: {name!r}")
        for end in range(1, len(parts) + 1):
            parent = "/".join(parts[:end])
            if parent not in self._kinds:
                self._names += len(parent)
            kind = self._kinds.setdefault(parent, "parent")
            if kind in ("file", "symlink"):
                raise Refused(f"/{name} is below /{parent}, which is a {kind}")
        self._checked.add(folder)

    def _within(self, folder: str) -> _Arrival | None:
        """Where the members of a folder go, if it is in a tree; None: they are entries. That stays so: what
        has members can become neither an entry nor a directory any more."""
        if folder == self._last[0]:
            return self._last[1]
        found = None
        tree = self._tree_of(folder)
        if tree is not None:
            found = _Arrival(*(whole + folder[len(tree) :] for whole in self._trees[tree]))
            if self._kinds[folder] != "directory":  # nobody has told of it
                os.makedirs(found.part, mode=0o700, exist_ok=True)
        self._last = folder, found
        return found

    def _tree_of(self, folder: str) -> str | None:
        """The directory among the entries that a folder is, or is in; none if that was skipped."""
        while folder:
            if folder in self._trees:
                return folder
            if self._kinds.get(folder) == "skipped":
                return None
            folder = folder.rpartition("/")[0]
        return None

    def _make_links(self) -> None:
        """Links are made last: the target of one may depend on the others."""
        for real, (part, target, item) in self._links.items():
            text = item.link
            if self._judge is not None:
                text = self._judge(target, text, resolve(real, self._link_at))
            os.symlink(text, part)
            # Linux and macOS can date a symlink itself; nothing depends on it elsewhere
            with contextlib.suppress(NotImplementedError):
                os.utime(part, ns=(item.mtime_ns, item.mtime_ns), follow_symlinks=False)

    def _link_at(self, path: str) -> str | None:
        """A link that will be there: among what arrives; nothing old counts in what is replaced."""
        if path in self._links:
            return self._links[path].item.link
        if any(path == each.real or path.startswith(each.real + "/") for each in self._arrivals):
            return None
        return link_here(path)


def _write_all(fd: int, at: int, data: memoryview) -> None:
    while data:
        count = os.pwrite(fd, data[:_AT_ONCE], at)
        at, data = at + count, data[count:]


def _is_text(name: str) -> bool:
    """Whether a file system could have such a name."""
    if name.isascii():
        return True
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _rename(part: str, target: str) -> None:
    """Put `part` in the place of whatever is at `target`."""
    try:
        existing = os.lstat(target)
    except FileNotFoundError:
        os.rename(part, target)
        return
    arriving = os.lstat(part)
    if not stat.S_ISDIR(existing.st_mode) and not stat.S_ISDIR(arriving.st_mode):
        os.replace(part, target)
        return
    aside = new_part(os.path.dirname(target))
    os.rename(target, aside)
    try:
        os.rename(part, target)
    except BaseException:
        os.rename(aside, target)
        raise
    remove(aside)


def remove(path: str) -> None:
    """Remove a file or a tree; directories that may not be written to are made writable first."""
    try:
        is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_directory:
        os.unlink(path)
        return
    for folder, names, _files in os.walk(path):
        os.chmod(folder, 0o700)
        for name in names:
            child = os.path.join(folder, name)
            if not os.path.islink(child):
                os.chmod(child, 0o700)
    import shutil  # late: with it come modules that few transfers need

    shutil.rmtree(path)
