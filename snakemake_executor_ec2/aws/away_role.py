"""The role of machines that run a whole workflow: what it may do is this package's policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.aws import policy
from snakemake_executor_ec2.aws.clients import Clients
from snakemake_executor_ec2.aws.errors import AWS_ERRORS, code_of, translate

NAME = "snakemake-ec2-away"
"""Of the role and of its instance profile."""
FOR_USERS = Path(__file__).with_name("policy-away.json")
"""What a user who starts such machines needs beside the package's policy."""
_POLICY = "snakemake-ec2"
_THERE = "EntityAlreadyExists"
_FULL = "LimitExceeded"
"""An instance profile has one role: ours, on a second call. Of any other call it is a limit of the
account's."""


def trust() -> dict[str, Any]:
    """Who may take the role: EC2's machines."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }


def permissions(partition: str = "aws") -> dict[str, Any]:
    """What the role may do: all of this package's policy. `partition` is the AWS that the account is of."""
    return policy.granting(policy.needs(), partition=partition)


def make(clients: Clients) -> None:
    """Make the role and its instance profile, or bring its policy up to date. Raises Ec2ExecutorError."""
    iam = clients.iam
    _unless_there(
        "iam:CreateRole",
        lambda: iam.create_role(
            RoleName=NAME,
            AssumeRolePolicyDocument=json.dumps(trust()),
            Description="Snakemake: runs that go on without the computer that has started them",
        ),
    )
    _unless_there(
        "iam:PutRolePolicy",
        lambda: iam.put_role_policy(
            RoleName=NAME,
            PolicyName=_POLICY,
            PolicyDocument=json.dumps(permissions(clients.ec2.meta.partition)),
        ),
    )
    _unless_there("iam:CreateInstanceProfile", lambda: iam.create_instance_profile(InstanceProfileName=NAME))
    _unless_there(
        "iam:AddRoleToInstanceProfile",
        lambda: iam.add_role_to_instance_profile(InstanceProfileName=NAME, RoleName=NAME),
        _FULL,
    )


def _unless_there(action: str, call: Any, there: str = _THERE) -> None:
    try:
        call()
    except AWS_ERRORS as error:
        if code_of(error) != there:
            raise translate(error, action) from error
