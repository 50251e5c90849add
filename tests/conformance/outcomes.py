"""What became of Snakemake's tests, kept in a file: a long run can be interrupted and gone on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

PASSED = "passed"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one test on one side."""

    how: str
    """`passed`, `failed` or `skipped`."""
    why: str = ""
    """The message of what did not pass, in one line."""
    submits: bool = False
    """Whether a workflow of the test handed its executor a job."""
    date: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Of all tests that were run, by their names, with either executor; and what they were run with."""

    versions: Mapping[str, str]
    local: Mapping[str, Outcome] = field(default_factory=dict)
    ec2: Mapping[str, Outcome] = field(default_factory=dict)

    @property
    def candidates(self) -> list[str]:
        """Tests that pass with the local executor and hand it a job: the others tell nothing."""
        return sorted(test for test, at in self.local.items() if at.how == PASSED and at.submits)

    def failures(self, exceptions: Mapping[str, str]) -> list[str]:
        """Candidates that do not pass with `ec2` and are no exceptions."""
        return [test for test in self.candidates if not self.passes(test) and test not in exceptions]

    def passes(self, test: str) -> bool:
        """Whether a test passed with `ec2`."""
        return test in self.ec2 and self.ec2[test].how == PASSED

    def with_local(self, more: Mapping[str, Outcome]) -> Outcomes:
        return replace(self, local={**self.local, **more})

    def with_ec2(self, more: Mapping[str, Outcome]) -> Outcomes:
        return replace(self, ec2={**self.ec2, **more})

    def save(self, file: Path) -> None:
        whole = file.with_name(f"{file.name}.new")
        whole.write_text(json.dumps(asdict(self), indent=1, sort_keys=True))
        whole.replace(file)


def load(file: Path, versions: Mapping[str, str]) -> Outcomes:
    """What a file holds; nothing where there is none, or it comes from other versions."""
    if not file.exists():
        return Outcomes(versions=versions)
    kept = json.loads(file.read_text())
    if kept["versions"] != versions:
        return Outcomes(versions=versions)
    sides = {side: {test: Outcome(**at) for test, at in kept[side].items()} for side in ("local", "ec2")}
    return Outcomes(versions=versions, **sides)
