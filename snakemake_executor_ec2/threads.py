"""Threads that may be refused: a computer, a container or a user has a limit of processes (`ulimit -u`)."""

from __future__ import annotations

import threading
from collections.abc import Callable


def start(run: Callable[[], object], name: str) -> threading.Thread | None:
    """Run something in a thread of its own; None if there can be no more threads: then nothing is run."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # "can't start new thread"
        return None
    return thread


def start_or_run(run: Callable[[], object], name: str) -> None:
    """Run what must not be left out: if there can be no more threads, in this one."""
    if start(run, name) is None:
        run()
