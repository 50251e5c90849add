"""`snakemake-ec2 logs NAME`: what a job has printed, as far as your computer has received it."""

from __future__ import annotations

import argparse
import sys

from snakemake_executor_ec2.cli.common import attempt_named, folder_journal
from snakemake_executor_ec2.plugin.broken_pipe import plain
from snakemake_executor_ec2.records.journal import FOLDER


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a machine's id, a job's key, or a part of `rule align (sample=A)`")


def main(options: argparse.Namespace) -> int:
    """Print the newest matching job's log."""
    with folder_journal(options) as journal:
        key = attempt_named(journal, options.name).key
    path = options.directory / FOLDER / "logs" / key.split(".")[0] / f"{key}.log"
    if not path.exists():
        print(f"{path} does not exist: the job has printed nothing yet", file=sys.stderr)
        return 1
    text = path.read_text(errors="replace")
    sys.stdout.write(plain(text) if sys.stdout.isatty() else text)
    return 0
