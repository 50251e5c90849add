"""Why a job failed, from what the machine shows. Pure: the supervisor gathers, this decides."""

from __future__ import annotations

import re
import signal
from typing import NamedTuple

_MIB = 1 << 20
_NO_MEMORY = re.compile(rb"MemoryError|std::bad_alloc|Cannot allocate memory|java\.lang\.OutOfMemoryError")
_NO_SPACE = re.compile(rb"No space left on device|Disk quota exceeded")
_OWN_END = re.compile(
    rb"^CalledProcessError in file .*?"
    rb"(?:returned non-zero exit status (?P<status>\d+)\.|died with [^\n]*?(?P<signal>\d+)>?\.)$",
    re.MULTILINE | re.DOTALL,
)
"""How Snakemake reports a rule's command that failed: with the words of Python's `CalledProcessError`."""

_HINTS = {
    int(
        signal.SIGPIPE
    ): ": the program that read its output ended first (`… | head`, with Snakemake's pipefail)"
}


class Facts(NamedTuple):
    """What is known of a job's end."""

    exit_code: int
    """Of the job's own command (see `own_exit_code`). Negative: the signal that killed it."""
    over_runtime_s: float | None = None
    """The limit, where the supervisor ended the job because of it."""
    oom_kills: int = 0
    """Processes that the kernel killed for lack of memory while the job ran."""
    oom_line: str = ""
    """What the kernel's log says of it."""
    least_free: int | None = None
    """Bytes that were free, at the least, on the fullest file system of the job's."""
    disk_size: int = 0
    tail: bytes = b""
    """The end of what the job printed."""
    no_software: str = ""
    """Why what the job called could not be installed (`late.py`)."""
    differs: str = ""
    """Why the job was not run (`runner/run.py`): it would have computed something else than was decided."""


def own_exit_code(exit_code: int, tail: bytes) -> int:
    """How the rule's own command ended, given how the machine's Snakemake did and what it printed last.

    Snakemake's exit code is 1 whatever has failed, but it prints the command's. The last one counts; if it
    prints none (the rule's Python code raised an error, Snakemake itself was killed), it is Snakemake's
    own.
    """
    found = list(_OWN_END.finditer(tail)) if exit_code == 1 else []
    if not found:
        return exit_code
    status, number = found[-1]["status"], found[-1]["signal"]
    return int(status) if status else -int(number)


def classify(facts: Facts) -> tuple[str | None, str]:
    """The kind of failure (`model.Failure`'s values, None for success), and a sentence of evidence."""
    if facts.over_runtime_s is not None:
        return "over runtime", f"ended after {facts.over_runtime_s:.0f} s, its time limit"
    if facts.exit_code == 0:
        return None, ""
    if facts.no_software:
        return "no software", facts.no_software
    if facts.differs:
        return "differs", facts.differs
    if facts.oom_kills > 0:
        processes = "a process" if facts.oom_kills == 1 else f"{facts.oom_kills} processes"
        detail = f": {facts.oom_line}" if facts.oom_line else ""
        return "out of memory", f"the kernel killed {processes} because memory ran out{detail}"
    if facts.least_free is not None and facts.least_free < max(_MIB, facts.disk_size // 1000):
        return "disk full", f"only {facts.least_free // 1024} KiB were free on its file system"
    if found := _NO_SPACE.search(facts.tail):
        return "disk full", f"it printed {found[0].decode()!r}"
    if found := _NO_MEMORY.search(facts.tail):
        return "out of memory", f"it printed {found[0].decode()!r}"
    number = _signal_of(facts.exit_code)
    if number is not None:
        return "signal", f"killed by {_signal_name(number)}{_HINTS.get(number, '')}"
    return "exit", f"exit code {facts.exit_code}"


def _signal_of(exit_code: int) -> int | None:
    """The signal behind an exit code: negative here, 128 + n where a shell passes it on."""
    if exit_code < 0:
        return -exit_code
    deadly = (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE,
              signal.SIGILL, signal.SIGINT, signal.SIGPIPE, signal.SIGXCPU)  # fmt: skip
    return exit_code - 128 if exit_code - 128 in deadly else None


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
