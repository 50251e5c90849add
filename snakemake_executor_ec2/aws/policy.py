"""The IAM policy that a run needs, as the package has it (`policy.json`): read, and cut down. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("policy.json")


@dataclass(frozen=True, order=True)
class Need:
    """One permission: an action, as one statement of the policy grants it."""

    statement: str
    """Its `Sid`."""
    action: str
    """Such as `ec2:RunInstances`, which several statements grant on different resources."""


@cache
def needs() -> tuple[Need, ...]:
    """All permissions of the policy, in its order."""
    return tuple(Need(row["Sid"], action) for row in _statements() for action in _actions(row))


def granting(missing: Collection[Need], *, partition: str = "aws") -> dict[str, Any]:
    """The part of the policy that grants these permissions and nothing else: a policy document.

    `partition` is the AWS that the account belongs to: `aws`, `aws-cn`, `aws-us-gov`.
    """
    rows = []
    for row in _statements():
        actions = [action for action in _actions(row) if Need(row["Sid"], action) in missing]
        if actions:
            rows.append({**row, "Action": actions})
    text = json.dumps({"Version": _document()["Version"], "Statement": rows})
    document: dict[str, Any] = json.loads(text.replace("arn:aws:", f"arn:{partition}:"))
    return document


def _statements() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _document()["Statement"]
    return rows


def _actions(row: dict[str, Any]) -> list[str]:
    named = row["Action"]
    return [named] if isinstance(named, str) else list(named)


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(FILE.read_text())
    return document
