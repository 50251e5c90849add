"""What the commands read of past runs: a summary of those that were asked for."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_ec2.cli.common import folder_journal, nothing_has_run
from snakemake_executor_ec2.errors import ConfigurationError

if TYPE_CHECKING:
    from snakemake_executor_ec2.records.journal import Journal
    from snakemake_executor_ec2.records.rows import RunRecord
    from snakemake_executor_ec2.report.summary import Summary


def summary_of(options: argparse.Namespace, chosen: Callable[[list[RunRecord]], list[RunRecord]]) -> Summary:
    """Of the runs of the folder that `chosen` picks from those that asked for a machine, oldest first.
    Raises ConfigurationError if there are none."""
    with folder_journal(options) as journal:
        if journal is None:
            raise ConfigurationError(nothing_has_run(options))
        found = summary_of_journal(journal, chosen)
    if found is None:
        raise ConfigurationError("no run of this folder has asked for a machine yet")
    return found


def summary_of_journal(
    journal: Journal, chosen: Callable[[list[RunRecord]], list[RunRecord]]
) -> Summary | None:
    """The same of a journal that is open; None if no run has asked for a machine."""
    from snakemake_executor_ec2.records.lives import lives
    from snakemake_executor_ec2.report.summary import summarize

    now = time.time()
    every = journal.attempts()
    used = {each.on.run for each in every}
    runs = [run for run in journal.runs(closed=True) if run.id in used]
    if not runs:
        return None
    picked = chosen(runs)
    names = {run.id for run in picked}
    attempts = [each for each in every if each.on.run in names]
    owners = {each.on.owner for each in attempts} | names
    alive = {owner for owner in owners if journal.is_alive(owner)}
    return summarize(picked, attempts, lives(journal, now), alive=alive, now=now)


def newest(runs: list[RunRecord]) -> list[RunRecord]:
    return runs[-1:]


def named(name: str) -> Callable[[list[RunRecord]], list[RunRecord]]:
    """Picks the run of a name, or the only one whose name begins so."""

    def chosen(runs: list[RunRecord]) -> list[RunRecord]:
        found = [run for run in runs if run.id == name] or [run for run in runs if run.id.startswith(name)]
        if len(found) == 1:
            return found
        names = ", ".join(run.id for run in found or runs[-5:])
        if found:
            raise ConfigurationError(f"{name!r} names several runs: {names}")
        raise ConfigurationError(f"no run {name!r} in this folder has used a machine; the last are {names}")

    return chosen


def put(text: str, output: Path | None) -> None:
    """Write a text to a file, whole or not at all, or to the terminal. Raises ConfigurationError."""
    if output is None or str(output) == "-":
        sys.stdout.write(text)
        return
    beside = output.with_name(f".{output.name}.part")
    try:
        beside.write_text(text, encoding="utf-8", errors="replace")
        beside.replace(output)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigurationError(f"{output} cannot be written: {error.strerror}") from error


def as_json(facts: dict[str, Any]) -> str:
    return json.dumps(facts, indent=2) + "\n"
