"""What the jobs of a run do at this moment, for `snakemake-ec2 watch`: beside the journal, in a file of its
own that nobody waits for and that ends with the run."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.agent.protocol import JobEvent, Sampled, Started

_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a job used when its machine last said so."""

    mem_mib: int
    cpu_seconds: float
    at: float
    """Its machine's clock; only differences count."""
    cores: float = 0.0
    """How many were busy since the time before."""


@dataclass(frozen=True, kw_only=True)
class Moving:
    """Bytes on their way to or from a job's machine."""

    way: str
    """`to` or `from`."""
    done: int
    total: int | None
    per_s: float


class Live:
    """Written at most every two seconds, by the thread that has something new. Threads share it."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._path = path_of(folder, run_id)
        self._lock = threading.Lock()
        self._uses: dict[str, Use] = {}
        self._moving: dict[str, Moving] = {}
        self._written = 0.0
        self._closed = False

    def happens(self, key: str, event: JobEvent) -> None:
        """What a job's machine says of it; `key` is the job's."""
        if isinstance(event, Started):
            now = Use(mem_mib=0, cpu_seconds=0.0, at=event.t)
        elif isinstance(event, Sampled):
            before = self._uses.get(key)
            passed = event.t - before.at if before else 0.0
            cores = (event.cpu_seconds - before.cpu_seconds) / passed if before and passed > 0 else 0.0
            now = Use(mem_mib=event.mem_mib, cpu_seconds=event.cpu_seconds, at=event.t, cores=max(0.0, cores))
        else:
            return
        with self._lock:
            self._uses[key] = now
        self._write()

    def moves(self, key: str, moving: Moving | None) -> None:
        """A transfer for a job goes on; None: it is over."""
        with self._lock:
            if moving is not None:
                self._moving[key] = moving
            else:
                self._moving.pop(key, None)
        self._write()

    def over(self, key: str) -> None:
        """A job uses nothing any more."""
        with self._lock:
            self._uses.pop(key, None)
            self._moving.pop(key, None)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        if time.monotonic() - self._written < _EVERY_S or not self._lock.acquire(blocking=False):
            return
        try:
            self._written = time.monotonic()
            facts = {
                "uses": {key: asdict(each) for key, each in self._uses.items()},
                "moving": {key: asdict(each) for key, each in self._moving.items()},
            }
            part = self._path.with_name(f"{self._path.name}.part")
            with suppress(OSError):  # a full disk: nobody waits for it
                if not self._closed:
                    self._path.parent.mkdir(exist_ok=True)
                    part.write_text(json.dumps(facts))
                    os.replace(part, self._path)  # noqa: PTH105 - of two paths, as it reads
        finally:
            self._lock.release()


def path_of(folder: Path, run_id: str) -> Path:
    """The file of a run, in the folder of the journal."""
    return folder / "runs" / f"{run_id}.live"


def read(folder: Path, run_id: str) -> tuple[Mapping[str, Use], Mapping[str, Moving]]:
    """What a run has written last, by its jobs' keys; nothing if there is none."""
    try:
        facts: dict[str, Any] = json.loads(path_of(folder, run_id).read_text())
        uses = {key: Use(**each) for key, each in facts["uses"].items()}
        moving = {key: Moving(**each) for key, each in facts["moving"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}, {}
    return uses, moving
