"""The account's limits, from Service Quotas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snakemake_executor_ec2.aws.errors import AWS_ERRORS, is_denied, translate

if TYPE_CHECKING:
    from snakemake_executor_ec2.aws.clients import Clients


def fetch_quota(clients: Clients, code: str) -> float | None:
    """A limit of EC2's by its code, in vCPUs.

    None if the service does not answer: EC2 itself then says when it is reached. Raises PermissionDenied.
    """
    try:
        answer = clients.service_quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)
    except AWS_ERRORS as error:
        if is_denied(error):
            raise translate(error, "servicequotas:GetServiceQuota") from error
        return None
    return answer["Quota"].get("Value")
