"""Threads that may be refused: a computer, a container or a user may have only so many processes."""

from __future__ import annotations

import threading
from collections.abc import Callable

NONE_LEFT = "this computer can start no more threads (ulimit -u, or the limit of its container)"


def start(run: Callable[[], object], name: str) -> threading.Thread | None:
    """Run something in a thread of its own; None if there can be no more threads: then nothing is run."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        if not is_refusal(error):
            raise
        return None
    return thread


def start_or_run(run: Callable[[], object], name: str) -> None:
    """Run what must not be left out: if there can be no more threads, in this one."""
    if start(run, name) is None:
        run()


def is_refusal(error: BaseException) -> bool:
    """Whether an error says that there can be no more threads."""
    return isinstance(error, RuntimeError) and "start new thread" in str(error)
