"""`snakemake-ec2 ps`: list the machines of this folder's runs: rule, state, age, cost so far, and lease (how
long they stay if their run is gone)."""

from __future__ import annotations

import argparse
import getpass
import time
from collections.abc import Sequence

from snakemake_executor_ec2.cli.common import folder_journal, inventories_of, rehearsals, to_stderr
from snakemake_executor_ec2.cli.machines import Row, gather
from snakemake_executor_ec2.formatting import duration, usd
from snakemake_executor_ec2.records.whereabouts import Verdict
from snakemake_executor_ec2.report.table import table
from snakemake_executor_ec2.sizing.cost import cost_usd

_HEADER = ("machine", "rule", "state", "type", "zone", "age", "cost", "lease", "run")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mine", action="store_true", help="all machines of this user, from any folder")
    parser.add_argument("--all", action="store_true", help="all machines of this tool in the account")


def main(options: argparse.Namespace) -> int:
    """Print the machines of this folder's runs, of this user's, or of the account's."""
    now = time.time()
    with folder_journal(options) as journal:
        inventories = inventories_of(options, journal)
        rows = [row for each in inventories for row in gather(each, journal, now)]
        for run in rehearsals(journal):
            to_stderr(f"Run {run.id} is a rehearsal: on EC2, its machines would cost what is shown.")
    if options.mine:
        rows = [row for row in rows if row.found.owner == getpass.getuser()]
    elif not options.all:
        rows = [row for row in rows if row.ours]
    print_table(rows, now)
    return 0


def print_table(rows: Sequence[Row], now: float) -> None:
    """The machines for people."""
    for line in table(_HEADER, [cells(row, now) for row in rows]):
        print(line)


def cells(row: Row, now: float) -> tuple[str, ...]:
    """A row as people read it, in the order of the header."""
    found, attempt = row.found, row.attempt
    machine = attempt.machine if attempt else None
    age = now - found.launched_at
    kept = attempt.on.kept_until if attempt else None
    return (
        found.id,
        attempt.label if attempt else found.rule,
        _state(row),
        found.instance_type,
        found.zone,
        _rounded(age),
        usd(cost_usd(machine, age)) if machine else "?",
        _lease(row, kept, now),
        found.run,
    )


def _state(row: Row) -> str:
    """What it does, and which run it belongs to, as far as that is known here."""
    if row.orphan:
        return f"orphan: {row.orphan}"
    if row.verdict is Verdict.ALIVE:
        if row.attempt and row.attempt.end_reason:
            return "idle"
        return row.attempt.phase.value if row.attempt else row.found.state.value
    if row.is_away:
        return "has a run that is away"
    if row.verdict is Verdict.DEAD:
        return "without a controller"
    whose = f"of {row.found.folder}" if row.found.folder else "of another folder"
    return f"{row.found.state.value}, {whose}"


def _lease(row: Row, kept_until: float | None, now: float) -> str:
    """How long it stays without its run; `at most` if only its own tag says so."""
    ends = row.found.expires_at
    until = kept_until or row.lease_until
    if until is None:
        return f"at most {_rounded(ends - now)}" if ends else "?"
    left = _rounded(min(until, ends or until) - now)
    if not row.has_lease and not row.run_alive:
        return f"ends in {left}: it got no job"
    return f"{left}, renewed" if row.run_alive and not kept_until else f"{left} left"


def _rounded(seconds: float) -> str:
    return duration(max(0, round(seconds / 60) * 60 if seconds >= 120 else round(seconds)))
