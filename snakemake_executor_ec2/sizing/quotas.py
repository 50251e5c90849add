"""EC2's limits: which one counts a machine, and how many vCPUs of it are in use.

EC2 counts vCPUs by class of instance families and by market (Service Quotas, service `ec2`).
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from snakemake_executor_ec2.model import InstanceType, Market

if TYPE_CHECKING:
    from snakemake_executor_ec2.cancellation import CancelToken
    from snakemake_executor_ec2.ports import Clock

PROBE_S = 15.0
"""How long a limit that EC2 has enforced is respected, before one job tries again: other users of the
account end machines, too, and EC2 takes a moment to count ours as ended."""


@dataclass(frozen=True)
class Quota:
    """One of EC2's limits."""

    code: str
    name: str


# EC2 User Guide, "On-Demand Instance quotas" and "Spot Instance quotas". By the letters that a family
# begins with: what the limit is called, and its code.
_STANDARD = ("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z")
_ON_DEMAND = {
    **dict.fromkeys(_STANDARD, ("Standard (A, C, D, H, I, M, R, T, Z)", "L-1216C47A")),
    **dict.fromkeys(("g", "gr", "vt"), ("G and VT", "L-DB2E81BA")),
    "dl": ("DL", "L-6E869C2A"),
    "f": ("F", "L-74FC7D96"),
    "hpc": ("HPC", "L-F7808C92"),
    "inf": ("Inf", "L-1945791B"),
    "p": ("P", "L-417A185B"),
    "trn": ("Trn", "L-2C3B7624"),
    "u": ("High Memory", "L-43DA4232"),
    "x": ("X", "L-7295265B"),
}
_SPOT = {
    **dict.fromkeys(_STANDARD, ("Standard (A, C, D, H, I, M, R, T, Z)", "L-34B43A08")),
    **dict.fromkeys(("g", "gr", "vt"), ("G and VT", "L-3819A6DF")),
    "dl": ("DL", "L-85EED4F7"),
    "f": ("F", "L-88CF9481"),
    "inf": ("Inf", "L-B5D1601B"),
    # P is counted by generation here; what counts P6 is not documented.
    **dict.fromkeys(("p2", "p3", "p4"), ("P4, P3 and P2", "L-7212CCBC")),
    "p5": ("P5", "L-C4BD4855"),
    "trn": ("Trn", "L-6B0D517C"),
    "x": ("X", "L-E3A00192"),
}


def quota_of(instance_type: str, market: Market) -> Quota | None:
    """The limit that counts a type; None for families whose limit this module does not know."""
    family = re.match(r"([a-z]*)[0-9]?", instance_type)
    assert family is not None
    codes = _SPOT if market is Market.SPOT else _ON_DEMAND
    known = codes.get(family.group(1)) or codes.get(family.group())
    if known is None:
        return None
    name, code = known
    if market is Market.SPOT:
        return Quota(code, f"All {name} Spot Instance Requests")
    return Quota(code, f"Running On-Demand {name} instances")


@dataclass
class _Use:
    """One limit's vCPUs."""

    in_use: int = 0
    """Of our own machines, those that are being launched included."""
    limit: float | None = None
    """As far as is known; None: not yet met."""
    probe_at: float = 0.0


@dataclass
class QuotaLimiter:
    """Lets launches through as far as the account's limits are known. Threads share it.

    Nothing is known at first, or what Service Quotas tells. When EC2 refuses, what is in use then
    is the limit from now on; from time to time one launch tries to go beyond it. So a thousand
    waiting jobs make a refused call every 15 s and not a thousand.
    """

    clock: Clock
    _uses: dict[str, _Use] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def set_limit(self, quota: Quota, vcpus: float) -> None:
        """What Service Quotas says; only the first word counts."""
        with self._changed:
            use = self._uses.setdefault(quota.code, _Use())
            if use.limit is None:
                use.limit, use.probe_at = vcpus, self.clock.monotonic() + PROBE_S

    def reserve(self, instance_type: InstanceType, market: Market) -> bool:
        """Count a machine that is about to be launched; False if it would go beyond the limit."""
        quota = quota_of(instance_type.name, market)
        if quota is None:
            return True
        with self._changed:
            use = self._uses.setdefault(quota.code, _Use())
            now = self.clock.monotonic()
            if use.limit is not None and use.in_use + instance_type.vcpus > use.limit:
                if now < use.probe_at:
                    return False
                use.probe_at = now + PROBE_S
            use.in_use += instance_type.vcpus
            return True

    def count(self, instance_type: InstanceType, market: Market) -> None:
        """Count a running machine that an earlier run launched."""
        quota = quota_of(instance_type.name, market)
        if quota is None:
            return
        with self._changed:
            self._uses.setdefault(quota.code, _Use()).in_use += instance_type.vcpus

    def launched(self, instance_type: InstanceType, market: Market) -> None:
        """The reserved machine was launched: if that went beyond the known limit, the limit is higher."""
        quota = quota_of(instance_type.name, market)
        if quota is None:
            return
        with self._changed:
            use = self._uses[quota.code]
            if use.limit is not None and use.in_use > use.limit:
                use.limit, use.probe_at = use.in_use, self.clock.monotonic()
                self._changed.notify_all()

    def refused(self, instance_type: InstanceType, market: Market) -> None:
        """EC2 refused the reserved machine for its quota."""
        quota = quota_of(instance_type.name, market)
        if quota is None:
            return
        with self._changed:
            use = self._uses[quota.code]
            use.in_use -= instance_type.vcpus
            use.limit, use.probe_at = use.in_use, self.clock.monotonic() + PROBE_S

    def release(self, instance_type: InstanceType, market: Market) -> None:
        """A machine has ended, or was not launched after all: waiting jobs may try."""
        quota = quota_of(instance_type.name, market)
        if quota is None:
            return
        with self._changed:
            use = self._uses[quota.code]
            use.in_use -= instance_type.vcpus
            self._changed.notify_all()

    def in_use(self, quota: Quota) -> int:
        """The vCPUs of our own machines."""
        with self._changed:
            return self._uses.setdefault(quota.code, _Use()).in_use

    def wait(self, control: CancelToken, seconds: float) -> None:
        """Wait until a machine of the run ends, or for some seconds. Raises Cancelled."""
        with self._changed:
            if not control.cancelled:
                self._changed.wait(seconds)
        control.check()

    def wake(self) -> None:
        """End all waits: one of the jobs was cancelled."""
        with self._changed:
            self._changed.notify_all()
