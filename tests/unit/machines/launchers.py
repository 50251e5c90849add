"""A launcher on the fake cloud, whose pauses take no time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import CapacityError, QuotaError
from snakemake_executor_ec2.machines.budget import Budget
from snakemake_executor_ec2.machines.feasibility import Feasibility
from snakemake_executor_ec2.machines.launcher import Launcher
from snakemake_executor_ec2.model import JobPlan, KeyPair, LaunchSpec, Machine, Market, Requirements
from snakemake_executor_ec2.sizing.catalogue import Catalogue
from snakemake_executor_ec2.sizing.quotas import QuotaLimiter
from tests.fakes.clock import FakeClock
from tests.fakes.cloud import FakeCloud

HOST_KEY = KeyPair(private="made-up", public="ssh-ed25519 AAAA")
NONE_LEFT = CapacityError("none left", code="InsufficientInstanceCapacity")
LIMIT = QuotaError("no more", code="VcpuLimitExceeded")


def needs(**more: Any) -> Requirements:
    return Requirements(**{"threads": 2, "mem_mb": 1000, "disk_mb": 1000, **more})


def plan(key: str = "1", **more: Any) -> JobPlan:
    return JobPlan(
        key=key,
        rule="align",
        label=f"rule align ({key})",
        command="true",
        workdir=Path("/w"),
        env={},
        requirements=needs(**more),
        sources=(),
        inputs=(),
        outputs=(),
    )


class World:
    """A launcher on a fake cloud; its pauses take no time."""

    def __init__(
        self,
        cloud: FakeCloud | None = None,
        clock: FakeClock | None = None,
        *,
        max_cost_usd: float | None = None,
        costs_usd: Callable[[], Mapping[str, float]] = dict,
        **more: Any,
    ) -> None:
        self.clock = clock or FakeClock()
        self.cloud = cloud or FakeCloud(self.clock)
        self.said: list[str] = []
        self.on_pause: Callable[[], None] = lambda: None
        self.spot_prices = self.cloud.prices(Market.SPOT)
        self.feasibility = Feasibility(
            cloud=self.cloud,
            catalogue=Catalogue(
                self.cloud.instance_types(),
                zones=self.cloud.zones,
                prices=self.cloud.prices(Market.ON_DEMAND),
                spot_prices=lambda: self.spot_prices,
            ),
            budget=Budget(max_cost_usd, costs_usd, {}),
            limiter=QuotaLimiter(self.clock),
        )
        self.launcher = Launcher(
            feasibility=self.feasibility,
            records=self,
            clock=self.clock,
            run_id="run-1",
            owner="me",
            ssh_user="ec2-user",
            authorized_keys=("ssh-ed25519 BBBB",),
            user_tags={},
            lifetime_s=3600,
            tell=self.said.append,
            pause=self._pause,
            **{"capacity_timeout_s": 1800.0, **more},
        )
        self.intended: list[LaunchSpec] = []
        self.machines_by_token: dict[str, Machine] = {}

    def intend(self, job_key: str, spec: LaunchSpec) -> None:
        assert job_key
        self.intended.append(spec)

    def launched(self, token: str, machine: Machine) -> None:
        assert token in {spec.token for spec in self.intended}
        self.machines_by_token[token] = machine

    def launch(self, key: str = "1", *, reclaimed: int = 0, no: int = 1, **more: Any) -> Machine:
        machine = self.launcher.launch(plan(key, **more), HOST_KEY, no, CancelToken(), reclaimed=reclaimed)
        assert machine is not None
        return machine

    @property
    def tried(self) -> list[tuple[str, str]]:
        return [(each.offer.instance_type.name, each.zone[-1]) for each in self.cloud.launches]

    def _pause(self, cancel: CancelToken, seconds: float) -> None:
        cancel.check()
        self.clock.sleep(seconds)
        self.on_pause()
