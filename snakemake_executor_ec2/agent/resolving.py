"""Where a path leads once its links are followed, by what a caller says is a link."""

from __future__ import annotations

import os
from collections.abc import Callable

_MOST_LINKS = 40  # as the kernel has it


def link_here(path: str) -> str | None:
    """The text of a link on this computer, None for anything else."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def resolve(path: str, link: Callable[[str], str | None]) -> str | None:
    """The absolute path without any link in it; None if links lead in a circle.

    `link` is asked for each folder on the way and for the path itself. It may raise.
    """
    found, left, links = "/", path.split("/")[::-1], 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            found = os.path.dirname(found)
            continue
        here = os.path.join(found, part)
        text = link(here)
        if text is None:
            found = here
            continue
        links += 1
        if links > _MOST_LINKS:
            return None
        if text.startswith("/"):
            found = "/"
        left += text.split("/")[::-1]
    return found
