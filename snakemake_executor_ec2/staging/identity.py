"""What tells one file of this computer, in one state, from all others."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable

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
        status = os.lstat(each.content)
        if stat.S_ISREG(status.st_mode) and status.st_size >= LARGE:
            facts = (
                *(status.st_dev, status.st_ino, status.st_size, status.st_mode),
                *(status.st_mtime_ns, status.st_ctime_ns, shift_ns),
            )
            names[str(each.name)] = hashlib.sha256(repr((str(each.content), facts)).encode()).hexdigest()
    return names
