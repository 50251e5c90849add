"""`snakemake-ec2 kill NAME…`: end machines now, whatever they do: of this folder's runs, or by id.

A run that is alive starts their jobs again on other machines."""

from __future__ import annotations

import argparse
import time

from snakemake_executor_ec2.aws.inventory import Inventory
from snakemake_executor_ec2.cli.common import (
    attempt_named,
    folder_journal,
    inventories_of,
    inventory_with,
    to_stderr,
)
from snakemake_executor_ec2.cli.machines import Row, end, gather, tidy
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.records.journal import Journal


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="+", help="machines' ids, or parts of jobs' names such as `rule align (sample=A)`"
    )


def main(options: argparse.Namespace) -> int:
    """Terminate the machines and note it. What they had not handed over is lost."""
    failed = 0
    with folder_journal(options) as journal:
        meant = [_meant(options, journal, name) for name in options.names]
        for inventory, row in meant:
            label = row.attempt.label if row.attempt else row.found.rule
            failures = end(inventory, [row], journal, "killed")
            for error in failures.values():
                to_stderr(f"{row.found.id} of {label} could not be ended: {error}")
            failed += len(failures)
            if failures:
                continue
            at_work = row.run_alive and not (row.attempt and row.attempt.end_reason)
            again = ", whose run is alive and starts the job again on another machine" if at_work else ""
            print(f"terminated {row.found.id} of {label}{again}", flush=True)
            tidy(inventory, [row], journal)
    return 1 if failed else 0


def _meant(options: argparse.Namespace, journal: Journal | None, name: str) -> tuple[Inventory, Row]:
    """The machine that a name means: one that carries our tags, whatever the journal says of it."""
    if name.startswith("i-"):
        for inventory in inventories_of(options, journal):
            for row in gather(inventory, journal, time.time()):
                if row.found.id == name:
                    return inventory, row
        raise ConfigurationError(
            f"{name} is no running machine of this tool: no running machine with its tags has this id"
        )
    attempt = attempt_named(journal, name, options, alone=True)
    if attempt.machine is None:
        raise ConfigurationError(f"{attempt.label} has no machine")
    assert journal is not None
    inventory = inventory_with(options, journal.run(attempt.on.run), journal)
    for row in gather(inventory, journal, time.time()):
        if (row.found.id, row.found.run) == (attempt.machine.id, attempt.on.run):
            return inventory, row
    raise ConfigurationError(f"{attempt.label}: its machine {attempt.machine.id} is gone")
