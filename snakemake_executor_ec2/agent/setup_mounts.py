"""What a setup script mounts: an image of the machine would not have it."""

from __future__ import annotations

import json
import os
from contextlib import suppress

_COME_AND_GO = ("/dev", "/proc", "/run", "/sys", "/var/lib/containers", "/var/lib/docker")
_NOTE = "mounts.json"


def now(file: str = "/proc/self/mounts") -> set[str]:
    """Where something is mounted; nothing where the system does not say."""
    with suppress(OSError), open(file, encoding="utf-8", errors="surrogateescape") as lines:
        places = (line.split()[1] for line in lines if len(line.split()) > 1)
        return {
            each for each in places if not f"{each}/".startswith(tuple(f"{one}/" for one in _COME_AND_GO))
        }
    return set()


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
