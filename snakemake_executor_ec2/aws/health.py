"""EC2's own checks of machines that do not answer us: one call for all of them, shared by all threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from snakemake_executor_ec2.aws.errors import AWS_ERRORS, translate
from snakemake_executor_ec2.errors import (
    ConfigurationError,
    CredentialsExpired,
    Ec2ExecutorError,
    PermissionDenied,
)
from snakemake_executor_ec2.ports import Clock

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceStatusTypeDef

    from snakemake_executor_ec2.aws.clients import Clients

MAX_AGE_S = 15.0
"""How old an answer may be, and the least time between two calls. EC2 checks once a minute."""
_MISSED_S = 60.0
_IDS_PER_CALL = 100


class HealthBoard:
    """The last answer of DescribeInstanceStatus for those who were asked about in the last minute.

    That call knows no tags, so machines that answer are left out of it.
    """

    def __init__(self, clients: Clients, *, clock: Clock) -> None:
        self._clients = clients
        self._clock = clock
        self._lock = threading.Lock()
        self._next_call = 0.0
        self._missed_at: dict[str, float] = {}
        self._impaired: frozenset[str] = frozenset()
        self._error: Ec2ExecutorError | None = None

    def is_impaired(self, machine_id: str) -> bool:
        """See `Cloud.is_impaired`."""
        with self._lock:
            now = self._clock.monotonic()
            self._missed_at[machine_id] = now
            if now >= self._next_call:
                self._refresh(now)
            if self._error is not None:
                raise self._error
            return machine_id in self._impaired

    def _refresh(self, now: float) -> None:
        ids = sorted(name for name, at in self._missed_at.items() if now - at <= _MISSED_S)
        self._missed_at = {name: self._missed_at[name] for name in ids}
        rows: list[InstanceStatusTypeDef] = []
        try:
            for first in range(0, len(ids), _IDS_PER_CALL):
                answer = self._clients.ec2_once.describe_instance_status(
                    InstanceIds=ids[first : first + _IDS_PER_CALL]
                )
                rows += answer["InstanceStatuses"]
        except AWS_ERRORS as error:
            # Told to all who ask for a while: without a network, every call takes its time.
            told = translate(error, "ec2:DescribeInstanceStatus")
            told.__cause__ = error
            # An answer that says nothing of the machines is one: our line to EC2 is up. Such as where one
            # of them was launched a moment ago, and is not known yet.
            is_answer = isinstance(error, ClientError) and not isinstance(
                told, PermissionDenied | CredentialsExpired | ConfigurationError
            )
            self._error, self._impaired = None if is_answer else told, frozenset()
        else:
            self._error = None
            self._impaired = frozenset(row["InstanceId"] for row in rows if _is_impaired(row))
        self._next_call = self._clock.monotonic() + MAX_AGE_S


def _is_impaired(row: InstanceStatusTypeDef) -> bool:
    """Either check counts: that of the instance, or that of the computer below it. While a machine
    boots they are `initializing`, which says nothing."""
    return "impaired" in (row["InstanceStatus"].get("Status"), row["SystemStatus"].get("Status"))
