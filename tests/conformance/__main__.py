"""Runs Snakemake's own workflow tests with the executor that they want and with `ec2`, and compares.

    python -m tests.conformance [--sample | --only EXPRESSION] [--keep FILE] [--table FILE] [--direct never]

With `--direct never` the tests in which jobs ran their own command are run once more, with a Snakemake
on each machine (`--ec2-direct never`): the outcome must be the same.
All of them take some two hours on two cores. With `--keep FILE` what has passed is kept there, with
the date, and not run again: an interrupted run, or one with failures, is gone on with by the same call.
`--sample` runs the cross-section that CI runs (`tests/conformance/sample.py`): two minutes.
Snakemake's source distribution, of the installed version, is downloaded with pip into a folder
outside of this repository and never committed.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from tests.conformance.outcomes import PASSED, Outcomes, load
from tests.conformance.reasons import ONE_COMPUTER
from tests.conformance.sample import SAMPLE
from tests.conformance.suite import Suite
from tests.conformance.table import table

_BATCH = 30
"""Tests between two looks at what has passed, which is then kept."""


def main() -> int:
    """Exit status 1 where a test passes locally, is no exception, and fails with `ec2`."""
    parser = argparse.ArgumentParser(
        prog="conformance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--sample", action="store_true", help="run the cross-section that CI runs")
    some.add_argument("--only", metavar="EXPRESSION", help="run tests that match, as pytest's -k")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep outcomes, do not repeat what passed")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write what came out as a page")
    parser.add_argument("--no-run", action="store_true", help="write what --keep's file holds, run nothing")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep what pytest printed")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="tests at a time (default: 2)")
    parser.add_argument(
        "--direct", choices=["auto", "never"], default="auto", help="what --ec2-direct is (default: auto)"
    )
    options = parser.parse_args()

    versions = {
        "snakemake": version("snakemake"),
        "ec2 executor": version("snakemake-executor-plugin-ec2"),
        "Python": platform.python_version(),
    }
    kept = load(options.keep, versions) if options.keep else Outcomes(versions=versions)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="snakemake-ec2-conformance-")))
        suite = Suite.downloaded(
            scratch=scratch, logs=options.logs or scratch, jobs=options.jobs, direct=options.direct
        )
        tests = list(SAMPLE) if options.sample else suite.collect(options.only)
        run = _run_never if options.direct == "never" else _run
        outcomes = kept if options.no_run else run(suite, tests, kept, options.keep)
    ours = outcomes.only(tests)
    text = table(ours, ONE_COMPUTER)
    if options.table:
        options.table.write_text(text)
    failures = ours.failures(ONE_COMPUTER)
    print(f"{len(ours.candidates)} of {len(tests)} tests pass locally and hand over a job", flush=True)
    for test in failures:
        why = ours.ec2[test].why if test in ours.ec2 else "not run"
        print(f"{test} fails with ec2: {why}", flush=True)
    untold = [test for test in tests if options.sample and test not in ours.candidates]
    for test in untold:
        print(f"{test} is in the sample, but tells nothing: {ours.local[test].why or 'it hands over no job'}")
    for test in ours.differing:
        print(f"{test} passes with --ec2-direct {'auto' if ours.passes(test) else 'never'} only")
    return 1 if failures or untold or ours.differing else 0


def _run(suite: Suite, tests: list[str], outcomes: Outcomes, keep: Path | None) -> Outcomes:
    """Run what has not passed yet, first locally, and with `ec2` what could be that executor's fault."""
    new = [test for test in tests if test not in outcomes.local]
    outcomes = _side("local", suite, new, outcomes, keep)
    candidates = [test for test in outcomes.candidates if test in tests]
    return _side("ec2", suite, [test for test in candidates if not outcomes.passes(test)], outcomes, keep)


def _run_never(suite: Suite, tests: list[str], outcomes: Outcomes, keep: Path | None) -> Outcomes:
    """Run once more, with a Snakemake on each machine, the tests in which jobs ran their own command."""
    outcomes = _run(replace(suite, direct="auto"), tests, outcomes, keep)
    passed = {test for test, at in outcomes.never.items() if at.how == PASSED}
    again = [test for test in outcomes.direct if test in tests and test not in passed]
    return _side("never", suite, again, outcomes, keep)


def _side(side: str, suite: Suite, tests: list[str], outcomes: Outcomes, keep: Path | None) -> Outcomes:
    """Run some tests on one side, and keep what came out after each batch."""
    with contextlib.ExitStack() as stack:
        env = stack.enter_context(_cloud()) if tests and side != "local" else {}
        for batch in _batches(tests):
            outcomes = outcomes.plus(side, suite.run(side, batch, env))
            if keep:
                outcomes.save(keep)
    return outcomes


def _batches(tests: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(tests), _BATCH):
        yield tests[start : start + _BATCH]


@contextlib.contextmanager
def _cloud() -> Iterator[dict[str, str]]:
    from snakemake_executor_ec2.local.cloud import EmbeddedCloud

    with EmbeddedCloud() as cloud:
        yield dict(cloud.env)


if __name__ == "__main__":
    sys.exit(main())
