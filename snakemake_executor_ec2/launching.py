"""Gets a machine for a job: what to launch, in which order, until one is to be had."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from snakemake_executor_ec2 import launch
from snakemake_executor_ec2.control import Control
from snakemake_executor_ec2.errors import CapacityError, LaunchError
from snakemake_executor_ec2.model import (
    Image,
    JobPlan,
    KeyPair,
    LaunchSpec,
    Machine,
    Offer,
    Requirements,
)
from snakemake_executor_ec2.ports import Clock, Cloud
from snakemake_executor_ec2.report import say
from snakemake_executor_ec2.sizing.catalogue import Catalogue
from snakemake_executor_ec2.sizing.select import select

MAX_OFFERS = 5
"""Types to try for a job: beyond these the price is no longer what the user would expect."""
STAGING_MARGIN_S = 2 * 3600
"""What a machine lives longer than its job's `runtime`, for software and files."""


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """Turns plans into launches. The same plan gives the same ones, in the same order."""

    cloud: Cloud
    catalogue: Catalogue
    clock: Clock
    run_id: str
    owner: str
    ami: str | None
    ssh_user: str
    authorized_keys: tuple[str, ...]
    user_tags: Mapping[str, str]
    lifetime_s: int
    tell: Callable[[str], None]
    """Prints a line for the user."""

    def check(self, requirements: Requirements) -> Offer:
        """The best offer for a job, found before anything is launched.

        Raises ConfigurationError: nothing fits, the image is not there, the disk is too large.
        """
        best = select(self.catalogue, requirements)[0]
        launch.disk_gib(requirements, self._image(requirements))
        return best

    def launch(self, plan: JobPlan, host_key: KeyPair, machine_no: int, control: Control) -> Machine:
        """See `lifecycle.Launches`: one type and zone after the other, the best first."""
        refused: list[LaunchError] = []
        for offer in select(self.catalogue, plan.requirements)[:MAX_OFFERS]:
            for spec in self._specs(plan, offer, host_key, machine_no):
                control.check()
                try:
                    return self.cloud.launch(spec)
                except CapacityError as error:
                    refused.append(error)
                    self.tell(say.no_capacity(spec, error))
        raise CapacityError(say.nowhere(refused))

    def _specs(self, plan: JobPlan, offer: Offer, host_key: KeyPair, machine_no: int) -> Iterator[LaunchSpec]:
        image = self._image(plan.requirements)
        lifetime_s = self.lifetime_of(plan.requirements)
        user_data = launch.user_data(
            host_key=host_key,
            authorized_keys=self.authorized_keys,
            lifetime_s=lifetime_s,
            ssh_user=self.ssh_user,
        )
        tags = launch.tags(
            run_id=self.run_id,
            job_key=plan.key,
            rule=plan.rule,
            owner=self.owner,
            expires_at=self.clock.now() + lifetime_s,
            extra=self.user_tags,
        )
        for zone in offer.zones:
            yield LaunchSpec(
                token=launch.client_token(
                    self.run_id, plan.key, str(machine_no), offer.market, offer.instance_type.name, zone
                ),
                offer=offer,
                zone=zone,
                image=image,
                disk_gib=launch.disk_gib(plan.requirements, image),
                user_data=user_data,
                tags=tags,
            )

    def lifetime_of(self, requirements: Requirements) -> int:
        """Seconds after which the machine ends whatever happens; a rule's runtime shortens it."""
        if requirements.runtime_min is None:
            return self.lifetime_s
        return min(self.lifetime_s, requirements.runtime_min * 60 + STAGING_MARGIN_S)

    def _image(self, requirements: Requirements) -> Image:
        return self.cloud.image(self.ami, requirements.arch)
