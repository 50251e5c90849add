"""The folder that outlives clouds: what hosts share in it, and how it is kept from growing for ever."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

_BYTECODE_LIMIT = 256 << 20
_AT_MOST_EVERY_S = 3600.0
_NOT_BEFORE_S = 10.0


def share_built_wheels(cache: Path) -> None:
    """Put the wheels that uv built from sources of registries where uv looks for packages.

    Its own cache of them holds only for as long as a registry says that its answers do. Mirrors often
    say nothing, and then every host builds them again, one host after the other.
    """
    shared = cache / "wheels"
    shared.mkdir(parents=True, exist_ok=True)
    for registry in ("pypi", "index/*"):
        for wheel in (cache / "uv").glob(f"sdists-v*/{registry}/*/*/*/*.whl"):
            with suppress(FileExistsError, FileNotFoundError):
                (shared / wheel.name).hardlink_to(wheel)


def prune_in_background(cache: Path) -> None:
    """Trim the bytecode once in a while, when the cloud has long started."""

    def work() -> None:
        time.sleep(_NOT_BEFORE_S)
        mark = cache / "pruned"
        with suppress(FileNotFoundError):
            if time.time() - mark.stat().st_mtime < _AT_MOST_EVERY_S:
                return
        mark.touch()
        prune(cache / "pycache", _BYTECODE_LIMIT)

    threading.Thread(target=work, daemon=True).start()


def prune(directory: Path, limit_bytes: int) -> None:
    """Delete the oldest files until the rest is within the limit, and folders that are left empty.

    Bytecode is for virtual environments by their path, and most paths never come again. Whoever misses a
    file compiles it once more.
    """
    files = []
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                status = os.lstat(os.path.join(folder, name))  # noqa: PTH118 -- tens of thousands of them
                files.append((status.st_mtime, status.st_size, folder, name))
    excess = sum(size for _, size, _, _ in files) - limit_bytes
    for _, size, folder, name in sorted(files):
        if excess <= 0:
            break
        with suppress(FileNotFoundError):
            (Path(folder) / name).unlink()
        excess -= size
    for folder, _, _ in os.walk(directory, topdown=False):
        if Path(folder) != directory:
            with suppress(OSError):  # not empty, which is most of them
                Path(folder).rmdir()
