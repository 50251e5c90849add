"""Launches that come together: few calls, a machine for each, whatever EC2 answers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from snakemake_executor_ec2 import tags
from snakemake_executor_ec2.aws.network import Caller, Subnet
from snakemake_executor_ec2.aws.run_instances import Launcher
from snakemake_executor_ec2.aws.security_group import SecurityGroup
from snakemake_executor_ec2.aws.together import MOST, token_of
from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import Cancelled, CapacityError, QuotaError, ThrottledError
from snakemake_executor_ec2.model import LaunchSpec
from tests.fakes.ec2_api import FakeClients, FakeEc2Api
from tests.unit.machines.test_user_data import SPEC

SUBNETS = [Subnet(id="subnet-1", vpc_id="vpc-1", zone="a", zone_id="az1", public=True)]


class Quick:
    """Real time, but twenty times as fast."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic() * 20

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / 20)


class World:
    """A launcher before an EC2 that keeps AWS's pace."""

    def __init__(self) -> None:
        self.untaken: list[str] = []
        self.clock = clock = Quick()
        self.api = FakeEc2Api(clock)
        clients = FakeClients(self.api).as_clients
        self.launcher = Launcher(
            clients,
            run_id="run-1",
            group=SecurityGroup(clients, run_id="run-1", ssh_port=22, clock=clock, warn=pytest.fail),
            caller=Caller(ssh_from="203.0.113.7", endpoint=lambda: ""),
            clock=clock,
            end=self.untaken.extend,
        )

    def launch(self, spec: LaunchSpec) -> str:
        """A machine's id, or the name of the error; asked again if that is allowed."""
        try:
            return self.launcher.launch(spec, SUBNETS).id
        except (CapacityError, QuotaError) as error:
            return type(error).__name__
        except ThrottledError:
            return self.launch(spec)

    def wait_for_untaken(self) -> set[str]:
        until = time.monotonic() + 20
        while not self.untaken and time.monotonic() < until:
            time.sleep(0.01)
        return set(self.untaken)

    def all_of(self, specs: list[LaunchSpec]) -> list[str]:
        with ThreadPoolExecutor(len(specs)) as pool:
            return list(pool.map(self.launch, specs))

    @property
    def requests(self) -> list[dict[str, Any]]:
        return self.api.called("run_instances")


@pytest.fixture
def world() -> World:
    return World()


def alike(count: int, **changes: Any) -> list[LaunchSpec]:
    """Specs that differ in their tokens, and in the second at which their machines end."""
    return [
        replace(
            SPEC,
            token=tags.client_token(str(number), *changes),
            tags={**SPEC.tags, tags.RUN_TAG: "run-1", tags.EXPIRES_TAG: str(number)},
            **changes,
        )
        for number in range(count)
    ]


def test_a_machine_each(world: World) -> None:
    """250 specs at once are a few calls, none for more than AWS advises, and 250 machines."""
    machines = world.all_of(alike(250))
    assert sorted(machines) == sorted(world.api.alive)
    assert len(machines) == 250
    assert len(world.requests) <= 10
    assert max(each["MaxCount"] for each in world.requests) <= MOST


def test_the_same_spec_again(world: World) -> None:
    """A spec keeps its machine, also one that was launched together with others."""
    specs = alike(5)
    assert world.all_of(specs) == world.all_of(specs)
    assert len(world.api.machines) == 5


def test_only_what_is_alike(world: World) -> None:
    """Machines of another disk or host key are another call."""
    world.all_of([*alike(3), *alike(3, disk_gib=99), *alike(3, user_data="#cloud-config\n")])
    kinds = {
        (each["UserData"], str(each["BlockDeviceMappings"])): each["MaxCount"] for each in world.requests
    }
    assert len(kinds) == 3
    assert len(world.api.alive) == 9


def test_fewer_than_asked_for(world: World) -> None:
    """Where EC2 has 7 of 10, the other three hear why from EC2, and nobody gets another one's machine."""
    world.api.capacity = 7
    found = world.all_of(alike(10))
    assert found.count("CapacityError") == 3
    assert len({*found} - {"CapacityError"}) == 7 == len(world.api.alive)


def test_a_limit_in_the_way(world: World) -> None:
    """As many machines as the account's limit allows are launched, also if EC2 refuses a call that asks for
    more as a whole; the others hear of the limit."""
    world.api.limit = 7
    found = world.all_of(alike(30))
    assert found.count("QuotaError") == 23
    assert len({*found} - {"QuotaError"}) == 7 == len(world.api.alive)


def test_refused_for_all(world: World) -> None:
    """A lack of capacity is told to all who asked together; few ask for it themselves."""
    world.api.capacity = 0
    assert world.all_of(alike(3 * MOST)) == ["CapacityError"] * 3 * MOST
    assert len(world.requests) <= 12


@pytest.mark.parametrize("lost", [1, 100])
def test_lost_answers(world: World, lost: int) -> None:
    """The same call is made again until it is answered: no machine is launched twice, each has one job.
    Where that takes so long that all hear of it, they find their machines when they ask again."""
    world.api.lose_replies = lost

    def answer_in_the_end(spec: LaunchSpec) -> str:
        try:
            return world.launcher.launch(spec, SUBNETS).id
        except ThrottledError:
            world.api.lose_replies = 0
            return world.launch(spec)

    with ThreadPoolExecutor(20) as pool:
        machines = list(pool.map(answer_in_the_end, alike(20)))
    assert len({*machines}) == 20 == len(world.api.machines)
    sizes: dict[str, int] = {each["ClientToken"]: each["MaxCount"] for each in world.requests}
    assert sum(sizes.values()) == 20


def test_cancelled(world: World) -> None:
    """A job that is to end before EC2 is asked launches nothing."""
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        world.launcher.launch(SPEC, SUBNETS, cancel)
    assert not world.requests
    assert world.launch(SPEC) in world.api.alive


def test_cancelled_alone(world: World) -> None:
    """If the job whose thread was to ask is cancelled, another one asks, and all others have machines."""
    leader, *others = alike(6)
    busy = [replace(each, disk_gib=50 + number) for number, each in enumerate(alike(9, zone="b"))]
    cancel = CancelToken()
    with ThreadPoolExecutor(20) as pool:
        before = [pool.submit(world.launch, each) for each in busy]  # which use up the first calls
        first = pool.submit(world.launcher.launch, leader, SUBNETS, cancel)
        while leader.token not in world.launcher._together._calls:
            time.sleep(0.001)
        rest = [pool.submit(world.launch, each) for each in others]
        cancel.cancel()
        with pytest.raises(Cancelled):
            first.result()
        machines = {each.result() for each in [*before, *rest]}
    assert len(machines) == len(busy) + len(others)
    assert machines == {*world.api.alive}


@pytest.mark.parametrize("late", [True, False])
def test_cancelled_after_a_lost_answer(world: World, late: bool) -> None:
    """Others ask again for all: the machine of a job that does not come back is ended, whether it was
    cancelled before that (`late`: after), and no other. A job that has its machine may be cancelled."""
    world.api.lose_replies = 1000
    specs = alike(4)

    def launch(number: int) -> str:
        return world.launcher.launch(specs[number], SUBNETS).id

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(launch, number) for number in range(4)]:
            with pytest.raises(ThrottledError):
                each.result()
        assert len(world.api.machines) == 4
        world.api.lose_replies = 0
        if not late:
            world.launcher.give_up(specs[0])
        got = list(pool.map(launch, range(1, 4)))
    for spec in specs:
        world.launcher.give_up(spec)
    assert world.wait_for_untaken() == {*world.api.machines} - {*got}
    assert len(world.untaken) == 1


@pytest.mark.parametrize("count", [1, 4])
def test_all_give_up_after_a_lost_answer(world: World, count: int) -> None:
    """Nobody asks again: what the call has launched is found by its token, once EC2 shows it, and ended."""
    world.api.lose_replies = 1000
    world.api.hidden_s = 60.0
    specs = alike(count)
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(world.launcher.launch, each, SUBNETS) for each in specs]:
            with pytest.raises(ThrottledError):
                future.result()
    assert len(world.api.machines) == count
    for each in specs[1:]:
        world.launcher.give_up(each)
    time.sleep(0.2)
    shared = token_of(
        world.launcher._together._calls[specs[0].token].specs
    )  # a slow computer makes two calls
    left = {name for name, row in world.api.machines.items() if row["ClientToken"] == shared}
    assert not left & {*world.untaken}
    world.launcher.give_up(specs[0])
    until = time.monotonic() + 20
    while {*world.untaken} != {*world.api.machines} and time.monotonic() < until:
        time.sleep(0.01)
    assert {*world.untaken} == {*world.api.machines}
