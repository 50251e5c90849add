"""Where the agent keeps what it knows, and the few things that every command needs."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
import time
from typing import IO, Any

_ON_DISK = "/var/tmp"  # noqa: S108 - it is the system's own place for that
TEMPORARY = "/mnt/nvme"
"""The same on local disks, if a machine has mounted them (`local_disks.py`)."""
AGAIN = 75
"""The exit status of a command that may do better at once, in the same way (EX_TEMPFAIL)."""
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class AgentError(Exception):
    """Something expected went wrong: one sentence, printed without a traceback."""


def home() -> str:
    """`~/.snakemake-ec2`, which is made if it is missing."""
    path = os.path.join(os.path.expanduser("~"), ".snakemake-ec2")
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def stand_ins_table() -> str:
    """Where it is noted which files are stand-ins (`standins.py`)."""
    return os.path.join(home(), "stand-ins")


def keep_temporary_files_on_disk(mounts: str = "/proc/mounts") -> None:
    """Let what we run put its temporary files on local disks, if they are mounted; else, if /tmp is in
    memory, as on Amazon Linux 2023, on the disk, which is as large as was asked for. A TMPDIR of the image's
    or the user's stands."""
    if os.path.ismount(TEMPORARY) and os.access(TEMPORARY, os.W_OK):
        os.environ.setdefault("TMPDIR", TEMPORARY)
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            kinds = [kind for _, place, kind, *_ in map(str.split, file) if place == "/tmp"]  # noqa: S108
    except OSError:  # macOS has no such file
        return
    if kinds[-1:] == ["tmpfs"] and os.access(_ON_DISK, os.W_OK):
        os.environ.setdefault("TMPDIR", _ON_DISK)


def job_dir(key: str) -> str:
    """The folder of one job's events and output. It need not exist."""
    if not _KEY.fullmatch(key):
        raise AgentError(f"{key!r} cannot be a job's key")
    return os.path.join(home(), "jobs", key)


def boottime() -> float:
    """Seconds that only grow, sleep of the machine included, unaffected by setting the clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def say(answer: dict[str, Any]) -> None:
    """Print one line of JSON at once."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def read_request() -> dict[str, Any]:
    """The JSON object on standard input."""
    try:
        request = json.load(sys.stdin)
    except ValueError as error:
        raise AgentError(f"the request is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise AgentError("the request is not a JSON object")
    return request


def write_whole(path: str, text: str) -> None:
    """Put a text file in place when all of it is written."""
    part = f"{path}.{os.getpid()}"
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(part, path)


def try_lock(path: str, *, wait: bool = False, shared: bool = False) -> IO[bytes] | None:
    """Hold a lock until the result is closed or this process ends; None if another holds it."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    file = open(path, "ab")  # noqa: SIM115 - the open file is the lock
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.close()
        return None
    return file


def command_line(*arguments: str, python: str = sys.executable) -> list[str]:
    """How to start this agent again, with other arguments, maybe in another Python."""
    archive = getattr(globals().get("__loader__"), "archive", None)
    program = [str(archive)] if archive else ["-m", "snakemake_executor_ec2.agent"]
    return [python, *program, *arguments]


def spawn_detached(arguments: list[str], request: dict[str, Any], log: str) -> dict[str, Any]:
    """Start the agent again in a session of its own, and return the line that it answers with.

    The request goes through a pipe: it is never on a disk nor in an argument. The new process
    survives this one and the ssh connection; what it prints to standard error goes to `log`.
    """
    import subprocess  # late: most commands start none

    with open(log, "ab") as errors:
        child = subprocess.Popen(
            command_line(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            close_fds=True,
            cwd="/",
        )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdout, child.stdin:
        child.stdin.write(json.dumps(request).encode())
        child.stdin.close()
        line = child.stdout.readline()
    child.returncode = 0  # it outlives us: nobody here waits for it, and Popen must not complain
    if not line:
        raise AgentError(f"the agent's {arguments[0]} ended before it began; see {log}")
    answer: dict[str, Any] = json.loads(line)
    return answer


def leave_standard_streams() -> None:
    """Let go of the ssh connection's streams, for a process that outlives it."""
    sys.stdout.flush()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
