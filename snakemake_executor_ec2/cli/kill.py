"""`snakemake-ec2 kill NAME…`: end machines of this folder's runs now, whatever they do. A run that is
alive starts their jobs again on other machines."""

from __future__ import annotations

import argparse

from snakemake_executor_ec2.cli.common import attempt_named, folder_journal, inventory_with
from snakemake_executor_ec2.errors import ConfigurationError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", help="machines' ids, jobs' keys, or parts of their labels")


def main(options: argparse.Namespace) -> int:
    """Terminate the machines and note it. What they had not handed over is lost."""
    with folder_journal(options) as journal:
        for name in options.names:
            attempt = attempt_named(journal, name, alone=True)
            if attempt.machine is None:
                raise ConfigurationError(f"{attempt.label} has no machine")
            assert journal is not None
            inventory_with(options, journal.run(attempt.run)).terminate([attempt.machine.id])
            text = f"terminated {attempt.machine.id} of {attempt.label}"
            if journal.is_alive(attempt.owner):
                text += ", which its run, being alive, starts again on another machine"
            else:
                journal.end(attempt.id, attempt.ending or "killed", machine_ended=True)
            print(text)
    return 0
