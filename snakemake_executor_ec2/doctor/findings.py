"""What `snakemake-ec2 doctor` finds: findings, and the whole of them for people, programs, administrators."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

WIDTH = 100
_INDENT = " " * 25


class Status(StrEnum):
    """What a finding means for a run."""

    OK = "ok"
    WARNING = "warning"
    """A run works, and something about it is worth knowing."""
    PROBLEM = "problem"
    """A run would fail, or leave something behind."""
    UNTESTED = "not tested"
    """It may be in order or not: that cannot be seen from here."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    about: str
    """One or two words: `credentials`, `ssh key`."""
    status: Status
    text: str
    """What is so: one sentence, without a full stop at the end."""
    remedy: str = ""
    """What to do about it; not empty for a problem."""


def ok(about: str, text: str) -> Finding:
    return Finding(about=about, status=Status.OK, text=text)


def warning(about: str, text: str, remedy: str = "") -> Finding:
    return Finding(about=about, status=Status.WARNING, text=text, remedy=remedy)


def problem(about: str, text: str, remedy: str) -> Finding:
    return Finding(about=about, status=Status.PROBLEM, text=text, remedy=remedy)


def untested(about: str, text: str, remedy: str = "") -> Finding:
    return Finding(about=about, status=Status.UNTESTED, text=text, remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was found."""

    findings: tuple[Finding, ...]
    policy: dict[str, Any] | None = None
    """The policy that grants what is missing, and what could not be tested; None: nothing is known to be
    missing."""
    who: str = ""
    """Whom it has to be given to: `the user ann (arn:…)`."""
    account: str = ""
    where: str = "the user or role, Add permissions, Create inline policy, JSON"
    """Where an administrator pastes the policy, in AWS's IAM console."""

    def count(self, status: Status) -> int:
        return sum(each.status is status for each in self.findings)

    @property
    def exit_status(self) -> int:
        """1 if there is a problem."""
        return int(self.count(Status.PROBLEM) > 0)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "problems": self.count(Status.PROBLEM),
            "warnings": self.count(Status.WARNING),
            "findings": [
                {"about": each.about, "status": each.status.value, "text": each.text, "remedy": each.remedy}
                for each in self.findings
            ],
            "policy": self.policy,
            "for_administrator": self.letter() or None,
        }

    def end(self) -> list[str]:
        """For people, below the findings: what to hand to an administrator, and the sum."""
        found, letter = [], self.letter()
        if letter:
            found += ["", "For the administrator of the AWS account (or yourself, in the console):", ""]
            found += [f"  {line}".rstrip() for line in letter.splitlines()]
        return [*found, "", self._summary()]

    def letter(self) -> str:
        """What an administrator needs to know and to paste; empty if no permission is known to be missing."""
        if self.policy is None:
            return ""
        asked = (
            f"{self.who} of the account {self.account} starts EC2 machines with snakemake-ec2, and lacks "
            f"permissions for it. Please add this policy: IAM console, {self.where}. It allows making, using "
            "and ending only machines, disks and security groups that carry the tag snakemake-ec2:run."
        )
        return "\n".join([*textwrap.wrap(asked, WIDTH - 2), "", *policy_lines(self.policy)])

    def _summary(self) -> str:
        counts = (
            (self.count(Status.PROBLEM), "problem"),
            (self.count(Status.WARNING), "warning"),
            (self.count(Status.UNTESTED), "not tested"),
        )
        told = [_number(count, word) for count, word in counts if count or word == "problem"]
        text = ", ".join(told)
        return f"{text[:1].upper()}{text[1:]}. Nothing was launched, made or billed."


def policy_lines(policy: dict[str, Any]) -> list[str]:
    """A policy document, a line for each statement's parts rather than for each bracket."""
    rows = []
    for statement in policy["Statement"]:
        parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in statement.items()]
        rows.append("    {" + ",\n     ".join(_folded(part) for part in parts) + "}")
    head = f'{{"Version": {json.dumps(policy["Version"])},\n  "Statement": ['
    return [*head.split("\n"), *",\n".join(rows).split("\n"), "  ]}"]


def _folded(part: str) -> str:
    """Broken after commas, which JSON allows between any two words."""
    return "\n       ".join(textwrap.wrap(part, WIDTH - 12, break_long_words=False, break_on_hyphens=False))


def _number(count: int, word: str) -> str:
    if word == "not tested":
        return f"{count} not tested"
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"


def lines(each: Finding) -> list[str]:
    """For people: the finding, wrapped, and below it what to do."""
    head = f"{each.status.value:<10}  {each.about:<11}  "
    told = _wrapped(each.text, head)
    return [*told, *_wrapped(each.remedy, f"{_INDENT}→ ")] if each.remedy else told


def _wrapped(text: str, head: str) -> list[str]:
    indent = " " * max(len(head), len(_INDENT)) if head.strip() != "→" else f"{_INDENT}  "
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
