"""`snakemake-ec2 stop`: end the runs of this folder and all their machines; with --mine or --all every
machine of yours, or of the account.

It lists them and asks first. It finds machines by their tags, and needs no journal."""

from __future__ import annotations

import argparse
import getpass
import os
import signal
import sys
import time
from pathlib import Path

from snakemake_executor_ec2.away.project import controllers_of
from snakemake_executor_ec2.aws.inventory import Inventory
from snakemake_executor_ec2.cli.common import folder_journal, inventories_of, rehearsals, to_stderr
from snakemake_executor_ec2.cli.machines import Row, end, gather, tidy
from snakemake_executor_ec2.cli.ps import print_table
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.records import whereabouts
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.whereabouts import Verdict

_RUN_ENDS_S = 60.0
"""How long a run may take to end until its machines are ended without it."""
_SETTLES_S = 1.0


def add(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--mine", action="store_true", help="all machines of this user, from any folder")
    which.add_argument("--all", action="store_true", help="all machines of this tool in the account")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def main(options: argparse.Namespace) -> int:
    """List the machines, ask, end them. Results that were not fetched yet are lost."""
    with folder_journal(options, needed=False) as journal:
        inventories = inventories_of(options, journal)
        found = _rows(options, inventories, journal)
        regions = ", ".join(each.region for each in inventories)
        runs = [] if options.mine or options.all else _alive_here(journal)
        if not found and not runs:
            print(f"nothing to end: no machine of {_whose(options)} in {regions}")
            return 0
        print_table([row for _, row in found], time.time())
        if not options.yes and not _agreed(len(found)):
            print("nothing was ended")
            return 1
        rehearsed = {run.endpoint for run in rehearsals(journal)}
        _end_runs(journal, runs)
        # A rehearsal's cloud has ended with its run, and all machines with it.
        gone = rehearsed - {run.endpoint for run in rehearsals(journal)}
        return _end_all(options, [each for each in inventories if each.endpoint not in gone], journal)


def _whose(options: argparse.Namespace) -> str:
    if options.all:
        return "this tool's"
    return "yours" if options.mine else f"the runs of {options.directory.absolute()}"


def _rows(
    options: argparse.Namespace, inventories: list[Inventory], journal: Journal | None
) -> list[tuple[Inventory, Row]]:
    here = whereabouts.here(options.directory.absolute()).tag if Path(options.directory).is_dir() else ""
    away = controllers_of(journal.attempts() if journal else ())
    return [
        (inventory, row)
        for inventory in inventories
        for row in gather(inventory, journal, time.time())
        if _is_meant(options, row, here)
        or any(each.has_launched(row.found.folder, row.found.launched_at) for each in away)
    ]


def _is_meant(options: argparse.Namespace, row: Row, here: str) -> bool:
    if options.all:
        return True
    if options.mine:
        return row.found.owner == getpass.getuser()
    # What a journal says of another folder's run is no claim on its machines.
    return (row.ours and not row.copied) or row.found.folder == here


def _agreed(machines: int) -> bool:
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask on: give --yes to end them")
    print(
        f"End {machines} machine{'s' * (machines != 1)}, and lose results that are not fetched yet? [y/N] ",
        end="",
    )
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _alive_here(journal: Journal | None) -> list[tuple[str, int]]:
    """Runs of this folder that live on this computer: they would start jobs again on other machines."""
    if journal is None:
        return []
    ours = journal.here
    return [
        (run.id, run.where.pid)
        for run in journal.runs()
        if run.where
        and (run.where.host, run.where.boot) == (ours.host, ours.boot)
        and journal.verdict(run) is Verdict.ALIVE
    ]


def _end_runs(journal: Journal | None, runs: list[tuple[str, int]]) -> None:
    """Tell the runs to end, and wait until they have; they end their own machines."""
    for name, pid in runs:
        print(f"ending run {name} (process {pid})", flush=True)
        try:
            os.kill(pid, signal.SIGTERM)
        except OSError as error:
            to_stderr(f"run {name} could not be stopped ({error}): it may start jobs again")
    until = time.monotonic() + _RUN_ENDS_S
    while journal and any(journal.is_alive(name) for name, _ in runs):
        if time.monotonic() > until:
            to_stderr("a run has not ended yet: its machines are ended all the same, and it may start others")
            return
        time.sleep(0.2)


def _label(row: Row) -> str:
    return row.attempt.label if row.attempt else row.found.rule


def _starts_again(row: Row) -> str:
    """A run that could not be stopped from this computer starts its jobs again."""
    return (
        f"; its run is alive ({row.found.folder}) and starts the job again: end the run there"
        if row.run_alive
        else ""
    )


def _end_all(options: argparse.Namespace, inventories: list[Inventory], journal: Journal | None) -> int:
    """End the machines; twice, since a launch may show up late."""
    ended: dict[str, Row] = {}
    failures: dict[str, object] = {}
    for last in (False, True):
        for inventory, row in _rows(options, inventories, journal):
            if row.found.id in ended or row.found.id in failures:
                continue
            refused = end(inventory, [row], journal, "stopped")
            failures.update(refused)
            if not refused:
                ended[row.found.id] = row
                print(f"terminated {row.found.id} of {_label(row)}{_starts_again(row)}")
        if not last:
            time.sleep(_SETTLES_S)
    groups = sum(len(tidy(each, [*ended.values()], journal)) for each in inventories)
    for name, error in failures.items():
        to_stderr(f"{name} could not be ended: {error}")
    print(f"ended: {len(ended)} machines, {groups} security groups")
    return 1 if failures else 0
