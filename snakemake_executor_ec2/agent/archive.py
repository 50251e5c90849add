"""Archives: files as a stream of frames (see `frames.py`), written and read by machine and controller alike.

An archive begins and ends with a note: what it is about, and what went wrong while it was written (a file
that changed as it was read is in the archive, but not to be trusted). Only regular files, directories and
symlinks are written, and nothing else is accepted: a reader may face a machine that is not to be trusted.
Small files share a frame, large ones have frames of their own, and holes are left out. Modification times
have nanoseconds; names are absolute paths without their leading slash, and may be any bytes. `shift_ns` is
added to the times, for computers whose clocks differ.

A transfer that broke off is repeated as a whole archive, but for content that has arrived (see `stash.py`).

This is the reader; the writer is a module of its own, since a command that writes needs nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

from .archive_writer import Entry, write_archive
from .extract import Item, Judge, Landing, Refused
from .frames import BEGIN, DATA, END, ITEMS, NOTE, ArchiveError, Damaged, Frame, FrameReader
from .stash import Stash

__all__ = ["ArchiveError", "Contents", "Damaged", "Entry", "Refused", "read_archive", "write_archive"]

_KEY = re.compile(r"(?:[0-9a-f]{16})?")
_LIMIT = 2**63
"""No number of ours reaches it."""
_FORMS: dict[str, tuple[str, tuple[type, ...]]] = {
    "d": ("directory", (str, int, int)),
    "l": ("symlink", (str, int, int, str)),
    "f": ("file", (str, int, int, int, str)),
    "F": ("file", (str, int, int, int, str, int, int)),
}
"""By what a frame calls it: the kind of an item, and the types of what is told of it."""


class Contents(NamedTuple):
    """What an archive brought."""

    begin: dict[str, Any]
    """What its writer said at the start (`write_archive`'s `begin`)."""
    placed: list[str]
    """The targets of the entries, in the archive's order."""
    size: int
    """Bytes of file content."""
    skipped: list[str]
    """Names of what was neither file, directory nor symlink (sockets, pipes), and not archived."""


def read_archive(
    stream: BinaryIO,
    place: Callable[[str], str | None],
    *,
    judge: Judge | None = None,
    shift_ns: int = 0,
    progress: Callable[[int], None] | None = None,
    stash: Stash | None = None,
    begun: Callable[[dict[str, Any]], None] | None = None,
    begin_bytes: int = NOTE,
) -> Contents:
    """Place what an archive holds; nothing appears anywhere until all of it has arrived.

    `place` is asked for every entry, by its absolute name, where it shall be; it returns None to
    skip it, and raises to refuse the archive. What is in a directory follows the directory.
    Everything is written beside its target under a temporary name; an existing target is
    replaced, a directory as a whole. `judge` decides on symlinks (see `extract.Judge`). `progress`: as for
    `write_archive`. `stash`: what arrives of an archive that breaks off is kept there, for the next attempt.
    `begun` gets the note at the beginning, which has at most `begin_bytes`.

    Raises ArchiveError for an archive that is cut short or changed while it was written, Damaged if its bytes
    are not those that were sent, Refused if it holds what it must not: `..`, devices, pipes, hard links,
    something below a file or symlink, a name twice, a symlink that `judge` refuses.
    """
    reader = FrameReader(stream, begin_bytes)
    reader.find()
    begin = _note(reader.next(), BEGIN)
    if begun:
        begun(begin)
    with Landing(judge, progress, stash) as landing:
        while (frame := reader.next()).kind != END:
            if frame.kind == DATA:
                landing.data(_number(frame.head), frame.body)
            else:
                _add(frame, landing, place, shift_ns)
            landing.tell()
        end = _note(frame, END)
        changed, skipped = ([*map(str, _list(end.get(name, [])))] for name in ("changed", "skipped"))
        if changed:
            raise ArchiveError(f"{changed[0]} changed while it was read")
        placed = landing.commit()
    return Contents(begin, placed, landing.size, skipped)


def _note(frame: Frame, kind: int) -> dict[str, Any]:
    if frame.kind != kind or not isinstance(frame.head, dict):
        raise ArchiveError("this is no archive of ours")
    return frame.head


def _add(frame: Frame, landing: Landing, place: Callable[[str], str | None], shift_ns: int) -> None:
    """Let the files of a frame land."""
    if frame.kind != ITEMS:
        raise ArchiveError("the archive is damaged: it begins twice")
    body, at = frame.body, 0
    for told in _list(frame.head):
        item = _item(told, shift_ns)
        content = None
        if item.kind == "file" and item.coming is None:
            content = body[at : at + item.size]
            at += item.size
            if at > len(body):
                raise ArchiveError(f"the archive is damaged: bad size of /{item.name}")
        landing.add(item, place, content)
    if at != len(body):
        raise ArchiveError("the archive is damaged: it holds what belongs to no file")


def _item(told: Any, shift_ns: int) -> Item:
    letter, *facts = _list(told) or [""]
    if letter not in ("d", "l", "f", "F"):
        raise Refused("the archive holds what is neither a file, a directory nor a symlink")
    kind, form = _FORMS[letter]
    if tuple(map(type, facts)) != form:
        raise ArchiveError("the archive is damaged: what it tells of a file is not understood")
    name, mode, mtime_ns, *rest = facts
    link, size, key, have = "", 0, "", 0
    coming: int | None = None
    if letter == "l":
        (link,) = rest
    elif letter == "f":
        size, key = rest
    elif letter == "F":
        size, key, have, coming = rest
    if not -_LIMIT < mode < _LIMIT or not -_LIMIT < mtime_ns < _LIMIT:
        raise ArchiveError("the archive is damaged: bad number")
    if not (0 <= size < _LIMIT and 0 <= have < _LIMIT and 0 <= (coming or 0) < _LIMIT):
        raise ArchiveError("the archive is damaged: bad number")
    if not _KEY.fullmatch(key):
        raise ArchiveError("the archive is damaged: bad key")
    return Item(name, kind, mode & 0o777, mtime_ns + shift_ns, size, link, key, have, coming)


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < _LIMIT:
        raise ArchiveError("the archive is damaged: bad number")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ArchiveError("the archive is damaged: a list was expected")
    return value
