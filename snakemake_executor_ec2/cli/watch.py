"""`snakemake-ec2 watch`: show what a run does now: jobs, machines, bytes, cost so far.

Use it in another terminal, on the same computer. It reads only what the run writes into its folder, so it
needs no credentials, and works for a rehearsal."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from snakemake_executor_ec2.cli.common import folder_journal, nothing_has_run, to_stderr
from snakemake_executor_ec2.plugin.broken_pipe import plain
from snakemake_executor_ec2.records import live
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.rows import RunRecord
from snakemake_executor_ec2.report.watching import Now, view

_EVERY_S = 2.0
_NONE = (
    "no run is going on in this folder: `snakemake-ec2 report` is about past ones, "
    "`snakemake-ec2 away status` about one in the cloud"
)
_OTHER_SCREEN, _BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_TOP, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="print it once, and end")


def main(options: argparse.Namespace) -> int:
    """Show the newest run of this folder until it has ended, or once if nobody is at a terminal."""
    with folder_journal(options) as journal:
        run = _newest(journal) if journal is not None else None
        if journal is None or run is None:
            to_stderr(_NONE if journal else nothing_has_run(options))
            return 1
        if options.once or not sys.stdout.isatty():
            _print(_lines(journal, run))
            return 0
        with _screen():
            while journal.is_alive(run.id):
                shown = "".join(f"{line}{_REST_OF_LINE}\n" for line in _lines(journal, run))
                sys.stdout.write(f"{_TOP}{shown}{_REST}")
                sys.stdout.flush()
                time.sleep(_EVERY_S)
        _print(_lines(journal, run))
    return 0


def _newest(journal: Journal) -> RunRecord | None:
    return next((run for run in reversed(journal.runs(closed=True)) if journal.is_alive(run.id)), None)


def _lines(journal: Journal, run: RunRecord) -> list[str]:
    size = shutil.get_terminal_size((100, 50))
    uses, moving = live.read(journal.folder, run.id)
    attempts, machines = journal.of_owner(run.id)
    at = Now(
        run=journal.run(run.id),
        attempts=attempts,
        machines=machines,
        uses=uses,
        moving=moving,
        now=time.time(),
        alive=journal.is_alive(run.id),
    )
    return [plain(line) for line in view(at, columns=size.columns, rows=size.lines - 1)]


def _print(lines: list[str]) -> None:
    print("\n".join(lines))


@contextmanager
def _screen() -> Iterator[None]:
    """A screen of its own, so that what was on the terminal is there afterwards. Ctrl-C is its usual end."""
    sys.stdout.write(_OTHER_SCREEN)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        sys.stdout.write(_BACK)
        sys.stdout.flush()
