"""A computer that can start no more threads."""

from __future__ import annotations

import threading

import pytest


def no_threads(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """From now on, no thread can be started whose name begins so; without names: none at all."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if not names or thread.name.startswith(names):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
