"""A budget is kept before a launch, not noticed after it: on the fake cloud, with its time."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import (
    BudgetReached,
    Cancelled,
    CapacityError,
    ConfigurationError,
    LaunchError,
)
from snakemake_executor_ec2.machines.budget import Budget
from snakemake_executor_ec2.model import LaunchSpec, Machine
from snakemake_executor_ec2.sizing.cost import cost_usd
from tests.fakes.clock import FakeClock
from tests.fakes.cloud import FakeCloud
from tests.unit.machines.launchers import HOST_KEY, NONE_LEFT, World, needs, plan

HOUR_USD = 0.096
"""An hour of c7i.large with its address and disk, a little rounded up."""


class Spender(World):
    """A launcher with a budget, beside the books that a run keeps."""

    def __init__(self, most: float) -> None:
        self.machines: dict[str, Machine] = {}
        self.ended: dict[str, float] = {}
        self.lock = threading.Lock()
        super().__init__(max_cost_usd=most, costs_usd=self.costs)

    def costs(self) -> dict[str, float]:
        with self.lock:
            now = self.clock.now()
            return {
                name: cost_usd(machine, self.ended.get(name, now) - machine.launched_at) or 0.0
                for name, machine in self.machines.items()
            }

    def launch(self, key: str = "1", *, reclaimed: int = 0, no: int = 1, **more: Any) -> Machine:
        machine = super().launch(key, reclaimed=reclaimed, no=no, **more)
        with self.lock:
            self.machines[machine.id] = machine
        return machine

    def end(self, machine: Machine) -> None:
        with self.lock:
            self.ended[machine.id] = self.clock.now()
        self.cloud.terminate([machine.id])
        self.launcher.released(machine)

    @property
    def total_usd(self) -> float:
        return sum(self.costs().values())


def test_a_launch_that_does_not_fit_is_refused_before_it() -> None:
    """The price of its runtime, or of an hour, is above what is left, and nothing runs: no machine."""
    world = Spender(2 * HOUR_USD)
    world.end(world.launch("1", runtime_min=60))
    world.clock.advance(3600)
    with pytest.raises(BudgetReached, match=r"an estimated \$0\.1\d+ \(for its runtime of 120 min\).*0\.192"):
        world.launch("2", runtime_min=120)
    assert len(world.cloud.launches) == 1
    world.launch("3")


def test_known_jobs_are_looked_at_before_the_first_launch() -> None:
    """A job that alone is beyond the budget is told at the start, with the reckoning."""
    world = Spender(1.0)
    with pytest.raises(
        ConfigurationError, match=r"c7i\.large, would cost an estimated \$1\.15 .*runtime of 720 min"
    ):
        world.feasibility.check(needs(runtime_min=720))
    with pytest.raises(ConfigurationError, match=r"for one hour, because the rule has no runtime"):
        Spender(0.05).feasibility.check(needs())
    world.feasibility.check(needs())


def test_twenty_jobs_at_once_under_a_budget_for_three() -> None:
    """Three run, the others wait; as machines end early others follow, and the budget is never exceeded."""
    world = Spender(3 * HOUR_USD)
    refused: list[LaunchError] = []
    most_at_a_time: list[int] = []

    def job(number: int) -> None:
        try:
            machine = world.launch(str(number), runtime_min=60)
        except LaunchError as error:
            refused.append(error)
            return
        most_at_a_time.append(len(world.cloud.alive))
        threading.Event().wait(0.02)
        world.clock.advance(170)  # all of them together stay below an hour
        world.end(machine)

    jobs = [threading.Thread(target=job, args=(number,)) for number in range(20)]
    for each in jobs:
        each.start()
    for each in jobs:
        each.join(60)
    assert not any(each.is_alive() for each in jobs)
    assert max(most_at_a_time) <= 3
    assert world.total_usd <= 3 * HOUR_USD
    assert len(world.machines) >= 3
    assert len(refused) == 20 - len(world.machines)
    assert all(isinstance(each, BudgetReached) for each in refused)


def test_a_job_waits_while_others_run_and_says_so_once() -> None:
    """What was set aside and not needed is there for the next."""
    world = Spender(1.5 * HOUR_USD)
    first = world.launch("1", runtime_min=60)
    got: list[Machine] = []
    waiting = threading.Thread(target=lambda: got.append(world.launch("2", runtime_min=60)))
    waiting.start()
    waiting.join(0.3)
    assert not got
    world.end(first)
    waiting.join(10)
    assert len(got) == 1
    assert [each for each in world.said if "is set aside for running machines" in each] == world.said


def test_a_waiting_job_can_be_cancelled() -> None:
    """Ctrl-C does not wait for a budget."""
    world = Spender(1.2 * HOUR_USD)
    world.launch("1")
    cancel = CancelToken()
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            world.launcher.launch(plan("2"), HOST_KEY, 1, cancel)
        except Cancelled as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join(0.2)
    cancel.cancel()
    waiting.join(5)
    assert len(ended) == 1


def test_a_launch_under_way_counts() -> None:
    """Until EC2 has answered it is set aside; a launch that fails costs nothing."""
    world = Spender(1.5 * HOUR_USD)
    seen: list[bool] = []

    def meanwhile(_: LaunchSpec) -> LaunchError | None:
        world.cloud.refuse = lambda _: None
        seen.append(world.launcher._state.budget.fits(HOUR_USD))
        return NONE_LEFT

    world.cloud.refuse = meanwhile
    world.launch("1")
    assert seen == [False]
    world.end(next(iter(world.machines.values())))
    world.launch("2")


def test_a_machine_that_needs_longer_than_was_reckoned_counts_with_what_it_costs() -> None:
    """Then there is less left for others."""
    world = Spender(3 * HOUR_USD)
    world.launch("1", runtime_min=60)
    world.clock.advance(2.5 * 3600)
    assert not world.launcher._state.budget.fits(HOUR_USD)


def test_adopted_machines_count() -> None:
    """What an earlier run left at work is set aside as well."""
    world = Spender(2.5 * HOUR_USD)
    machine = replace(world.launch("1"), id="i-earlier")
    world.launcher.adopted(machine, needs(runtime_min=60))
    assert not world.launcher._state.budget.fits(HOUR_USD)
    world.launcher.released(machine)
    assert world.launcher._state.budget.fits(HOUR_USD)


def test_earlier_calls_count_once() -> None:
    """A machine of an earlier call that this one took over is not counted twice."""
    costs: dict[str, float] = {}
    budget = Budget(10.0, lambda: costs, {"i-1": 3.0, "i-2": 1.0})
    assert budget.left_at_first_usd == 6.0
    costs["i-1"] = 3.5
    assert budget.spent_usd() == pytest.approx(4.5)
    budget.adopted("i-1", 5.0)
    assert budget.set_aside_usd() == pytest.approx(1.5)
    assert budget.fits(4.0)
    assert not budget.fits(4.1)


def test_a_budget_needs_prices() -> None:
    """Without prices a budget can't be kept, which is said before anything is launched."""
    clock = FakeClock()
    world = World(FakeCloud(clock, prices={}), clock, max_cost_usd=1.0)
    with pytest.raises(ConfigurationError, match="--ec2-max-cost"):
        world.feasibility.check(needs())


def test_a_budget_launches_nothing_of_unknown_price() -> None:
    """Not even where all whose price is known have run out."""
    clock = FakeClock()
    world = World(FakeCloud(clock, prices={"m7i.large": 0.1}), clock, max_cost_usd=1.0, capacity_timeout_s=60)
    world.cloud.refuse = lambda _: NONE_LEFT
    with pytest.raises(CapacityError):
        world.launch()
    assert {name for name, _ in world.tried} == {"m7i.large"}
