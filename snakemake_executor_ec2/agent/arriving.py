"""Uploads to this machine that broke off: what has arrived waits for the next attempt."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from .extract import remove
from .parts import new_part, this_boot
from .stash import Stash
from .state import AgentError, home, read_request, say, try_lock, write_whole

_TRANSFER = re.compile(r"[0-9a-f]{32}")
_ENDS_ITSELF_S = 0.5
"""A connection that was cut has ended for both sides; what is left of it in a pipe is still taken."""
_LET_GO_S = 10.0
_TICK_S = 0.02


class Arriving:
    """One attempt at a transfer, or at none in particular: a context manager."""

    def __init__(self, transfer: str, fds: Sequence[int] = (0,)) -> None:
        """`fds`: where it comes from."""
        self._fds = fds
        self._path = _path(transfer) if transfer else ""
        self.stash: Stash | None = None
        """What earlier attempts have brought."""
        self.answer: dict[str, Any] = {}
        """Set once all is in place: an attempt whose answer was lost need not be repeated."""

    def __enter__(self) -> Arriving:
        if self._path:
            self._lock = _locked_soon(self._path)
            if self._lock is None:
                raise AgentError("another attempt at this transfer is under way")
            write_whole(f"{self._path}.pid", str(os.getpid()))
            for each in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(each, functools.partial(_end_input, self._fds))
            self.stash = _stash(_told(self._path))
            self.stash.move(lambda root: new_part(os.path.dirname(root)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.stash is None:
            return
        if error is None or isinstance(error, OSError):  # the latter: maybe for want of room
            self.stash.discard(remove)
        told = {"done": self.answer} if error is None else {**self.stash.told(), "boot": this_boot()}
        write_whole(self._path, json.dumps(told))
        if self._lock is not None:
            self._lock.close()


def arrived() -> int:
    """`arrived`: {"transfer"} -> {"have": {key: bytes}}, of files, or {"done": the answer of `unpack`}

    Ends an attempt that still waits, on a connection that nobody has any more.
    """
    path = _path(str(read_request()["transfer"]))
    _end_other(path)
    told = _told(path)
    say(told if "done" in told else {"have": _stash(told).have()})
    return 0


def _end_other(path: str) -> None:
    began = time.monotonic()
    while (lock := _locked(path)) is None:
        waited_s = time.monotonic() - began
        if waited_s > _ENDS_ITSELF_S:
            with contextlib.suppress(OSError, ValueError), open(f"{path}.pid", encoding="ascii") as file:
                os.kill(int(file.read()), signal.SIGTERM if waited_s < _LET_GO_S else signal.SIGKILL)
        time.sleep(_TICK_S)
    lock.close()


def _end_input(fds: Sequence[int], *_: object) -> None:
    """Let the archive end here. What has arrived of it is kept in any case, and nothing cuts that short."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd in fds:  # it may wait for any of them
        os.dup2(nothing, fd)
    os.close(nothing)


def _locked(path: str) -> Any:
    return try_lock(f"{path}.lock")


def _locked_soon(path: str) -> Any:
    """The lock, also if an attempt that nobody feeds any more has yet to end: the controller has given it up
    before it knew that it had begun."""
    deadline = time.monotonic() + _LET_GO_S
    while (lock := _locked(path)) is None and time.monotonic() < deadline:
        time.sleep(_TICK_S)
    return lock


def _path(transfer: str) -> str:
    if not _TRANSFER.fullmatch(transfer):
        raise AgentError(f"{transfer!r} cannot be a transfer's name")
    return os.path.join(home(), "arriving", transfer)


def _stash(told: dict[str, Any]) -> Stash:
    """What an attempt has left; nothing if the machine has booted since: it may not all be on the disk."""
    return Stash.of(told) if told.get("boot") == this_boot() else Stash()


def _told(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            return dict(json.load(file))
    except (OSError, ValueError):
        return {}
