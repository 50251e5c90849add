"""What the agent's commands answer, as typed values. For the controller; pure.

A machine may be hostile: each answer has the exact form that is expected, or is refused. What one
machine says becomes another's command line only in the forms that are named here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from snakemake_executor_ec2.agent.protocol import JobEvent, parse_event
from snakemake_executor_ec2.errors import StagingError
from snakemake_executor_ec2.model import Cleaned
from snakemake_executor_ec2.ports import Completed

_LOCKED = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,200}[A-Za-z0-9])?==[A-Za-z0-9][A-Za-z0-9.!+_-]{0,100}")
_VERSIONS = re.compile(r"(?:[<>=!~]=?|===)?[0-9][0-9.]{0,20}(?:,[<>=!~]=?[0-9][0-9.]{0,20}){0,5}")
_HOST_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{20,400}={0,2}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_LOCKED = 5000
_STATES = frozenset({"unknown", "running", "finished", "interrupted", "lost"})
_WORDS = 2000
_LONG_AGO, _FAR_OFF = 0.0, 1e11
KINDS = frozenset(
    {"file", "directory", "symlink", "missing", "other", "stand-in", "unreadable", "pipe", "socket", "device"}
)
"""Of a path that is asked for (see `agent.files.pack`)."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Whether a directory may be used on the machine, and why not."""

    path: str
    ok: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What `pack` brought."""

    kinds: Mapping[str, str]
    """For every path asked for (see `answers.KINDS`)."""
    why: Mapping[str, str] = field(default_factory=dict)
    """Why some of them were not sent."""
    skipped: tuple[str, ...] = ()
    """What was in directories and cannot be sent: pipes, sockets."""
    size: int
    """Bytes of content."""


@dataclass(frozen=True, kw_only=True)
class JobState:
    """A job as the machine knows it: `unknown`, `running`, `finished`, `interrupted` or `lost`."""

    state: str
    last: JobEvent | None = None
    """Finished or Interrupted, where it is."""


def answer_of(done: Completed) -> dict[str, Any]:
    """The JSON object in the last line; empty if there is none."""
    lines = done.stdout.rsplit(b"\n", 2)[-2:]
    for line in reversed(lines):
        if line.strip():
            try:
                answer = json.loads(line)
            except (ValueError, RecursionError):
                return {}
            return answer if isinstance(answer, dict) else {}
    return {}


def last_words(done: Completed) -> str:
    """What a command that failed has said last."""
    lines = done.stderr[-_WORDS * 4 :].decode(errors="replace").strip().splitlines()
    return lines[-1].rstrip(".")[-_WORDS:] if lines else f"exit status {done.exit_code}"


def short(value: object) -> str:
    """What a machine says, as far as it is a text, for a sentence."""
    return value[:_WORDS] if isinstance(value, str) else ""


def clock_of(answer: Mapping[str, Any]) -> float | None:
    """What time it is on a machine; None if it did not say, or nothing that could be true."""
    now = answer.get("now")
    good = isinstance(now, float) and math.isfinite(now) and _LONG_AGO <= now <= _FAR_OFF
    return now if good else None


def host_key_of(answer: Mapping[str, Any]) -> str | None:
    """The public half of a host key, `ssh-ed25519 …`; None for anything else."""
    key = answer.get("host_key")
    return key if isinstance(key, str) and _HOST_KEY.fullmatch(key) else None


def locked_of(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """Versions of packages, for the command lines of other machines; none if one has another form."""
    told = answer.get("locked")
    if not isinstance(told, list) or len(told) > _MOST_LOCKED:
        return ()
    good = all(isinstance(each, str) and _LOCKED.fullmatch(each) for each in told)
    return tuple(told) if good else ()


def versions_of(answer: Mapping[str, Any], wanted: str) -> str:
    """Versions of Python, for the command lines of other machines; what was `wanted` for any other form."""
    told = answer.get("versions")
    return told if isinstance(told, str) and _VERSIONS.fullmatch(told) else wanted


def texts(value: object) -> tuple[str, ...]:
    """A list of strings. Raises StagingError."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise not_understood("a list of words was expected")
    return tuple(value)


def seconds_of(answer: Mapping[str, Any]) -> float:
    """How long something took; 0 for what is no such number."""
    told = answer.get("seconds")
    good = isinstance(told, int | float) and not isinstance(told, bool) and 0 <= told < _FAR_OFF
    return float(told) if good and told is not None else 0.0


def sizes_of(answer: Mapping[str, Any]) -> dict[str, int]:
    """Files and their sizes, as far as they can be."""
    found = answer.get("files")
    pairs = (
        [each for each in found if isinstance(each, list) and len(each) == 2]
        if isinstance(found, list)
        else []
    )
    return {
        path: size
        for path, size in pairs
        if isinstance(path, str) and "\0" not in path and type(size) is int and 0 <= size < 1 << 63
    }


def have_of(answer: Mapping[str, Any]) -> tuple[dict[str, int], int | None]:
    """How much of an upload's files has arrived, by their keys; and the size of an upload that is done."""
    done = answer.get("done")
    size = done.get("bytes") if isinstance(done, dict) else None
    told = answer.get("have")
    pairs = told.items() if isinstance(told, dict) else ()
    have = {key: count for key, count in pairs if type(count) is int and 0 <= count < 1 << 63}
    return have, size if type(size) is int and 0 <= size < 1 << 63 else None


def bytes_of(begin: Mapping[str, Any]) -> int:
    """What all requested paths hold together, if the agent says so; it is only shown."""
    told = begin.get("paths")
    each = (
        [about.get("bytes") for about in told.values() if isinstance(about, dict)]
        if isinstance(told, dict)
        else []
    )
    return sum(size for size in each if type(size) is int and 0 <= size < 1 << 63)


def kinds_of(begin: Mapping[str, Any], asked: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What each requested path is, and why it cannot be sent if the agent says so."""
    told = begin.get("paths")
    kinds, why = {}, {}
    for path in asked:
        about = told.get(path) if isinstance(told, dict) else None
        about = about if isinstance(about, dict) else {}
        kind = about.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            raise not_understood(f"it does not say what {path} is")
        kinds[path] = kind
        if isinstance(about.get("why"), str):
            why[path] = about["why"][:_WORDS]
    return kinds, why


def job_state_of(answer: Mapping[str, Any]) -> JobState:
    """A job's state; `unknown` for what is not understood."""
    event = answer.get("event")
    try:
        last = parse_event(event) if isinstance(event, dict) else None
    except (ValueError, TypeError, KeyError):
        last = None
    state = answer.get("state")
    return JobState(state=state if isinstance(state, str) and state in _STATES else "unknown", last=last)


def checksums_of(answer: Mapping[str, Any]) -> dict[str, str]:
    """Checksums by names; what has another form is left out."""
    told = answer.get("sha256")
    pairs = told.items() if isinstance(told, dict) else ()
    return {name: sum_ for name, sum_ in pairs if isinstance(sum_, str) and _SHA256.fullmatch(sum_)}


def cleaned_of(answer: Mapping[str, Any]) -> Cleaned:
    """What is left of a job; what is not understood counts as changed."""
    changed, free = answer.get("changed"), answer.get("free_mib")
    if not isinstance(changed, str) or type(free) is not int or not 0 <= free < 1 << 63:
        return Cleaned(changed="its agent's answer is not understood", free_mib=0)
    return Cleaned(changed=changed[:_WORDS], free_mib=free)


def not_understood(why: str) -> StagingError:
    return StagingError(f"The answer of the machine's agent is not understood: {why}.")
