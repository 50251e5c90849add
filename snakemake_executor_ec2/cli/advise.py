"""`snakemake-ec2 advise`: write a profile with sizes that have been enough for this folder's jobs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from snakemake_executor_ec2.cli.history import put, summary_of
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.plugin.broken_pipe import plain


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="file to write the profile to, such as profiles/advised/config.yaml; default: print it",
    )


def main(options: argparse.Namespace) -> int:
    """Print a profile, or write it; and beside it what it rests on. Raises ConfigurationError if nothing has
    run here, or if FILE is somebody else's."""
    from snakemake_executor_ec2.report import advice
    from snakemake_executor_ec2.report.past import is_rehearsal

    output = options.output
    if output is not None and output.is_dir():
        raise ConfigurationError(f"{output} is a folder; name a file in it: {output / 'config.yaml'}")
    summary = summary_of(options, lambda runs: runs)
    found = advice.advice(summary.rules)
    rehearsals = sum(is_rehearsal(run.record) for run in summary.runs)
    notes = []
    if rehearsals:
        notes.append(
            f"{rehearsals} of {len(summary.runs)} runs were rehearsals: times, memory and disk are this "
            "computer's."
        )
    text = advice.profile(found, notes=notes)
    beside = sys.stderr if output is None else sys.stdout
    print(plain(advice.table(found)), file=beside)
    for note in notes:
        print(note, file=beside)
    if not text:
        print("Nothing to advise: no profile is made.", file=sys.stderr)
        return 0
    if output is None:
        put(text, None)
        return 0
    _write(text, output)
    how = f"--workflow-profile {output.parent}" if output.name == "config.yaml" else ""
    print(f"wrote {output}; it is used with `snakemake {how}`" if how else f"wrote {output}", file=sys.stderr)
    return 0


def _write(text: str, output: Path) -> None:
    """Into a folder that may be new. Raises ConfigurationError instead of replacing what is not ours."""
    from snakemake_executor_ec2.report.advice import FIRST_LINE

    try:
        if output.exists() and not output.read_text(errors="replace").startswith(FIRST_LINE):
            raise ConfigurationError(f"{output} is there, and not by this command: name another file")
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error}") from error
    put(text, output)
