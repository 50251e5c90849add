"""`follow`: what happens to a job, as it happens; over a connection that may break at any moment."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import Any

from . import lease
from .state import AgentError, job_dir
from .supervisor import ENDINGS, is_alive
from .unwatched import settle

_POLL_S = 0.2
_CHUNK = 64 * 1024
_ALIVE_S = 2.0


def follow(key: str, events_at: int, output_at: int, patience_s: float = 90.0) -> int:
    """`follow KEY --events N --output N`: lines of JSON, from those bytes of the two files on.

        {"at": [events, output], "event": {…}}     an event of the supervisor's
        {"at": [events, output], "output": "…"}    what the job printed (surrogateescape)
        {"at": [events, output], "pulse": true}    the answer to a newline on standard input
        {"at": [events, output], "lost": "…"}      the machine went down with the job; nothing more will come

    `at` is where to go on after this line. Every newline on standard input renews the lease.
    Ends after the event `finished` or `interrupted`, at the end of standard input, and where
    no newline came for `patience_s` seconds: then nobody is there any more.
    """
    folder = job_dir(key)
    if not os.path.exists(os.path.join(folder, "events.jsonl")):
        raise AgentError(f"there is no job {key} on this machine")
    with (
        open(os.path.join(folder, "events.jsonl"), "rb", buffering=0) as events,
        open(os.path.join(folder, "output.log"), "rb", buffering=0) as output,
    ):
        stream = _Stream(folder, events.fileno(), output.fileno(), events_at, output_at)
        heard = alive = time.monotonic()
        while not stream.pump():
            now = time.monotonic()
            if now - heard > patience_s:
                return 0
            if now - alive >= _ALIVE_S:
                alive = now
                if not is_alive(folder) and not stream.pump():
                    if settle(folder) is None:
                        stream.tell(lost="the machine went down")
                        return 0
                    stream.pump()
                if stream.is_over:
                    return 0
            ready, _, _ = select.select([0], [], [], _POLL_S)
            if not ready:
                continue
            beats = os.read(0, 4096)
            if not beats:
                return 0
            heard = time.monotonic()
            lease.renew()
            stream.tell(pulse=True)
    return 0


class _Stream:
    def __init__(self, folder: str, events: int, output: int, events_at: int, output_at: int) -> None:
        self.folder = folder
        self.events = events
        self.output = output
        self.events_at = events_at
        self.output_at = output_at
        self.is_over = False

    def tell(self, **facts: Any) -> None:
        """Print one line at once. BrokenPipeError: nobody reads it any more."""
        line = json.dumps({"at": [self.events_at, self.output_at], **facts}) + "\n"
        sys.stdout.write(line)
        sys.stdout.flush()

    def pump(self) -> bool:
        """Print what is new; True once the job's last event is printed."""
        last = None
        for line in self._new_events():
            event = json.loads(line)
            if event.get("type") in ENDINGS:
                last = line, event
                break
            self.events_at += len(line)
            self.tell(event=event)
        # The end is written after all output of the job, so it is reported after it, too.
        while data := os.pread(self.output, _CHUNK, self.output_at):
            self.output_at += len(data)
            self.tell(output=data.decode("utf-8", "surrogateescape"))
            if last is None and len(data) < _CHUNK:
                break
        if last is not None:
            self.events_at += len(last[0])
            self.tell(event=last[1])
            self.is_over = True
        return self.is_over

    def _new_events(self) -> list[bytes]:
        data = os.pread(self.events, _CHUNK, self.events_at)
        whole = data[: data.rfind(b"\n") + 1]
        return whole.splitlines(keepends=True)
