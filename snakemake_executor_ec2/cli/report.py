"""`snakemake-ec2 report`: make an HTML page about a run: machines, times, costs, sizes, failures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from snakemake_executor_ec2.cli.history import as_json, named, newest, put, summary_of

_PAGE = Path("ec2-report.html")


def add(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("run", nargs="?", metavar="RUN", help="default: the last run that used a machine")
    which.add_argument("--all", action="store_true", help="all runs of this folder")
    parser.add_argument("-o", "--output", type=Path, help=f"file to write; default: {_PAGE}")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--json", action="store_true", help="print the same for programs")
    kinds.add_argument("--csv", action="store_true", help="print a line for each job")
    kinds.add_argument(
        "--rst", action="store_true", help="print a table of jobs for the text of Snakemake's own report"
    )


def main(options: argparse.Namespace) -> int:
    """Write the page, or print its data. Raises ConfigurationError if there is no such run."""
    from snakemake_executor_ec2.report import export

    chosen = named(options.run) if options.run else newest
    summary = summary_of(options, (lambda runs: runs) if options.all else chosen)
    if options.json:
        put(as_json(export.report_json(summary)), options.output)
    elif options.csv:
        put(export.jobs_csv(summary), options.output)
    elif options.rst:
        put(export.jobs_rst(summary), options.output)
    else:
        from snakemake_executor_ec2.report.page import page

        output = options.output or _PAGE
        put(page(summary), output)
        if str(output) != "-":
            print(f"wrote {output}", file=sys.stderr)
    return 0
