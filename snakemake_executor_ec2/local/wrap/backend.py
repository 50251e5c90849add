"""Where moto keeps what it knows, and the one lock under which it may be asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

# moto's models are not made for threads. Whoever reads or changes more than one thing holds this.
LOCK = threading.RLock()


def backend(region: str) -> Any:
    """moto's EC2 of a region."""
    return ec2_backends[DEFAULT_ACCOUNT_ID][region]


def instances(ec2: Any) -> Iterator[Any]:
    """Every instance of a region that was ever launched."""
    for reservation in list(ec2.reservations.values()):
        yield from reservation.instances


def secret_of(access_key: str) -> str | None:
    """The secret key of an access key that was made with IAM on this cloud."""
    if (DEFAULT_ACCOUNT_ID not in iam_backends) or "aws" not in iam_backends[DEFAULT_ACCOUNT_ID]:
        return None
    for user in list(iam_backends[DEFAULT_ACCOUNT_ID]["aws"].users.values()):
        for key in user.access_keys:
            if key.access_key_id == access_key:
                return str(key.secret_access_key)
    return None


def is_gone(instance: Any) -> bool:
    return bool(instance.state in ("terminated", "shutting-down"))
