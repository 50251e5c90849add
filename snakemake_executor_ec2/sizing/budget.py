"""What a run may cost at most, with the launches that are under way counted in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from snakemake_executor_ec2.errors import BudgetReached
from snakemake_executor_ec2.model import Offer
from snakemake_executor_ec2.report import say
from snakemake_executor_ec2.report.cost import MINIMUM_BILLED_S


class Budget:
    """Threads share it. Without a limit it lets everything through."""

    def __init__(self, most_usd: float | None, spent_usd: Callable[[], float]) -> None:
        """`spent_usd` is the estimated cost of all machines that there are, those that run included."""
        self._most_usd = most_usd
        self._spent_usd = spent_usd
        self._lock = threading.Lock()
        self._under_way_usd = 0.0

    def check(self) -> None:
        """Raise BudgetReached where nothing more may be launched."""
        if self._most_usd is None:
            return
        spent = self._spent_usd() + self._under_way_usd
        if spent >= self._most_usd:
            raise BudgetReached(say.budget_reached(spent, self._most_usd))

    @contextmanager
    def launching(self, offer: Offer) -> Iterator[None]:
        """Around a launch: until EC2 has answered, nobody else knows of the machine, so its first
        minute counts here. Raises BudgetReached before it."""
        hourly = offer.price.usd_per_hour if offer.price else 0.0
        minute_usd = hourly * MINIMUM_BILLED_S / 3600
        with self._lock:
            self.check()
            self._under_way_usd += minute_usd
        try:
            yield
        finally:
            with self._lock:
                self._under_way_usd -= minute_usd
