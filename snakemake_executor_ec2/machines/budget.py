"""The budget of a run: a machine is launched only if its estimated cost fits beside those of running ones.

The cost is estimated before the launch: the machine's price for the rule's `runtime`, or for an
hour. That much is set aside until it has ended, or more if it has cost more already.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from snakemake_executor_ec2.model import Price, WithDisk
from snakemake_executor_ec2.sizing import expected
from snakemake_executor_ec2.sizing.cost import usd_per_hour

_ROUNDING_USD = 1e-9


def estimated_usd(price: Price | None, disk: WithDisk, runtime_min: int | None) -> float:
    """What a job's machine with its disk and address will cost; 0 without a price."""
    return 0.0 if price is None else usd_per_hour(price, disk) * expected.hours(runtime_min)


class Budget:
    """Threads share it. Without a limit everything fits."""

    def __init__(
        self,
        most_usd: float | None,
        costs_usd: Callable[[], Mapping[str, float]],
        before_usd: Mapping[str, float],
    ) -> None:
        """`costs_usd` is what each machine of the run has cost until now, those that run included;
        `before_usd` the same of earlier runs that count towards the budget."""
        self.most_usd = most_usd
        self._costs_usd = costs_usd
        self.before = before_usd
        self._before_usd = sum(before_usd.values())
        self._lock = threading.Lock()
        self._launching: list[float] = []
        self._running: dict[str, float] = {}

    @property
    def left_at_first_usd(self) -> float:
        """What was left of it before this run's first machine."""
        return float("inf") if self.most_usd is None else self.most_usd - self._before_usd

    def fits(self, needed_usd: float) -> bool:
        """Whether a machine of this estimated cost may be launched now."""
        with self._lock:
            return self._fits(needed_usd)

    def is_running(self) -> bool:
        """Whether any machine of the run is there, or about to be: when it ends, there may be more left."""
        with self._lock:
            return bool(self._launching or self._running)

    def spent_usd(self) -> float:
        """What has been spent until now."""
        with self._lock:
            return self._committed({})

    def set_aside_usd(self) -> float:
        """What running machines, and those about to be launched, are estimated to need beyond that."""
        with self._lock:
            return self._committed(self._running) + sum(self._launching) - self._committed({})

    @contextmanager
    def launching(self, needed_usd: float) -> Iterator[Callable[[str], None] | None]:
        """Set this much aside around a launch. Yields a function to call with the machine's id once it is
        launched, or None if too little is left; then nothing may be launched."""
        with self._lock:
            fits = self._fits(needed_usd)
            if fits:
                self._launching.append(needed_usd)

        def launched(machine_id: str) -> None:
            with self._lock:
                self._running[machine_id] = needed_usd

        if not fits:
            yield None
            return
        try:
            yield launched
        finally:
            with self._lock:
                self._launching.remove(needed_usd)

    def adopted(self, machine_id: str, needed_usd: float) -> None:
        """Count a machine that this run has taken over from an earlier one."""
        with self._lock:
            self._running[machine_id] = needed_usd

    def next_job(self, machine_id: str, needed_usd: float) -> bool:
        """Set aside what a machine's next job will cost, beside what it has cost; False if that does not
        fit."""
        with self._lock:
            if not self._next_job_fits(machine_id, needed_usd):
                return False
            self._running[machine_id] = self._spent_usd(machine_id) + needed_usd
            return True

    def next_job_fits(self, machine_id: str, needed_usd: float) -> bool:
        """Whether `next_job` would set that aside."""
        with self._lock:
            return self._next_job_fits(machine_id, needed_usd)

    def idle(self, machine_id: str, waiting_usd: float) -> None:
        """A machine's job has ended: no more is set aside than what waiting for the next one may cost."""
        with self._lock:
            self._running[machine_id] = self._spent_usd(machine_id) + waiting_usd

    def released(self, machine_id: str) -> None:
        """A machine has ended: only what it has cost counts."""
        with self._lock:
            self._running.pop(machine_id, None)

    def _next_job_fits(self, machine_id: str, needed_usd: float) -> bool:
        others = {name: usd for name, usd in self._running.items() if name != machine_id}
        return self._fits_beside(others, needed_usd)

    def _fits(self, needed_usd: float) -> bool:
        return self._fits_beside(self._running, needed_usd)

    def _fits_beside(self, running: Mapping[str, float], needed_usd: float) -> bool:
        if self.most_usd is None:
            return True
        planned = self._committed(running) + sum(self._launching) + needed_usd
        return planned <= self.most_usd + _ROUNDING_USD

    def _spent_usd(self, machine_id: str) -> float:
        """What a machine has cost until now, if anything depends on it."""
        return 0.0 if self.most_usd is None else self._costs_usd().get(machine_id, 0.0)

    def _committed(self, running: Mapping[str, float]) -> float:
        """What is spent, and for each running machine its estimated cost in the end."""
        costs = self._costs_usd()
        return self._before_usd + sum(
            max(costs.get(name, 0.0), running.get(name, 0.0)) - self.before.get(name, 0.0)
            for name in {*costs, *running}
        )
