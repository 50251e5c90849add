"""What a `Launcher` remembers: for one job's way through the offers, and for all jobs of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import BudgetReached
from snakemake_executor_ec2.formatting import TellOnce
from snakemake_executor_ec2.machines.budget import Budget
from snakemake_executor_ec2.machines.capacity_cache import CapacityCache
from snakemake_executor_ec2.model import JobPlan, KeyPair, Offer
from snakemake_executor_ec2.ports import Clock
from snakemake_executor_ec2.report import messages
from snakemake_executor_ec2.sizing.quotas import Quota, QuotaLimiter


@dataclass
class Round:
    """One way through the offers for one job, and what EC2 said."""

    plan: JobPlan
    host_key: KeyPair
    machine_no: int
    number: int
    cancel: CancelToken
    codes: set[str]
    """EC2's codes, of the rounds before, too."""
    quota: Quota | None = None
    """The limit that was in the way, if one was."""
    beyond_budget_usd: float | None = None
    """The estimated cost of a machine for which too little is left of the budget."""


class Next(Enum):
    """What to try next if EC2 has no such machine in this zone."""

    ZONE = auto()
    OFFER = auto()


class LaunchState:
    """What the jobs of a run have found out."""

    def __init__(
        self,
        clock: Clock,
        keep_s: float,
        budget: Budget,
        limiter: QuotaLimiter,
        tell: Callable[[str], None],
    ) -> None:
        self.lock = threading.Lock()
        self.budget = budget
        self.limiter = limiter
        self.capacity = CapacityCache(clock, keep_s)
        self.tell_once = TellOnce(tell)
        self.holding: set[str] = set()
        """Machines that count towards the account's limits."""
        self.no_spot = False

    def some(self, offers: Iterable[Offer], most_types: int) -> Iterator[Offer]:
        """The best of ranked offers, of this many different types."""
        names: set[str] = set()
        for offer in offers:
            names.add(offer.instance_type.name)
            if len(names) > most_types or (offer.price is None and self.budget.most_usd is not None):
                return  # unknown prices come last
            yield offer

    def is_empty(self, offer: Offer, zone: str) -> bool:
        return self.capacity.has(offer.market, offer.instance_type.name, zone)

    def wait_for_budget(self, plan: JobPlan, needed_usd: float) -> str:
        """The sentence for a job that waits, because running machines may need less than was set aside
        for them. Raises BudgetReached if none runs: then waiting cannot help."""
        budget = self.budget
        most = budget.most_usd or 0.0
        if not budget.is_running() and not budget.fits(needed_usd):
            runtime = plan.requirements.runtime_min
            raise BudgetReached(messages.budget_reached(needed_usd, runtime, budget.spent_usd(), most))
        return messages.waiting_for_budget(budget.spent_usd(), budget.set_aside_usd(), most)
