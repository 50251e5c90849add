"""Who gets a large file from whom, so that it leaves the user's computer once. Pure: the time is given, and
nothing is sent.

The first machine that needs a file gets it from the controller. Others wait, and get it from those that have
it: each serves two at a time, so the number of copies triples in the time of one transfer. A machine gets it
from another zone only if there is none in its own that has it or is about to: between zones, traffic costs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

SERVED_AT_ONCE = 2
BELIEVED = 2
"""So many machines have to say that another one has not what it should have."""
_HOPE_S = 60.0
_SLOWEST = 64 << 10
"""Bytes a second: if the controller sends more slowly (after `_HOPE_S`), that is not waited for."""
_SLOWEST_PEER = 1 << 20
"""The same of machines, which give up then (`agent/peers.py`)."""


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A file on a machine, as it was when it got there."""

    machine_id: str
    zone: str
    name: str
    """In the machine's cache."""
    path: str
    """In its job's tree."""
    host_keys: tuple[str, ...]
    ahead_s: float
    """Of its clock."""
    content: Path
    """Where the controller has it."""
    size: int


@dataclass(frozen=True, kw_only=True)
class File:
    """A file that a machine needs. Copies are known by any of its keys, transfers by the first one."""

    keys: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class Send:
    """The controller sends it."""


@dataclass(frozen=True)
class Wait:
    """It is on its way to another machine, or those that have it serve others: ask again."""


@dataclass(kw_only=True)
class _Transfer:
    key: str
    machine_id: str
    zone: str
    source: str | None
    """The machine that serves it; None: the controller."""
    until: float
    """How long others hope for it."""


class FanOut:
    """What the machines of a run have, and what is on its way to them. Not for threads by itself."""

    def __init__(self) -> None:
        self._copies: dict[str, dict[str, Copy]] = {}
        self._transfers: list[_Transfer] = []
        self._occupied: set[str] = set()
        self._expected: dict[str, frozenset[Path]] = {}
        self._doubted: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        """Who did not get a file, by its first key, from a machine that should have it."""

    def step(
        self, file: File, machine_id: str, zone: str, now: float, *, avoid: Collection[str] = ()
    ) -> Copy | Send | Wait:
        """What a machine that needs a file does next; `avoid`: machines of which it could not get it."""
        copies = [each for each in self._copies_of(file) if each.machine_id not in {machine_id, *avoid}]
        free = [each for each in copies if self._is_free(each.machine_id, now)]
        coming = [
            each.zone
            for each in self._transfers
            if each.key == file.keys[0] and each.machine_id != machine_id and now <= each.until
        ]
        near = [each for each in free if each.zone == zone]
        if near:
            return min(near, key=lambda each: self._serves(each.machine_id, now))
        if zone in coming or any(each.zone == zone for each in copies):
            return Wait()
        if free:
            return min(free, key=lambda each: self._serves(each.machine_id, now))
        return Wait() if coming or copies else Send()

    def begin(
        self, file: File, machine_id: str, zone: str, now: float, source: str | None, *, together: int = 0
    ) -> None:
        """A machine gets a file, from another one or (None) from the controller; with others, if all of them
        come to more bytes (`together`)."""
        # The controller tells how far it is (`progressed`), a machine does not.
        hope_s = _HOPE_S + (max(file.size, together) / _SLOWEST_PEER if source else 0.0)
        self._transfers.append(
            _Transfer(key=file.keys[0], machine_id=machine_id, zone=zone, source=source, until=now + hope_s)
        )

    def progressed(self, file: File, machine_id: str, size: int) -> None:
        """So many more bytes have been sent to a machine."""
        for each in self._transfers:
            if each.key == file.keys[0] and each.machine_id == machine_id:
                each.until += size / _SLOWEST

    def end(self, file: File, machine_id: str) -> None:
        """A machine gets a file no more, whether it has it now or not."""
        self._transfers = [
            each for each in self._transfers if (each.key, each.machine_id) != (file.keys[0], machine_id)
        ]

    def has(self, key: str, copy: Copy) -> None:
        """A machine has a file."""
        self._copies.setdefault(key, {})[copy.machine_id] = copy
        self._doubted.pop((key, copy.machine_id), None)

    def has_not(self, file: File, machine_id: str, *, reader: str) -> None:
        """A reader says that a machine has a file no more, or with other content. One alone may be wrong, or
        hostile: it avoids that machine, and others ask it until a second one says so."""
        readers = self._doubted[file.keys[0], machine_id]
        readers.add(reader)
        if len(readers) >= BELIEVED:
            for key in file.keys:
                self._copies.get(key, {}).pop(machine_id, None)

    def gone(self, machine_id: str) -> None:
        """A machine has ended."""
        for copies in self._copies.values():
            copies.pop(machine_id, None)

    def occupy(self, machine_id: str, *, occupied: bool) -> None:
        """A machine serves nobody else for the time being, or does again."""
        (self._occupied.add if occupied else self._occupied.discard)(machine_id)

    def expect(self, reader: str, paths: Collection[Path]) -> None:
        """A job (or whatever is called so) will need files, until it is `settled`."""
        self._expected[reader] = frozenset(paths)

    def settled(self, reader: str) -> None:
        """It has its files, or will never need them."""
        self._expected.pop(reader, None)

    def needed(self, machine_id: str, now: float, *, least: int = 0) -> bool:
        """Whether a machine should stay for what it has: because it serves it, or more jobs than the other
        machines can serve at once will need files that come to `least` bytes."""
        if self._serves(machine_id, now):
            return True
        readers: defaultdict[Path, int] = defaultdict(int)
        for paths in self._expected.values():
            for path in paths:
                readers[path] += 1
        size = 0
        for copies in self._copies.values():
            own = copies.get(machine_id)
            if own and readers[own.content] > SERVED_AT_ONCE * (len(copies) - 1):
                size += own.size
        return size > 0 and size >= least

    def leave(self, machine_id: str, now: float, *, least: int = 0) -> bool:
        """Whether a machine is not `needed`; then it counts no more: those with the same files do not all
        leave because of each other."""
        leaves = not self.needed(machine_id, now, least=least)
        if leaves:
            self.gone(machine_id)
        return leaves

    def _copies_of(self, file: File) -> Iterator[Copy]:
        for key in file.keys:
            yield from self._copies.get(key, {}).values()

    def _is_free(self, machine_id: str, now: float) -> bool:
        return machine_id not in self._occupied and self._serves(machine_id, now) < SERVED_AT_ONCE

    def _serves(self, machine_id: str, now: float) -> int:
        """How many machines it serves: with any number of files."""
        return len(
            {each.machine_id for each in self._transfers if each.source == machine_id and now <= each.until}
        )
