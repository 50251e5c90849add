"""Whether a job can have a machine at all: found out before anything is launched."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.machines.baked import BakedChoice
from snakemake_executor_ec2.machines.budget import Budget, estimated_usd
from snakemake_executor_ec2.model import Image, Offer, Requirements
from snakemake_executor_ec2.ports import Cloud
from snakemake_executor_ec2.report import messages
from snakemake_executor_ec2.sizing import disk
from snakemake_executor_ec2.sizing.catalogue import Catalogue
from snakemake_executor_ec2.sizing.quotas import Quota, QuotaLimiter, quota_of
from snakemake_executor_ec2.sizing.select import best, offers

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Feasibility:
    """What a region, an account and a budget allow. Threads may share it."""

    cloud: Cloud
    catalogue: Catalogue
    budget: Budget
    limiter: QuotaLimiter
    """Hears of the account's limits."""
    ami: str | None = None
    """The run's image; None: Amazon's."""
    baked: BakedChoice | None = None
    """Takes an image that has the run's software in the place of its base."""
    _checked: dict[Requirements, Offer] = field(default_factory=dict)
    _quotas: dict[str, float | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, requirements: Requirements) -> Offer:
        """The best offer for a job.

        Raises ConfigurationError: nothing fits, the image is not there, the disk is too large, the
        account's limit is below the smallest machine that fits, a price limit can't be kept.
        """
        if known := self._checked.get(requirements):
            return known
        found = best(self.catalogue, requirements)
        most_usd = self.budget.most_usd
        if most_usd is not None and found.price is None:
            raise ConfigurationError(messages.no_budget_without_price(found))
        disk.volume(requirements, self.image_for(requirements), found)
        needed_usd = self.estimated_usd(found, requirements)
        if needed_usd > self.budget.left_at_first_usd:
            raise ConfigurationError(
                messages.budget_too_small(
                    found, needed_usd, requirements.runtime_min, most_usd or 0, self.budget.before
                )
            )
        self.check_quota(requirements, found)
        self._checked[requirements] = found
        return found

    def check_quota(self, requirements: Requirements, found: Offer) -> None:
        """Raise ConfigurationError if `found` and all others that fit are larger than their limits.

        Families whose limit is not known don't count: they are rare and dear, and not what is meant.
        """
        quota, limit = self._limit_of(found)
        if quota is None or limit is None or found.instance_type.vcpus <= limit:
            return
        for offer in offers(self.catalogue, requirements):
            other, others_limit = self._limit_of(offer)
            if other and others_limit is not None and offer.instance_type.vcpus <= others_limit:
                return
        raise ConfigurationError(
            messages.quota_too_small(quota, limit, found.instance_type, self.cloud.region)
        )

    def quota_vcpus(self, quota: Quota) -> float | None:
        """The account's limit; None if it is not known. Asked for once."""
        with self._lock:
            if quota.code not in self._quotas:
                self._quotas[quota.code] = value = self.cloud.quota(quota.code)
                if value is not None:
                    self.limiter.set_limit(quota, value)
            return self._quotas[quota.code]

    def forget_quota(self, quota: Quota) -> None:
        """Ask EC2 for the limit again."""
        with self._lock:
            self._quotas.pop(quota.code, None)

    def image_for(self, requirements: Requirements) -> Image:
        """The rule's machine image, else the run's, else Amazon's; or one that was baked from it."""
        named, gpu = requirements.ami or self.ami, requirements.gpus > 0
        base = self.cloud.image(named, requirements.arch, gpu=gpu)
        if self.baked is None:
            return base
        return self.baked.in_place_of(base, named=bool(named), gpu=gpu)

    def from_image_that_is_there(self, requirements: Requirements, launch: Callable[[], T]) -> T:
        """The result of a launch; of another one, from the base, if a baked image was deleted meanwhile."""
        image = self.image_for(requirements) if self.baked else None
        try:
            return launch()
        except ConfigurationError as error:
            if not (self.baked and image and self.baked.is_without(image, error)):
                raise
        return launch()

    def estimated_usd(self, offer: Offer, requirements: Requirements) -> float:
        """What a machine for the job counts in the budget; 0 without a budget."""
        if self.budget.most_usd is None:
            return 0.0
        root = disk.volume(requirements, self.image_for(requirements), offer)
        return estimated_usd(offer.price, root, requirements.runtime_min)

    def _limit_of(self, offer: Offer) -> tuple[Quota | None, float | None]:
        quota = quota_of(offer.instance_type.name, offer.market)
        return quota, self.quota_vcpus(quota) if quota else None
