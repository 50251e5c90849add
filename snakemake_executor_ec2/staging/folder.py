"""One folder, as a machine is to see it, and what has changed there: told in lines of JSON, which
`agent/standins.py` reads. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

_CHANGES = 2
"""In the place of `closed`, in a line that tells what has changed."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """One folder of this computer, as a machine is to see it."""

    path: str
    mtime_ns: int
    files: Sequence[tuple[str, int, int]] = ()
    """Name, size and modification time (ns)."""
    links: Sequence[tuple[str, str]] = ()
    """Name and text of symlinks."""
    folders: Sequence[str] = ()
    closed: bool = False
    """Its content is not listed: looking into it has to fail."""
    read_at_ns: int = field(default=0, compare=False)

    @property
    def entries(self) -> int:
        return len(self.files) + len(self.links) + len(self.folders)

    def line(self) -> bytes:
        """One line of JSON. Columns, because they compress better."""
        return self._line(int(self.closed), self.files, self.links, self.folders)

    def changes(self, before: Folder, names: Collection[str] | None = None) -> Changes:
        """What is otherwise than it was; `names`: nothing else is."""
        now, then = (self, before) if names is None else (self._only(names), before._only(names))
        # Names that are gone, or are of another kind now: then they are told again.
        gone = {name for name, *_ in then.files}.difference([name for name, *_ in now.files])
        gone |= {name for name, _ in then.links}.difference([name for name, _ in now.links])
        gone |= set(then.folders).difference(now.folders)
        return Changes(
            files=sorted(set(now.files).difference(then.files)),
            links=sorted(set(now.links).difference(then.links)),
            folders=sorted(set(now.folders).difference(then.folders)),
            gone=sorted(gone),
        )

    def _only(self, names: Collection[str]) -> Folder:
        return replace(
            self,
            files=[each for each in self.files if each[0] in names],
            links=[each for each in self.links if each[0] in names],
            folders=[each for each in self.folders if each in names],
        )

    def line_of(self, changes: Changes) -> bytes:
        """The same of what has changed."""
        return self._line(_CHANGES, changes.files, changes.links, changes.folders, changes.gone)

    def _line(
        self,
        how: int,
        files: Sequence[tuple[str, int, int]],
        links: Sequence[tuple[str, str]],
        *more: Sequence[str],
    ) -> bytes:
        names, sizes, times = zip(*files, strict=True) if files else ((), (), ())
        before = (self.mtime_ns, *times)
        steps = [time - last for time, last in zip(times, before, strict=False)]
        parts = [self.path, self.mtime_ns, how, names, sizes, steps, links, *more]
        return json.dumps(parts, separators=(",", ":")).encode()


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Of one folder, since an earlier view."""

    files: Sequence[tuple[str, int, int]]
    links: Sequence[tuple[str, str]]
    folders: Sequence[str]
    gone: Sequence[str]
    """Names: they are taken away first, because they may be told again."""

    @property
    def entries(self) -> int:
        return len(self.files) + len(self.links) + len(self.folders) + len(self.gone)

    def names(self) -> set[str]:
        """Of all of them."""
        return {
            *(name for name, *_ in self.files),
            *(name for name, _ in self.links),
            *self.folders,
            *self.gone,
        }
