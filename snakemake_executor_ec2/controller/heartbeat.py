"""A run shows regularly that it is alive, and notices if its folder is deleted.

A folder that is deleted while a run works in it is no full disk: it does not come back. Nothing can be
stored there any more, so the run's machines are of no use to anybody.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from snakemake_executor_ec2 import threads
from snakemake_executor_ec2.errors import ConfigurationError

BEAT_S = 30.0
LOOK_S = 2.0


class Heartbeat:
    """A thread that beats, and that calls `gone` once if the folder was deleted. A context manager."""

    def __init__(self, folder: Path, beat: Callable[[], None], gone: Callable[[], None]) -> None:
        self._folder = folder
        self._inode = folder.stat().st_ino
        self._beat = beat
        self._gone = gone
        self._over = threading.Event()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Raises ConfigurationError if there can be no thread for it."""
        if threads.start(self._live, "heartbeat") is None:
            raise ConfigurationError(threads.NONE_LEFT)

    def stop(self) -> None:
        self._over.set()

    def _live(self) -> None:
        waited_s = 0.0
        while not self._over.wait(LOOK_S):
            waited_s += LOOK_S
            if self._is_deleted():
                self._gone()
                return
            if waited_s >= BEAT_S:
                waited_s = 0.0
                with suppress(OSError):
                    self._beat()

    def _is_deleted(self) -> bool:
        """A folder that was moved is not: the working directory of the process goes with it."""
        try:
            return self._folder.stat().st_ino != self._inode and not _has_working_directory()
        except FileNotFoundError:
            return not _has_working_directory()
        except OSError:
            return False  # a network file system that does not answer


def _has_working_directory() -> bool:
    try:
        os.getcwd()  # noqa: PTH109  (Path.cwd does the same, and hides that it may fail)
    except FileNotFoundError:
        return False
    return True
