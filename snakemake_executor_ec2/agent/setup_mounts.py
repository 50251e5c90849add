"""What a setup script mounts: an image of the machine would not have it."""

from __future__ import annotations

import json
import os

from . import mounts

_COME_AND_GO = ("/dev", "/proc", "/run", "/sys", "/var/lib/containers", "/var/lib/docker")
_NOTE = "mounts.json"


def now(file: str | None = None) -> set[str]:
    """Where something is mounted that stays; or would be, by an fstab."""
    places = mounts.points(file=file) if file else mounts.points()
    come_and_go = tuple(f"{each}/" for each in _COME_AND_GO)
    return {each for each in places if not f"{each}/".startswith(come_and_go)}


def note(folder: str, before: set[str]) -> None:
    """Remember what is mounted now and was not before."""
    if new := sorted(now() - before):
        with open(os.path.join(folder, _NOTE), "w", encoding="utf-8") as file:
            json.dump(new, file)


def lost_in_an_image(folder: str, fstab: str = "/etc/fstab") -> list[str]:
    """What was noted and is not mounted again at a boot."""
    try:
        with open(os.path.join(folder, _NOTE), encoding="utf-8") as file:
            noted = [str(each) for each in json.load(file)]
    except FileNotFoundError:
        return []
    return [each for each in noted if each not in now(fstab)]
