"""What EC2 had none of a moment ago, so that a thousand jobs ask once and not a thousand times."""

from __future__ import annotations

import threading

from snakemake_executor_ec2.model import LaunchSpec, Machine, Market
from snakemake_executor_ec2.ports import Clock

KEEP_S = 180.0
"""How long a lack of capacity is remembered; Karpenter's figure."""


class CapacityCache:
    """Remembers (market, type, zone) for a while. Threads share it."""

    def __init__(self, clock: Clock, keep_s: float = KEEP_S) -> None:
        self.keep_s = keep_s
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[tuple[Market, str, str], float] = {}

    def note(self, spec: LaunchSpec) -> None:
        """EC2 has refused this launch for lack of capacity."""
        self._add(spec.offer.market, spec.offer.instance_type.name, spec.zone)

    def note_reclaimed(self, machine: Machine) -> None:
        """EC2 has reclaimed a spot machine: it will have no other of its kind for now."""
        self._add(machine.market, machine.instance_type, machine.zone)

    def has(self, market: Market, type_name: str, zone: str) -> bool:
        """True if EC2 had none a moment ago."""
        with self._lock:
            return self._until.get((market, type_name, zone), 0.0) > self._clock.monotonic()

    def _add(self, market: Market, type_name: str, zone: str) -> None:
        with self._lock:
            self._until[market, type_name, zone] = self._clock.monotonic() + self.keep_s
