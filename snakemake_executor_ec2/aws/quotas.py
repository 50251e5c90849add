"""The account's limits, as Service Quotas tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snakemake_executor_ec2.aws.errors import AWS_ERRORS

if TYPE_CHECKING:
    from snakemake_executor_ec2.aws.clients import Clients


def fetch_quota(clients: Clients, code: str) -> float | None:
    """A limit of EC2's by its code, in vCPUs.

    None where it can't be asked for: the permission servicequotas:GetServiceQuota is missing, or
    the service does not answer. EC2 itself then says when it is reached.
    """
    try:
        answer = clients.service_quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)
    except AWS_ERRORS:
        return None
    return answer["Quota"].get("Value")
