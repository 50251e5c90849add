"""How a command that holds a machine is interrupted: as Ctrl-C does it, whatever the signal."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ignore_signals() -> None:
    """From now on they would only hinder what ends the machine."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)


@contextmanager
def interrupts() -> Iterator[None]:
    """SIGTERM and a closed terminal end the block as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def wait_for(run: Any, story: Any) -> bool:
    """Wait until a story of a run is told; whether that was interrupted. Then the run is cancelled."""
    try:
        while not story.done():
            time.sleep(0.1)  # an interrupted join takes the thread for ended (Python 3.11)
    except KeyboardInterrupt:
        ignore_signals()
        run.cancel()
        return True
    return False
