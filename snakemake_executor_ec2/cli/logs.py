"""`snakemake-ec2 logs NAME`: show what a job has printed, as far as your computer has received it."""

from __future__ import annotations

import argparse
import codecs
import sys
import time
from collections.abc import Callable
from pathlib import Path

from snakemake_executor_ec2.cli.common import attempt_named, folder_journal, to_stderr
from snakemake_executor_ec2.plugin.broken_pipe import plain
from snakemake_executor_ec2.records.journal import FOLDER, Journal
from snakemake_executor_ec2.report.logs import find_log

_LOOK_EVERY_S = 0.5
_INTERRUPTED = 128 + 2


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", help="a machine's id, or a part of a job's name such as `rule align (sample=A)`"
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on until the job has ended, or until Ctrl-C"
    )


def main(options: argparse.Namespace) -> int:
    """Print the newest matching job's log."""
    with folder_journal(options) as journal:
        attempt = attempt_named(journal, options.name, options)
        assert journal is not None
        path = find_log(options.directory / FOLDER / "logs", attempt.key, attempt.label)
        if options.name != attempt.label:
            to_stderr(f"{attempt.label}, run {attempt.on.run}:")
        if options.follow:
            return _follow(path, lambda: _goes_on(journal, attempt.id))
        ended = not _goes_on(journal, attempt.id)
    text = path.read_text(errors="replace") if path.exists() else ""
    if not text:
        to_stderr("it has printed nothing" if ended else "it has printed nothing yet")
    _print(text)
    return 0


def _follow(path: Path, goes_on: Callable[[], bool]) -> int:
    """Print what is there and what comes, for as long as something may."""
    at, last = 0, False
    text = codecs.getincrementaldecoder("utf-8")(errors="replace")
    try:
        while True:
            if path.exists():
                with path.open("rb") as file:
                    file.seek(at)
                    data = file.read()
                at += len(data)
                _print(text.decode(data))
            if last:
                return 0
            if goes_on():
                time.sleep(_LOOK_EVERY_S)
            else:
                last = True  # what came before its end was noted is there at the next look
    except KeyboardInterrupt:
        return _INTERRUPTED


def _goes_on(journal: Journal, attempt_id: int) -> bool:
    attempt = journal.attempt(attempt_id)
    return not attempt.end_reason and journal.is_alive(attempt.on.owner)


def _print(text: str) -> None:
    sys.stdout.write(plain(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
