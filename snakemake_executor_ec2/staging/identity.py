"""What tells one file of this computer, in one state, from all others."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from snakemake_executor_ec2.staging.paths import Sending

LARGE = 1 << 20
"""Bytes from which on a file is worth a name: a smaller one is sent again in no time."""


def names_of(sendings: Iterable[Sending], shift_ns: int) -> dict[str, str]:
    """A name (64 hexadecimal digits) for each large regular file that is sent, by its path on the machine.

    The name changes with the file's content, mode or time, as its inode's change time tells, which no program
    can set; and with `shift_ns`, by which times differ on the machine. Raises OSError.
    """
    names = {}
    for each in sendings:
        if (status := _large(each.content)) is not None:
            facts = (
                *(status.st_dev, status.st_ino, status.st_size, status.st_mode),
                *(status.st_mtime_ns, status.st_ctime_ns, shift_ns),
            )
            names[str(each.name)] = hashlib.sha256(repr((str(each.content), facts)).encode()).hexdigest()
    return names


def name_of_output(path: Path) -> str | None:
    """The name of a large regular file as a result: it says nothing of its content, only its place and size.
    None for anything else."""
    status = _large(path)
    if status is None:
        return None
    return hashlib.sha256(repr(("result", str(path), status.st_size)).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _large(path: Path) -> os.stat_result | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status if stat.S_ISREG(status.st_mode) and status.st_size >= LARGE else None
