"""The comparison as a page (docs/conformance.md). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Outcomes by test name, `passed`, `failed` or `skipped`, with either executor."""

    snakemake: str
    local: Mapping[str, str]
    submitting: frozenset[str]
    """Tests that hand at least one job to their executor."""
    remote: Mapping[str, str]

    @property
    def candidates(self) -> list[str]:
        """Tests that pass with the local executor and hand it a job."""
        return sorted(test for test, how in self.local.items() if how == "passed" and test in self.submitting)

    def failures(self, exceptions: Mapping[str, str]) -> list[str]:
        """Candidates that do not pass with `ec2` and are no exceptions."""
        return [t for t in self.candidates if self.remote.get(t) != "passed" and t not in exceptions]


def table(comparison: Comparison, exceptions: Mapping[str, str]) -> str:
    """What passed, what did not, and why, in Markdown."""
    candidates = comparison.candidates
    passed = [test for test in candidates if comparison.remote.get(test) == "passed"]
    failed = comparison.failures(exceptions)
    excused = [test for test in candidates if test in exceptions and test not in passed]
    lines = [
        "# Conformance with Snakemake's own tests",
        "",
        "Written by `scripts/conformance`: the workflow tests of Snakemake's source distribution, run with",
        "the local executor and with `ec2` on the embedded cloud in its place.",
        "",
        "| | tests |",
        "| --- | ---: |",
        f"| Snakemake {comparison.snakemake}, `tests/tests.py` | {len(comparison.local)} |",
        f"| pass with the local executor | {sum(how == 'passed' for how in comparison.local.values())} |",
        f"| of those, submit at least one job | {len(candidates)} |",
        f"| of those, pass with `ec2` | {len(passed)} |",
        f"| exceptions, whose premise is one shared computer | {len(excused)} |",
        f"| fail with `ec2` | {len(failed)} |",
        "",
    ]
    if excused:
        lines += ["## Exceptions", "", *(f"- `{test}`: {exceptions[test]}" for test in excused), ""]
    if failed:
        lines += ["## Failures", "", *(f"- `{test}`" for test in failed), ""]
    return "\n".join(lines)
