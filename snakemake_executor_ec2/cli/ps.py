"""`snakemake-ec2 ps`: every machine of this tool: rule, state, age, cost so far, lease."""

from __future__ import annotations

import argparse
import getpass
import time

from snakemake_executor_ec2.cli.common import folder_journal, inventories_of
from snakemake_executor_ec2.cli.machines import Row, gather
from snakemake_executor_ec2.report.cost import cost_usd, usd
from snakemake_executor_ec2.report.say import duration

_HEADER = ("machine", "rule", "state", "type", "zone", "age", "cost", "lease", "run")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mine", action="store_true", help="all machines of this user, of whatever folder")
    parser.add_argument("--all", action="store_true", help="all machines of this tool in the account")


def main(options: argparse.Namespace) -> int:
    """Print the machines of this folder's runs, of this user's, or of the account's."""
    now = time.time()
    with folder_journal(options) as journal:
        rows = [row for each in inventories_of(options, journal) for row in gather(each, journal, now)]
    if options.mine:
        rows = [row for row in rows if row.found.owner == getpass.getuser()]
    elif not options.all:
        rows = [row for row in rows if row.lease_until is not None]
    table = [_HEADER, *(cells(row, now) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(_HEADER))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


def cells(row: Row, now: float) -> tuple[str, ...]:
    """A row as people read it, in the order of the header."""
    found, attempt = row.found, row.attempt
    machine = attempt.machine if attempt else None
    age = now - found.launched_at
    if row.run_alive:
        phase = attempt.phase.value if attempt else found.state.value
    else:
        phase = f"orphan: {row.orphan}" if row.orphan else "without a controller"
    kept = attempt.kept_until if attempt else None
    return (
        found.id,
        attempt.label if attempt else found.rule,
        phase,
        found.instance_type,
        found.zone,
        _rounded(age),
        usd(cost_usd(machine, age)) if machine else "?",
        _lease(row, kept, now),
        found.run,
    )


def _lease(row: Row, kept_until: float | None, now: float) -> str:
    """How long it stays for sure without anybody; `at most` where only its own tag tells."""
    ends = row.found.expires_at
    until = kept_until or row.lease_until
    if until is None:
        return f"at most {_rounded(ends - now)}" if ends else "?"
    left = _rounded(min(until, ends or until) - now)
    return f"{left}, renewed" if row.run_alive and not kept_until else f"{left} left"


def _rounded(seconds: float) -> str:
    return duration(max(0, round(seconds / 60) * 60 if seconds >= 120 else round(seconds)))
