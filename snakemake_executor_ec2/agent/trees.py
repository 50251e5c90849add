"""What tells one file, or one folder with all that is in it, from another: on both sides."""

from __future__ import annotations

import hashlib
import os
import stat

_PIECE = 1 << 20


def tree_digest(path: str) -> str | None:
    """The SHA-256 of a file's content, of where a link leads, or of all that is in a folder; None if there is
    nothing, or nothing that could be sent."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if stat.S_ISLNK(status.st_mode):
        return hashlib.sha256(b"link " + os.fsencode(os.readlink(path))).hexdigest()
    if stat.S_ISREG(status.st_mode):
        return _of_file(path)
    if not stat.S_ISDIR(status.st_mode):
        return None
    digest = hashlib.sha256(b"folder\n")
    for name in sorted(os.listdir(path)):
        digest.update(os.fsencode(name) + b"\0" + str(tree_digest(os.path.join(path, name))).encode() + b"\n")
    return digest.hexdigest()


def _of_file(path: str) -> str | None:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while data := file.read(_PIECE):
                digest.update(data)
    except OSError:
        return None
    return digest.hexdigest()
