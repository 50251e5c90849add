"""What a workflow's controller needs on a machine of its own: files, software, variables, a command. Pure."""

from __future__ import annotations

import re
import shlex
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from snakemake_executor_ec2.model import Software
from snakemake_executor_ec2.records.rows import Attempt
from snakemake_executor_ec2.tags import AWAY_RULE

_MARGIN_S = 600.0
"""By how much this computer's clock and EC2's may differ."""
_NAME_MAX = 254
"""Snakemake splits the base64 of longer names, by the longest name that the file system takes."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """A workflow, as it leaves this computer. All paths are absolute."""

    workdir: Path
    sources: tuple[Path, ...]
    written: Mapping[Path, bytes] = field(repr=False)
    """What some of them have as their content there, instead of their own; by where they really are."""
    inputs: tuple[Path, ...]
    """Files that no rule makes."""
    made: tuple[Path, ...]
    """Outputs that are here, and what Snakemake has noted of them: only a new machine gets them."""
    tracked: tuple[str, ...] | None
    """What git tracks, relative to the working directory; None: no git."""
    env: Mapping[str, str] = field(repr=False)
    unset: tuple[str, ...]
    arguments: tuple[str, ...]
    """Of Snakemake."""
    software: Software
    also: tuple[str, ...]
    """Logs and benchmarks, of which Snakemake notes nothing."""
    patterns: tuple[str, ...]
    """Regular expressions of all that rules make."""
    told: str = ""
    """The program of `--ec2-notify`."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How long the machine stays, in seconds."""

    lifetime_s: int
    """From its launch, whatever happens."""
    keep_s: int
    """After the workflow has ended, without anybody who looks."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """What is remembered of a start, in the journal, beside what a session needs."""

    hostname: str
    """The machine's: its own journal's machines have it in their tags."""
    arguments: tuple[str, ...]
    also: tuple[str, ...]
    patterns: tuple[str, ...]
    sent: tuple[str, ...]
    """Paths here of sources and inputs: no result may replace them."""
    keep_s: int

    def as_json(self) -> dict[str, Any]:
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()
        }


def started_of(state: Mapping[str, Any]) -> Started:
    """What `as_json` gave."""
    facts: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in state.items()
    }
    return Started(**facts)


@dataclass(frozen=True, kw_only=True)
class Controller:
    """A machine that runs, or ran, a whole workflow."""

    hostname: str
    """Tags of its jobs' machines have it. EC2 makes it of the private address, which later machines of
    others may get again, and those of other networks have at the same time."""
    since: float
    until: float

    def has_launched(self, folder: str, launched_at: float) -> bool:
        """Whether a machine with this tag works for it, by the time of its launch too."""
        in_time = self.since - _MARGIN_S <= launched_at <= self.until + _MARGIN_S
        return folder.startswith(f"{self.hostname}:") and in_time


def controller_of(attempt: Attempt) -> Controller | None:
    """The machine of an attempt that is a whole workflow's; None: it was not ready, or is none."""
    state = attempt.saved_state or {}
    if attempt.rule != AWAY_RULE or attempt.machine is None or "away" not in state:
        return None
    until = attempt.on.ended_at or attempt.on.kept_until
    return Controller(
        hostname=started_of(state["away"]).hostname,
        since=attempt.machine.launched_at,
        until=float("inf") if until is None else until,
    )


def controllers_of(attempts: Iterable[Attempt]) -> tuple[Controller, ...]:
    """The machines that run whole workflows, among a folder's attempts."""
    return tuple(found for each in attempts if (found := controller_of(each)))


def command(arguments: tuple[str, ...], shorten: str) -> str:
    """What the machine runs: Snakemake, then `shorten`, with Snakemake's exit status."""
    # The shell outlives a signal that ends Snakemake, which then has the time to end its machines.
    return f"trap : TERM; snakemake {shlex.join(arguments)}; status=$?; {shorten} > /dev/null; exit $status"


def note_of(name: str) -> Path:
    """The file in which Snakemake notes what it knows of an output, relative to the working directory."""
    text = urlsafe_b64encode(name.encode()).decode()
    parts = [text[at : at + _NAME_MAX] for at in range(0, len(text), _NAME_MAX)]
    return Path(".snakemake", "metadata", *(f"@{part}" for part in parts[:-1]), parts[-1])


def may_come_home(name: str, started: Started, workdir: Path) -> bool:
    """Whether a machine may put something here under a name that it tells us: a rule makes it, it was not
    sent from here, and it is nothing hidden."""
    path = PurePosixPath(name)
    if ".." in path.parts or any(part.startswith(".") for part in path.parts):
        return False
    if str(workdir / name) in started.sent:
        return False
    # Outside of the working directory only what a rule says in full from its beginning on.
    fitting = [each for each in started.patterns if each.startswith("/") == path.is_absolute()]
    return name in started.also or any(re.fullmatch(pattern, name) for pattern in fitting)
