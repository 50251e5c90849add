"""What `follow` prints, as typed values. For the controller; pure.

A machine may run a newer agent or be hostile, so what is not understood is left out
rather than believed: unknown types, missing fields, and lines that are no JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snakemake_executor_ec2.model import Failure, JobResult, Usage

_WORDS = 8192
_LARGEST_EXIT = 1 << 32


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a job's two files have been read to, in bytes. `Position()` is their beginning."""

    events: int = 0
    output: int = 0


@dataclass(frozen=True, kw_only=True)
class Started:
    """The job's command runs. `t` is the machine's clock, here and below: seconds since the epoch."""

    t: float
    pid: int


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What the job uses: now (memory, growth of its disk) and so far (CPU)."""

    t: float
    mem_mib: int
    cpu_seconds: float
    disk_mib: int


@dataclass(frozen=True, kw_only=True)
class SpotNotice:
    """EC2 wants the machine back. `action` is `terminate`, `stop` or `hibernate`, `at` when (ISO 8601)."""

    t: float
    action: str
    at: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The command has ended. Nothing comes after it."""

    t: float
    result: JobResult


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """The job did not end by itself: the machine is shutting down. Nothing comes after it."""

    t: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Unwatched:
    """The agent that watched the job was killed, so its end cannot be known. Nothing comes after it."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Output:
    """A piece of what the job printed, as it printed it: standard output and error together."""

    data: bytes


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """The connection is alive, and so is the machine's lease."""


JobEvent = Started | Sampled | SpotNotice | Finished | Interrupted | Unwatched | Output | Pulse


@dataclass(frozen=True, kw_only=True)
class Line:
    """One thing that happened, and where to go on reading after it."""

    at: Position
    event: JobEvent


def parse_line(line: bytes) -> Line | None:
    """One line of `follow`; None for one that is not understood."""
    try:
        said = json.loads(line)
        events, output = said["at"]
        at = Position(events=_natural(events), output=_natural(output))
        event = _parse(said)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    return None if event is None else Line(at=at, event=event)


def parse_event(event: Mapping[str, Any]) -> JobEvent | None:
    """One event of the supervisor's (a line of `events.jsonl`, or `status`'s `event`).

    None for an unknown type. Raises ValueError, TypeError or KeyError for a malformed one.
    """
    t = _number(event["t"])
    match event["type"]:
        case "started":
            return Started(t=t, pid=_natural(event["pid"]))
        case "sample":
            return Sampled(
                t=t,
                mem_mib=_natural(event["mem_mib"]),
                cpu_seconds=_number(event["cpu_seconds"]),
                disk_mib=_natural(event["disk_mib"]),
            )
        case "spot_notice":
            return SpotNotice(t=t, action=_words(event["action"]), at=_words(event["time"]))
        case "finished":
            return _finished(t, event)
        case "interrupted":
            return Interrupted(t=t, reason=_words(event["reason"]))
    return None


def _parse(said: Mapping[str, Any]) -> JobEvent | None:
    if "event" in said:
        return parse_event(said["event"])
    if "output" in said:
        return Output(data=said["output"].encode("utf-8", "surrogateescape"))
    if "lost" in said:
        return Unwatched(reason=_words(said["lost"]))
    return Pulse() if "pulse" in said else None


def _finished(t: float, event: Mapping[str, Any]) -> Finished:
    exit_code = event["exit_code"]
    if not isinstance(exit_code, int) or isinstance(exit_code, bool) or abs(exit_code) > _LARGEST_EXIT:
        raise TypeError("an exit code is a small whole number")
    failure = event["failure"]
    if failure is not None and not isinstance(failure, str):
        raise TypeError("a kind of failure is a word")
    if failure is not None and failure not in set(Failure):
        failure = Failure.EXIT  # a kind that only a newer agent knows
    return Finished(
        t=t,
        result=JobResult(
            exit_code=exit_code,
            failure=None if failure is None else Failure(failure),
            seconds=_number(event["seconds"]),
            usage=Usage(
                peak_mem_mib=_natural(event["peak_mem_mib"]),
                cpu_seconds=_number(event["cpu_seconds"]),
                peak_disk_mib=_natural(event["peak_disk_mib"]),
            ),
            evidence=_words(event.get("evidence", "")),
        ),
    )


def _words(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value[:_WORDS]


def _natural(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError("not a natural number")
    return value


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError("not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number
