"""Where moto keeps what it knows, and the one lock under which it may be asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends

# moto's models are not made for threads. Whoever reads or changes more than one thing holds this.
LOCK = threading.RLock()


def backend(region: str) -> Any:
    """moto's EC2 of a region."""
    return ec2_backends[DEFAULT_ACCOUNT_ID][region]


def instances(ec2: Any) -> Iterator[Any]:
    """Every instance of a region that was ever launched."""
    for reservation in list(ec2.reservations.values()):
        yield from reservation.instances


def is_gone(instance: Any) -> bool:
    return bool(instance.state in ("terminated", "shutting-down"))
