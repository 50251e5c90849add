"""The outcomes as a page (docs/conformance.md). Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from tests.conformance.outcomes import PASSED, Outcome, Outcomes

_INTRODUCTION = """\
# Conformance with Snakemake's own tests

Whatever Snakemake does with its local executor it is to do with `--executor ec2`. The yardstick is
the test suite that Snakemake's authors wrote: `tests/tests.py` in its source distribution, run
unchanged, first with the local executor, then with `ec2` in its place. The machines are those of the
embedded cloud (`--ec2-cloud local`): hosts of their own, which see no file of the controller and are
reached through EC2's API and ssh only.

A test counts when it passes with the local executor and hands it at least one job. The others, such as
tests of the command line, of dry runs and of reports, say nothing about an executor.
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
        f"| pass with the local executor | {sum(at.how == PASSED for at in local)} |",
        f"| of those, hand it at least one job | {len(candidates)} |",
        f"| **of those, pass with `ec2`** | **{len(passed)}**{share} |",
        f"| exceptions, whose premise is one shared computer | {len(excused)} |",
        f"| fail with `ec2` | {len(failed)} |",
        *([f"| not run with `ec2` yet | {len(not_run)} |"] if not_run else []),
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
        "These do not pass with the local executor where this was run, or Snakemake skips them itself: they",
        "want other programs (conda, apptainer), another executor (`cluster-generic`), storage plugins, or",
        "the internet.",
        "",
        *_by_reason({test: at for test, at in outcomes.local.items() if at.how != PASSED}),
        "",
        "## What passes",
        "",
        ", ".join(f"`{test}`" for test in passed) + ".",
        "",
    ]
    return "\n".join(lines)


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
