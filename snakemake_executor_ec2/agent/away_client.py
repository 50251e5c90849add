"""The controller's side of the agent on a machine that runs a whole workflow (see `away.py`)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from snakemake_executor_ec2.agent.answers import not_understood, texts
from snakemake_executor_ec2.agent.bundle import command
from snakemake_executor_ec2.agent.client import Agent
from snakemake_executor_ec2.errors import PreparationError, StagingError
from snakemake_executor_ec2.ports import ANSWER_BYTES

HASHING_S = 3600.0
"""How long the agent may take to read all that is there."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KINDS = frozenset({"file", "directory", "symlink"})
_LIST_BYTES = 128 << 20
"""The longest list of what is finished: some hundred thousand files."""


@dataclass(frozen=True, kw_only=True)
class FinishedFile:
    """A file on the machine that is finished."""

    name: str
    """As Snakemake calls it: relative to the working directory, or absolute."""
    kind: str
    bytes: int
    mtime_ns: int
    sha256: str | None
    """Of a directory or a link."""
    note: bool
    """Whether Snakemake has noted something of it."""


class AwayAgent(Agent):
    """The agent of such a machine."""

    def have(self, files: Mapping[str, tuple[str, int | None, int]]) -> frozenset[str]:
        """Which of a project's files, path → (SHA-256, mode, time), are there already."""
        request = {"files": {path: [*row] for path, row in files.items()}}
        answer = self._ask(StagingError, "have", request, timeout_s=HASHING_S)
        return frozenset(texts(answer.get("same"))).intersection(files)

    def finished(self, workdir: str, also: Collection[str]) -> tuple[FinishedFile, ...]:
        """What is finished. `also`: files that count if they are there."""
        request = {"workdir": workdir, "also": [*also]}
        answer = self._ask(StagingError, "finished", request, timeout_s=HASHING_S, most_bytes=_LIST_BYTES)
        rows = answer.get("files")
        if not isinstance(rows, list):
            raise not_understood("it does not say what is finished")
        return tuple(_finished(row) for row in rows)

    def shorten_after(self, seconds: float) -> str:
        """A shell command that has the machine end itself after so long without anybody who looks at it."""
        return f"printf '{{\"lease_s\": %d}}' {int(seconds)} | {command('guard').removeprefix('echo; ')}"

    def end(self, key: str, patience_s: float) -> bool:
        """Have a workflow's Snakemake end itself; whether it has within so many seconds."""
        request = {"key": key, "patience_s": patience_s}
        return self._ask(StagingError, "end", request, timeout_s=patience_s + 60).get("ended") is True

    def lease_left_s(self) -> float | None:
        """How long the machine stays if nobody looks at it; None if it does not say."""
        left = self._ask(StagingError, "status", {}).get("lease_left_s")
        return float(left) if isinstance(left, int | float) and not isinstance(left, bool) else None

    def tail(self, key: str, size: int) -> bytes:
        """The end of what a job has printed."""
        if not re.fullmatch(r"[A-Za-z0-9._-]+", key):
            raise PreparationError(f"{key!r} is no job's key")
        done = self._host.run(
            f'tail -c {size} "$HOME/.snakemake-ec2/jobs/{key}/output.log"',
            timeout_s=60,
            most_bytes=ANSWER_BYTES + size,
        )
        return done.stdout


def _finished(row: Any) -> FinishedFile:
    """Raises StagingError for what has another form."""
    if not isinstance(row, list) or len(row) != 6:
        raise not_understood("a file is described in another form")
    name, kind, size, mtime_ns, sha256, note = row
    good = (
        isinstance(name, str)
        and bool(name)
        and "\0" not in name
        and kind in _KINDS
        and all(type(each) is int and 0 <= each < 1 << 63 for each in (size, mtime_ns))
        and (sha256 is None or (isinstance(sha256, str) and bool(_SHA256.fullmatch(sha256))))
        and isinstance(note, bool)
    )
    if not good:
        raise not_understood("a file is described in another form")
    return FinishedFile(name=name, kind=kind, bytes=size, mtime_ns=mtime_ns, sha256=sha256, note=note)
