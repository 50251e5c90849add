"""Measures a job as Snakemake's `benchmark:` does, from /proc, and writes it down in Snakemake's form.

The same processes (the command and what descends from it), at the same moments, put together in the same
way: `snakemake/benchmark.py` with psutil. `docs/options.md` says what differs from it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import time
from collections.abc import Iterator
from typing import NamedTuple, Union

COLUMNS = (
    "s",
    "h:m:s",
    "max_rss",
    "max_vms",
    "max_uss",
    "max_pss",
    "io_in",
    "io_out",
    "mean_load",
    "cpu_time",
)
"""Snakemake's, but for those that `--benchmark-extended` adds."""
_OFTEN_S, _OFTEN_TIMES, _SELDOM_S = 0.5, 30, 30.0
_MIB = 1024 * 1024
_KIB_OF = re.compile(rb"^(Pss|Private_\w+): +(\d+) kB", re.MULTILINE)
Value = Union[float, str, None]


class _Process(NamedTuple):
    pid: int
    name: bytes
    cpu_seconds: float


class Benchmark:
    """What a command uses while it runs: `pid` and what descends from it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = time.monotonic()
        self._samples = 0
        self._sampled_at: float | None = None
        self._peaks: dict[str, float] = {}
        self._io: tuple[Value, Value] = ("NA", "NA")
        self._load = 0.0
        self._cpu: dict[tuple[int, bytes], float] = {}
        self._before: dict[int, tuple[float, float]] = {}
        self._next_at = self._began
        self._seconds = 0.0

    def look(self) -> float:
        """Take a sample, if it is time for one; when the next one is due."""
        if (now := time.monotonic()) >= self._next_at:
            self._sample(now)
            self._samples += 1
            self._next_at = time.monotonic() + (_OFTEN_S if self._samples <= _OFTEN_TIMES else _SELDOM_S)
        return self._next_at

    def over(self) -> None:
        """The command has ended just now."""
        self._seconds = time.monotonic() - self._began

    def write(self, path: str) -> None:
        """Write down what was seen of a command that is over. Raises OSError."""
        values = self._values()
        with open(path, "w", encoding="utf-8") as file:
            if path.endswith(".jsonl"):
                file.write(
                    json.dumps({name: values[i] for i, name in enumerate(COLUMNS)}, sort_keys=True) + "\n"
                )
            else:
                file.write("\t".join(COLUMNS) + "\n" + "\t".join(map(_text, values)) + "\n")

    def _sample(self, now: float) -> None:
        memory = dict.fromkeys(("max_rss", "max_vms", "max_uss", "max_pss"), 0.0)
        read = written = load = 0.0
        found, counts_io = False, True
        for process in _below(self._pid):
            if self._sampled_at is not None:
                load += self._percent(process, now) * (now - self._sampled_at)
            try:
                for name, size in _memory(process.pid).items():
                    memory[name] += size / _MIB
                if counts_io:
                    in_and_out = _io(process.pid)
                    read, written = read + in_and_out[0] / _MIB, written + in_and_out[1] / _MIB
            except FileNotFoundError:
                counts_io = os.path.exists("/proc/self/io")
                if counts_io:  # it has ended just now
                    continue
            except (OSError, ValueError):  # ended just now, or another user's
                continue
            self._cpu[process.pid, process.name] = process.cpu_seconds
            found = True
        if found:
            self._sampled_at = now
            self._load += load
            self._io = (read, written) if counts_io else (None, None)
            self._peaks = {name: max(size, self._peaks.get(name, 0.0)) for name, size in memory.items()}

    def _values(self) -> list[Value]:
        seconds, known = self._seconds, bool(self._peaks)
        return [
            round(seconds, 4),
            _hours(seconds),
            *(self._peaks.get(name, "NA") for name in COLUMNS[2:6]),
            *self._io,
            self._load / seconds if known else "NA",
            sum(self._cpu.values()) if known else "NA",
        ]

    def _percent(self, process: _Process, now: float) -> float:
        """How much of a processor it has used since this was asked before; nothing the first time."""
        at, seconds = self._before.get(process.pid, (now, process.cpu_seconds))
        self._before[process.pid] = (now, process.cpu_seconds)
        return round((process.cpu_seconds - seconds) / (now - at) * 100, 1) if now > at else 0.0


def _below(root: int) -> Iterator[_Process]:
    """The process and all below it, parents first."""
    children: dict[int, list[_Process]] = {}
    first: list[_Process] = []
    ticks = os.sysconf("SC_CLK_TCK")
    for name in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        # processes come and go while we look
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
            before, _, after = file.read().rpartition(b")")
            fields = after.split()
            used = (int(fields[11]) + int(fields[12])) / ticks
            process = _Process(int(name), before.partition(b"(")[2], used)
            (first if process.pid == root else children.setdefault(int(fields[1]), [])).append(process)
    while first:
        process = first.pop(0)
        yield process
        first += children.pop(process.pid, [])


def _memory(pid: int) -> dict[str, int]:
    """Bytes, by the columns they count for. Raises OSError, or ValueError for one that has ended."""
    detailed = _read(f"/proc/{pid}/smaps_rollup" if os.path.exists("/proc/self/smaps_rollup") else
                     f"/proc/{pid}/smaps")  # fmt: skip
    if not detailed:
        raise ValueError("it has ended")
    kib = [(name, int(size)) for name, size in _KIB_OF.findall(detailed)]
    pages = [int(field) for field in _read(f"/proc/{pid}/statm").split()]
    return {
        "max_rss": pages[1] * os.sysconf("SC_PAGE_SIZE"),
        "max_vms": pages[0] * os.sysconf("SC_PAGE_SIZE"),
        "max_uss": sum(size for name, size in kib if name != b"Pss") * 1024,
        "max_pss": sum(size for name, size in kib if name == b"Pss") * 1024,
    }


def _io(pid: int) -> tuple[int, int]:
    """Bytes that were read from disks and written to them."""
    fields = dict(line.split(b": ") for line in _read(f"/proc/{pid}/io").splitlines() if b": " in line)
    return int(fields[b"read_bytes"]), int(fields[b"write_bytes"])


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _hours(seconds: float) -> str:
    """As Snakemake puts it: 0:00:07, or 2 days, 3:04:05."""
    whole = datetime.timedelta(seconds=seconds)
    days = f"{whole.days} day{'s' if whole.days != 1 else ''}, " if whole.days else ""
    minutes, rest = divmod(whole.seconds, 60)
    return f"{days}{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _text(value: Value) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
