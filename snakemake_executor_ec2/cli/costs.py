"""`snakemake-ec2 costs`: show what this folder's runs have cost, by run and by rule."""

from __future__ import annotations

import argparse
from pathlib import Path

from snakemake_executor_ec2.cli.history import as_json, put, summary_of
from snakemake_executor_ec2.plugin.broken_pipe import plain


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, help="file to write; default: print")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--json", action="store_true", help="for programs")
    kinds.add_argument("--csv", action="store_true", help="a line for each rule of each run")


def main(options: argparse.Namespace) -> int:
    """Print or write the costs. Raises ConfigurationError if nothing has run here."""
    from snakemake_executor_ec2.report import export

    summary = summary_of(options, lambda runs: runs)
    if options.json:
        put(as_json(export.costs_json(summary)), options.output)
    elif options.csv:
        put(export.costs_csv(summary), options.output)
    else:
        put(plain(export.costs_text(summary)) + "\n", options.output)
    return 0
