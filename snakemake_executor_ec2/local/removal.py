"""Files of hosts that have ended."""

from __future__ import annotations

import stat
from pathlib import Path
from shutil import rmtree


def remove_tree(directory: Path) -> None:
    """Delete a host's files, whatever their modes."""

    def make_writable(path: Path) -> None:
        for child in path.iterdir():
            if child.is_dir() and not child.is_symlink():
                child.chmod(child.stat().st_mode | stat.S_IRWXU)
                make_writable(child)

    if not directory.is_dir():
        return
    try:
        rmtree(directory)
    except FileNotFoundError:
        rmtree(directory, ignore_errors=True)  # somebody else was deleting a part of it
    except PermissionError:
        make_writable(directory)
        rmtree(directory, ignore_errors=True)
