"""What this folder's journal tells the commands of its jobs' times and sizes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_ec2.cli.common import to_stderr
from snakemake_executor_ec2.cli.history import summary_of_journal
from snakemake_executor_ec2.errors import JournalOfAnotherVersion
from snakemake_executor_ec2.records.journal import FOLDER, Journal

if TYPE_CHECKING:
    from snakemake_executor_ec2.report.summary import Summary


def folder_summary() -> Summary | None:
    """Of all runs of the present folder; None if none has asked for a machine, or the journal cannot be
    read, which is said."""
    if not (FOLDER / "journal.sqlite").exists():
        return None
    try:
        journal = Journal(Path.cwd(), now=time.time, warn=to_stderr)
    except JournalOfAnotherVersion as error:
        to_stderr(error.message)
        return None
    try:
        return summary_of_journal(journal, lambda runs: runs)
    finally:
        journal.close()
