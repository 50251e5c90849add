"""How results come home from the machine of a whole run: those that are finished and not here yet, and then
what Snakemake has noted of them, so that it has nothing to do here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from snakemake_executor_ec2.agent.away_client import FinishedFile
from snakemake_executor_ec2.agent.trees import tree_digest
from snakemake_executor_ec2.away.machine import AwayMachine, bare_plan
from snakemake_executor_ec2.away.project import Started, may_come_home, note_of
from snakemake_executor_ec2.machines.counting import InParts
from snakemake_executor_ec2.machines.fetching import Fetching
from snakemake_executor_ec2.model import Transfer
from snakemake_executor_ec2.records.journal import FOLDER
from snakemake_executor_ec2.report.logs import log_path
from snakemake_executor_ec2.report.transfers import Told, files
from snakemake_executor_ec2.timing import SystemClock

_BATCH_FILES = 500
_BATCH_BYTES = 1 << 28
"""What a broken line costs at most, but for files that are larger."""


@dataclass(frozen=True, kw_only=True)
class Home:
    """What came of a fetch."""

    transfer: Transfer
    refused: tuple[str, ...]
    """Names of what was finished and is no result of the workflow's rules."""
    newer: tuple[str, ...]
    """Names of files that were made here after those there: they are not replaced."""


def fetch(
    machine: AwayMachine, started: Started, patterns: Sequence[str], tell: Callable[[str], None]
) -> Home:
    """Bring home what is finished; with `patterns` (a shell's, `results/*`) only what they match.

    A file that is here with the same size and time is not fetched again, and one that a run here has made
    since is not replaced by an older one. Raises StagingError, NotFetched.
    """
    workdir, ahead_ns = machine.workdir, machine.ahead_ns
    finished = [each for each in machine.finished(started.also) if _is_meant(each.name, patterns)]
    allowed = [each for each in finished if may_come_home(each.name, started, workdir)]
    others = [each for each in allowed if not _is_here(each, workdir, ahead_ns)]
    newer = {each.name for each in others if _is_newer_here(each, workdir, ahead_ns)}
    wanted = [each for each in others if each.name not in newer]
    everything = tuple(workdir / each.name for each in allowed)
    sent = tuple(map(Path, started.sent))
    transfers = _transfers(wanted, machine.connection.machine_id, tell)

    def bring(paths: Sequence[Path]) -> int:
        plan = bare_plan(
            "away", workdir, optional_outputs=tuple(paths), own=everything, inputs=sent, sources=sent
        )
        fetching = Fetching(
            plan=plan,
            paths=machine.paths,
            connection=machine.connection,
            ahead_ns=ahead_ns,
            tell=tell,
            transfers=transfers,
        )
        return fetching.results(succeeded=True)[1]

    size = 0
    for batch in _batches(wanted):
        size += bring([workdir / each.name for each in batch])
        there = [each for each in batch if each.note and os.path.lexists(workdir / each.name)]
        # Last: what is noted here is here.
        bring([workdir / note_of(each.name) for each in there])
    return Home(
        transfer=Transfer(
            files=len(wanted), bytes=size, seconds=0.0, kept=len(allowed) - len(wanted) - len(newer)
        ),
        refused=tuple(each.name for each in finished if each not in allowed),
        newer=tuple(sorted(newer)),
    )


def _transfers(wanted: Sequence[FinishedFile], machine_id: str, tell: Callable[[str], None]) -> InParts:
    """All batches are one transfer to the user."""
    clock = SystemClock()
    what = f"fetching {files(wanted)} from {machine_id}"
    told = Told(what=what, now=clock.monotonic, tell=tell, show=lambda *_: None)
    return InParts(clock=clock, tell=tell, live=None, told=told, total=sum(each.bytes for each in wanted))


def keep_log(machine: AwayMachine, key: str) -> None:
    """Keep what Snakemake has printed there where `snakemake-ec2 logs` looks for it."""
    log = log_path(bare_plan(key, machine.workdir), machine.workdir / FOLDER / "logs")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(machine.tail(key).encode(errors="surrogateescape"))


def _is_meant(name: str, patterns: Sequence[str]) -> bool:
    plain = [pattern.rstrip("/") for pattern in patterns]
    return not plain or any(fnmatchcase(name, each) or name.startswith(f"{each}/") for each in plain)


def _is_here(each: FinishedFile, workdir: Path, ahead_ns: int) -> bool:
    path = workdir / each.name
    if each.note and not (workdir / note_of(each.name)).is_file():
        return False
    if each.kind != "file":
        return each.sha256 is not None and tree_digest(str(path)) == each.sha256
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (each.bytes, each.mtime_ns - ahead_ns)


def _is_newer_here(each: FinishedFile, workdir: Path, ahead_ns: int) -> bool:
    """Of a directory, times say nothing of what is in it."""
    try:
        mtime_ns = os.lstat(workdir / each.name).st_mtime_ns
    except OSError:
        return False
    return each.kind != "directory" and mtime_ns > each.mtime_ns - ahead_ns


def _batches(wanted: Sequence[FinishedFile]) -> Iterator[list[FinishedFile]]:
    batch: list[FinishedFile] = []
    for each in wanted:
        if batch and (len(batch) == _BATCH_FILES or sum(one.bytes for one in batch) > _BATCH_BYTES):
            yield batch
            batch = []
        batch.append(each)
    if batch:
        yield batch
