"""Calls `doctor` on the embedded cloud, and reads what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from snakemake_executor_ec2.aws.policy import FILE
from snakemake_executor_ec2.cli import main
from snakemake_executor_ec2.local.cloud import EmbeddedCloud

POLICY = json.loads(FILE.read_text())
ASK_ABOUT_ONESELF = {
    "Effect": "Allow",
    "Action": "iam:SimulatePrincipalPolicy",
    "Resource": "arn:aws:iam::123456789012:user/rehearsal",
}


class Doctor:
    """Calls it where a shell of the embedded cloud's would."""

    def __init__(self, cloud: EmbeddedCloud, capfd: pytest.CaptureFixture[str]) -> None:
        self.cloud = cloud
        self._capfd = capfd

    def __call__(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Its exit status, and what it says to programs."""
        status, text = self.says("--json", *arguments)
        found: dict[str, Any] = json.loads(text)
        return status, found

    def says(self, *arguments: str) -> tuple[int, str]:
        """Its exit status and what it prints."""
        self._capfd.readouterr()
        status = main(["doctor", *arguments])
        return status, self._capfd.readouterr().out

    def allow(self, *statements: dict[str, Any]) -> None:
        """The package's policy and these statements, and nothing else."""
        self.cloud.allow(json.dumps({**POLICY, "Statement": [*POLICY["Statement"], *statements]}))


def statuses(found: dict[str, Any]) -> dict[str, set[str]]:
    """What each thing that was looked at is found to be."""
    rows: dict[str, set[str]] = {}
    for each in found["findings"]:
        rows.setdefault(each["about"], set()).add(each["status"])
    return rows


def problems(found: dict[str, Any]) -> list[dict[str, str]]:
    return [each for each in found["findings"] if each["status"] == "problem"]
