"""The controller's side of `talk`: the agent's short commands, over one channel of a connection."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from snakemake_executor_ec2.errors import ConnectionLost, InstanceLost
from snakemake_executor_ec2.ports import ANSWER_BYTES, LINE_BYTES, Completed, Conversation, RemoteHost


class Talk:
    """Requests to one machine, one at a time. It ends if anything is not as it should be: then commands
    are run by themselves again, which is safe for all of them."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._lock = threading.Lock()
        self._is_over = False

    def begin(self, data: bytes, timeout_s: float) -> Completed | None:
        """Send what the command wants first, and wait until it reads requests; else how it has ended. Raises
        ConnectionLost."""
        try:
            self._conversation.send(data)
            deadline = time.monotonic() + timeout_s
            while (line := self._conversation.line(deadline)) is not None:
                if _told(line).get("talks") is True:
                    return None
        except BrokenPipeError:
            pass
        self._is_over = True
        return self._conversation.end()

    def ask(
        self, arguments: Sequence[str], data: bytes, timeout_s: float | None, most_bytes: int = ANSWER_BYTES
    ) -> Completed | None:
        """How a command has ended; None if it has to be run by itself. Raises ConnectionLost, InstanceLost if
        it prints more than `most_bytes`."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return None if self._is_over else self._ask(arguments, data, timeout_s, most_bytes)
        finally:
            self._lock.release()

    def end(self) -> None:
        """Nothing more is asked."""
        with self._lock:
            if not self._is_over:
                self._is_over = True
                self._conversation.close()

    def _ask(
        self, arguments: Sequence[str], data: bytes, timeout_s: float | None, most_bytes: int
    ) -> Completed | None:
        head = json.dumps({"arguments": list(arguments), "bytes": len(data)}).encode()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        printed = bytearray()
        try:
            self._conversation.send(head + b"\n" + data)
            while (line := self._conversation.line(deadline)) is not None:
                told = _told(line)
                if "ended" in told:
                    return _completed(told, bytes(printed))
                _keep(printed, line, most_bytes)
        except BrokenPipeError:
            pass
        except (ConnectionLost, InstanceLost):
            self._is_over = True
            raise
        self._is_over = True
        self._conversation.close()
        return None


_TALKS: WeakKeyDictionary[RemoteHost, Talk] = WeakKeyDictionary()
_lock = threading.Lock()


def begin(host: RemoteHost, command: str, data: bytes, timeout_s: float) -> Completed | None:
    """Run a command that becomes `talk` when it has read its data, and ask over it from now on. How it has
    ended, if it has; None if it talks. Raises ConnectionLost."""
    end(host)
    talk = Talk(host.converse(command))
    done = talk.begin(data, timeout_s)
    if done is None:
        with _lock:
            _TALKS[host] = talk
    return done


def ask(
    host: RemoteHost,
    arguments: Sequence[str],
    data: bytes,
    timeout_s: float | None,
    most_bytes: int = ANSWER_BYTES,
) -> Completed | None:
    """See `Talk.ask`; None if there is no talk, or the answer, which is a line, may be too long for it."""
    if most_bytes > LINE_BYTES:
        return None
    with _lock:
        talk = _TALKS.get(host)
    return None if talk is None else talk.ask(arguments, data, timeout_s, most_bytes)


def end(host: RemoteHost) -> None:
    """End a talk, if there is one."""
    with _lock:
        talk = _TALKS.pop(host, None)
    if talk is not None:
        talk.end()


def _told(line: bytes) -> dict[str, Any]:
    if not line.startswith(b"{"):
        return {}
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _keep(printed: bytearray, line: bytes, most_bytes: int) -> None:
    printed += line + b"\n"
    if len(printed) > most_bytes:
        raise InstanceLost("the machine sends an answer without end")


def _completed(told: dict[str, Any], printed: bytes) -> Completed:
    status = told["ended"]
    return Completed(
        exit_code=status if isinstance(status, int) else 1,
        stdout=printed,
        stderr=str(told.get("said", "")).encode(),
    )
