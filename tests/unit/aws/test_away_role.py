"""The role of machines that run whole workflows: made, or said why not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from snakemake_executor_ec2.aws import away_role
from snakemake_executor_ec2.errors import Ec2ExecutorError
from tests.unit.aws.scripted import client_error


class Iam:
    """Answers each call with the error that it has for it."""

    def __init__(self, **codes: str) -> None:
        self.codes = codes
        self.called: list[str] = []

    def __getattr__(self, call: str) -> Any:
        def answer(**_: object) -> None:
            self.called.append(call)
            if call in self.codes:
                raise client_error(self.codes[call])

        return answer


def make(iam: Iam) -> None:
    ec2 = SimpleNamespace(meta=SimpleNamespace(partition="aws"))
    away_role.make(cast("Any", SimpleNamespace(iam=iam, ec2=ec2)))


def test_what_is_there_stays() -> None:
    """A second call only brings the policy up to date."""
    there = dict.fromkeys(("create_role", "create_instance_profile"), "EntityAlreadyExists")
    iam = Iam(**there, add_role_to_instance_profile="LimitExceeded")
    make(iam)
    assert iam.called == [
        "create_role",
        "put_role_policy",
        "create_instance_profile",
        "add_role_to_instance_profile",
    ]


@pytest.mark.parametrize("call", ["create_role", "put_role_policy", "create_instance_profile"])
def test_an_account_s_limit_is_no_role_that_is_there(call: str) -> None:
    """So many roles, so long a policy: the machine would have no permissions, and the user was told all is
    well."""
    with pytest.raises(Ec2ExecutorError, match="LimitExceeded"):
        make(Iam(**{call: "LimitExceeded"}))
