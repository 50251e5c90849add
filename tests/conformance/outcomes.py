"""What became of Snakemake's tests, kept in a file: a long run can be interrupted and gone on with."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

PASSED = "passed"
SIDES = ("local", "ec2", "never")
KINDS = {
    "cluster-generic": "the executor `cluster-generic`: groups, resources, scopes",
    "fs": "the storage `fs`",
    "http": "the storage `http`",
    "s3": "the storage `s3`",
}
"""Plugins that tests use, and how the table calls those tests."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one test on one side."""

    how: str
    """`passed`, `failed` or `skipped`."""
    why: str = ""
    """The message of what did not pass, in one line."""
    submits: bool = False
    """Whether a workflow of the test handed its executor a job."""
    direct: int = 0
    """Jobs whose machine was given their own command."""
    runner: int = 0
    """Jobs whose machine was given a Snakemake."""
    kinds: tuple[str, ...] = ()
    """The plugins that the test uses, of KINDS."""
    date: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Of all tests that were run, by their names, with each executor; and what they were run with."""

    versions: Mapping[str, str]
    local: Mapping[str, Outcome] = field(default_factory=dict)
    ec2: Mapping[str, Outcome] = field(default_factory=dict)
    never: Mapping[str, Outcome] = field(default_factory=dict)
    """With `--ec2-direct never`, of tests in which jobs ran their own command."""

    @property
    def candidates(self) -> list[str]:
        """Tests that pass with the local executor and hand it a job: the others tell nothing."""
        return sorted(test for test, at in self.local.items() if at.how == PASSED and at.submits)

    def failures(self, exceptions: Mapping[str, str]) -> list[str]:
        """Candidates that do not pass with `ec2` and are no exceptions."""
        return [test for test in self.candidates if not self.passes(test) and test not in exceptions]

    @property
    def direct(self) -> list[str]:
        """Candidates in which a job ran its own command, without Snakemake on its machine."""
        return [test for test in self.candidates if test in self.ec2 and self.ec2[test].direct]

    @property
    def differing(self) -> list[str]:
        """Tests that pass in one way for a job to run and not in the other."""
        return [
            test
            for test in self.direct
            if test in self.never and self.passes(test) != self._passes_never(test)
        ]

    def passes(self, test: str) -> bool:
        """Whether a test passed with `ec2`."""
        return test in self.ec2 and self.ec2[test].how == PASSED

    def _passes_never(self, test: str) -> bool:
        return self.never[test].how == PASSED

    def of_kind(self, kind: str) -> list[str]:
        """Candidates that use one of KINDS."""
        return [test for test in self.candidates if kind in self.local[test].kinds]

    def plus(self, side: str, more: Mapping[str, Outcome]) -> Outcomes:
        """With what came out on one side, `local`, `ec2` or `never`."""
        sides = {name: getattr(self, name) for name in SIDES}
        return replace(self, **{**sides, side: {**sides[side], **more}})

    def only(self, tests: Collection[str]) -> Outcomes:
        """Without the other tests."""
        sides = {name: getattr(self, name) for name in SIDES}
        return replace(
            self, **{name: {test: at[test] for test in at if test in tests} for name, at in sides.items()}
        )

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
    sides = {
        side: {test: Outcome(**{**at, "kinds": tuple(at["kinds"])}) for test, at in kept[side].items()}
        for side in SIDES
    }
    return Outcomes(versions=versions, **sides)
