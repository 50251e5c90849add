"""This process, and the shell that started it."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

_FILES = 8192
"""Enough for two thousand jobs at a time, and below what macOS allows (10240)."""


def seen_from_shell(folder: Path) -> str:
    """A folder, for commands to be copied; empty if the user's shell is in it."""
    shell = Path(os.environ.get("PWD", folder))
    if folder == shell:
        return ""
    return str(folder.relative_to(shell) if folder.is_relative_to(shell) else folder)


def allow_many_files() -> None:
    """Let this process have as many files open as it may: each job that runs has a connection and a log."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has a limit of its own below
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
