"""The outcomes as a page (docs/conformance.md). Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from tests.conformance.outcomes import KINDS, PASSED, Outcome, Outcomes

_INTRODUCTION = """\
# Conformance with Snakemake's own tests

Whatever Snakemake does with its local executor, it should also do with `--executor ec2`. The test suite
of Snakemake's authors measures that: `tests/tests.py` in its source distribution, run unchanged, first
with the executor that a test asks for (the local one, or `cluster-generic`), then with `ec2` instead and
no option set. The machines are those of the embedded cloud (`--ec2-cloud local`): separate hosts, which
see no file of your computer and are reached only through EC2's API and ssh.

A test counts if it passes with its own executor and gives it at least one job. The others, such as tests
of the command line, of dry runs and of reports, say nothing about an executor.
"""


def table(outcomes: Outcomes, exceptions: Mapping[str, str]) -> str:
    """What passed, what did not, and why, in Markdown."""
    candidates = outcomes.candidates
    passed = [test for test in candidates if outcomes.passes(test)]
    excused = [test for test in candidates if test in exceptions and test not in passed]
    failed = [test for test in outcomes.failures(exceptions) if test in outcomes.ec2]
    not_run = [test for test in candidates if test not in outcomes.ec2 and test not in exceptions]
    local = outcomes.local.values()
    share = f" ({len(passed) / len(candidates):.0%})" if candidates else ""
    lines = [
        _INTRODUCTION,
        "| | tests |",
        "| --- | ---: |",
        f"| in Snakemake {outcomes.versions['snakemake']}'s `tests/tests.py` | {len(local)} |",
        f"| pass with their own executor | {sum(at.how == PASSED for at in local)} |",
        f"| of those, hand it at least one job | {len(candidates)} |",
        f"| **of those, pass with `ec2`** | **{len(passed)}**{share} |",
        f"| exceptions, each with its reason below | {len(excused)} |",
        f"| fail with `ec2` | {len(failed)} |",
        *([f"| not run with `ec2` yet | {len(not_run)} |"] if not_run else []),
        *_kinds(outcomes),
        *_ways(outcomes, exceptions),
        "",
        f"{_when(outcomes)} with {_versions(outcomes.versions)}.",
        "`scripts/conformance --table docs/conformance.md` runs it and writes this page; with `--keep FILE`",
        "what has passed in an earlier call is not run again, so it may be of an earlier commit.",
        "",
        "## Exceptions",
        "",
        *([f"- `{test}`: {exceptions[test]}" for test in excused] or ["None."]),
        "",
    ]
    if failed:
        lines += ["## Failures", "", *(f"- `{test}`: {outcomes.ec2[test].why}" for test in failed), ""]
    if not_run:
        lines += ["## Not run yet", "", ", ".join(f"`{test}`" for test in not_run) + ".", ""]
    lines += [
        "## What does not count",
        "",
        "These do not pass with their own executor on the computer that this was run on, or Snakemake skips",
        "them itself: they want other programs (conda, apptainer), a server of S3, or the internet (all that",
        "read from the storage `http` do).",
        "",
        *_by_reason({test: at for test, at in outcomes.local.items() if at.how != PASSED}),
        "",
        "## What passes",
        "",
        ", ".join(f"`{test}`" for test in passed) + ".",
        "",
    ]
    return "\n".join(lines)


def _kinds(outcomes: Outcomes) -> Iterable[str]:
    """What counts and passes of the tests that use plugins: rows of a table of their own."""
    yield from ("", "| of those that count, use | tests | pass |", "| --- | ---: | ---: |")
    plain = [test for test in outcomes.candidates if not outcomes.local[test].kinds]
    for what, tests in (
        ("the local executor and no storage", plain),
        *((name, outcomes.of_kind(kind)) for kind, name in KINDS.items()),
    ):
        yield f"| {what} | {len(tests)} | {sum(map(outcomes.passes, tests))} |"


def _ways(outcomes: Outcomes, reasons: Mapping[str, str]) -> Iterable[str]:
    """How jobs went to their machines in the tests that count, and whether it makes a difference."""
    ran = [outcomes.ec2[test] for test in outcomes.candidates if test in outcomes.ec2]
    counted = sum(bool(at.direct or at.runner) for at in ran)
    yield from ("", f"| jobs, in {counted} of those tests | |", "| --- | ---: |")
    yield f"| ran their own command, without Snakemake on the machine | {sum(at.direct for at in ran)} |"
    yield f"| ran with Snakemake on the machine, held to what was decided | {sum(at.runner for at in ran)} |"
    yield f"| tests with a job of the first kind | {len(outcomes.direct)} |"
    again = [test for test in outcomes.direct if test in outcomes.never]
    yield f"| of those, run once more with `--ec2-direct never` | {len(again)} |"
    yield f"| of those, another outcome | {len(outcomes.differing)} |"
    for test in outcomes.differing:
        yield f"| `{test}`: {reasons.get(test, 'a bug')} | |"


def _when(outcomes: Outcomes) -> str:
    dates = sorted({at.date for at in (*outcomes.local.values(), *outcomes.ec2.values()) if at.date})
    if not dates:
        return "Run"
    return f"Run on {dates[0]}" if len(dates) == 1 else f"Run from {dates[0]} to {dates[-1]}"


def _versions(versions: Mapping[str, str]) -> str:
    each = [f"{name} {version}" for name, version in versions.items()]
    return ", ".join(each[:-1]) + f" and {each[-1]}" if len(each) > 1 else "".join(each)


def _by_reason(outcomes: Mapping[str, Outcome]) -> Iterable[str]:
    tests = defaultdict(list)
    for test, at in sorted(outcomes.items()):
        tests[(at.how, at.why)].append(test)
    for (how, why), names in sorted(tests.items(), key=lambda each: (-len(each[1]), each[0])):
        yield f"- {how}, “{why}” ({len(names)}): {', '.join(f'`{name}`' for name in names)}"
