"""Whose credentials they are, where they come from, and how long they are good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from snakemake_executor_ec2.aws.errors import AWS_ERRORS, translate

if TYPE_CHECKING:
    from snakemake_executor_ec2.aws.clients import Clients


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What STS says of the caller."""

    arn: str
    """Such as `arn:aws:iam::123456789012:user/ann`; of a role's session `…:assumed-role/ROLE/SESSION`."""
    account: str

    @property
    def partition(self) -> str:
        """`aws`, `aws-cn` or `aws-us-gov`."""
        return self.arn.split(":")[1] if self.arn.count(":") >= 5 else "aws"

    @property
    def kind(self) -> str:
        """`root`, `user`, `assumed-role`, …"""
        return self.arn.rpartition(":")[2].partition("/")[0]

    @property
    def name(self) -> str:
        """The user's or the role's."""
        parts = self.arn.rpartition(":")[2].split("/")
        return parts[1] if self.kind == "assumed-role" and len(parts) > 1 else parts[-1]


def identify(clients: Clients) -> Identity:
    """Ask STS, which everybody may. Raises ConfigurationError, CloudError."""
    try:
        answer = clients.sts.get_caller_identity()
    except AWS_ERRORS as error:
        raise translate(error, "sts:GetCallerIdentity") from error
    return Identity(arn=answer["Arn"], account=answer["Account"])
