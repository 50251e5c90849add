"""What is launched, in which order, and what is waited for: on the fake cloud, without waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import (
    Cancelled,
    CapacityError,
    ConfigurationError,
    ConnectError,
    CredentialsExpired,
    LaunchError,
    PermissionDenied,
    QuotaError,
    ThrottledError,
)
from snakemake_executor_ec2.machines.launcher import STAGING_MARGIN_S, TYPES_PER_ROUND
from snakemake_executor_ec2.model import JobPlan, LaunchSpec, Machine, Market, SpotUse
from tests.fakes.clock import FakeClock
from tests.fakes.cloud import FakeCloud, instance_type
from tests.unit.machines.launchers import HOST_KEY, LIMIT, NONE_LEFT, World, needs, plan


def test_the_cheapest_type_and_the_first_zone() -> None:
    """Where EC2 has everything, one call is made."""
    world = World()
    machine = world.launch()
    assert (machine.instance_type, machine.zone) == ("c7i.large", "us-east-1a")
    assert len(world.cloud.launches) == 1


def test_other_zones_then_other_types() -> None:
    """All zones of a type come before the next type."""
    world = World()
    world.cloud.refuse = lambda spec: NONE_LEFT if spec.offer.instance_type.name == "c7i.large" else None
    assert world.launch().instance_type == "m7i.large"
    assert world.tried == [("c7i.large", "a"), ("c7i.large", "b"), ("m7i.large", "a")]


def test_a_shortage_is_remembered_for_all_jobs_for_3_minutes() -> None:
    """What had none a moment ago is not asked for again, and is after three minutes."""
    world = World()
    world.cloud.refuse = lambda spec: NONE_LEFT if spec.offer.instance_type.name == "c7i.large" else None
    world.launch("1")
    world.launch("2")
    assert world.tried.count(("c7i.large", "a")) == 1
    world.clock.advance(181)
    world.launch("3")
    assert world.tried.count(("c7i.large", "a")) == 2


def test_waits_with_growing_pauses_and_says_so_once() -> None:
    """Where nothing is to be had, a job asks again until it gets a machine."""
    world = World()
    until = world.clock.now() + 600
    world.cloud.refuse = lambda _: NONE_LEFT if world.clock.now() < until else None
    machine = world.launch()
    assert machine.launched_at >= until
    assert sum("trying again for at most" in line for line in world.said) == 1
    waits = [each for each in world.clock.slept if each >= 2]
    assert waits[:5] == [2, 4, 8, 16, 32]
    assert max(waits) == 60


def test_gives_up_after_the_timeout() -> None:
    """After --ec2-capacity-timeout the job fails, with EC2's code and what to change."""
    world = World(capacity_timeout_s=1800)
    world.cloud.refuse = lambda _: NONE_LEFT
    before = world.clock.now()
    with pytest.raises(CapacityError, match=r"30 minutes .*InsufficientInstanceCapacity.*--ec2-capacity"):
        world.launch()
    assert 1800 <= world.clock.now() - before < 1900
    # Three minutes of memory: every type and zone is asked for about ten times in half an hour.
    assert max(world.tried.count(each) for each in set(world.tried)) <= 11


def test_more_types_only_when_waiting_has_not_helped() -> None:
    """The first round keeps to the cheapest types; a dearer one is taken in the second."""
    clock = FakeClock()
    types = [instance_type(f"m{number}.large", 2, 8) for number in range(25)]
    prices = {each.name: 0.1 + number for number, each in enumerate(types)}
    world = World(FakeCloud(clock, types=types, prices=prices), clock)
    world.cloud.refuse = lambda spec: (
        None if spec.offer.price and spec.offer.price.usd_per_hour > 12 else NONE_LEFT
    )
    assert world.launch().instance_type == "m12.large"
    assert sum("trying again for at most" in line for line in world.said) == 1
    assert len(world.cloud.launches) == 2 * 12 + 1
    assert TYPES_PER_ROUND == 10


def test_an_unanswered_launch_is_asked_again_with_the_same_token() -> None:
    """A machine that may have been started is not started again, as another type or in another zone."""
    world = World()
    world.cloud.lose_replies = 3
    world.launch()
    assert len(world.cloud.machines) == 1
    assert len({each.token for each in world.cloud.launches}) == 1
    assert len({each.user_data for each in world.cloud.launches}) == 1


def test_throttled_for_ever_is_a_failure() -> None:
    """An API that never answers is not waited for longer than for capacity."""
    world = World(capacity_timeout_s=60)
    world.cloud.fail("launch", ThrottledError("slow down"), times=1000)
    with pytest.raises(ThrottledError):
        world.launch()


def test_an_unanswered_launch_that_is_given_up_leaves_no_machine() -> None:
    """If the job fails or is cancelled before EC2 answers, nobody else knows of its machine."""
    world = World(capacity_timeout_s=60)
    world.cloud.lose_replies = 1000
    with pytest.raises(ThrottledError):
        world.launch()
    assert len(world.cloud.machines) == 1
    assert not world.cloud.alive
    world = World()
    world.cloud.lose_replies = 1000
    cancel = CancelToken()
    world.on_pause = cancel.cancel
    with pytest.raises(Cancelled):
        world.launcher.launch(plan(), HOST_KEY, 1, cancel)
    assert len(world.cloud.machines) == 1
    assert not world.cloud.alive


def test_a_machine_that_cannot_be_recorded_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else would know of it."""
    world = World()

    def fail(_token: str, _machine: Machine) -> None:
        raise OSError("a bug")

    monkeypatch.setattr(world, "launched", fail)
    with pytest.raises(OSError, match="a bug"):
        world.launch()
    assert len(world.cloud.machines) == 1
    assert not world.cloud.alive


def test_expired_credentials_wait_for_the_next_login() -> None:
    """A night without a login fails no job: the same launch is made again until AWS takes it."""
    world = World(capacity_timeout_s=60)
    world.cloud.fail("launch", CredentialsExpired("the login has expired"), times=100)
    world.launch()
    assert world.clock.now() > 60
    assert len({each.token for each in world.cloud.launches}) == 1
    assert sum("as soon as AWS accepts the credentials again" in line for line in world.said) == 1


def test_expired_credentials_are_not_waited_for_for_ever() -> None:
    """After the time of a lease the job has failed, and says why."""
    world = World(claim_s=3600)
    world.cloud.fail("launch", CredentialsExpired("the login has expired"), times=1000)
    with pytest.raises(CredentialsExpired):
        world.launch()


def test_a_runtime_leaves_room_for_a_lease() -> None:
    """A machine lives for its job's runtime, some time for files, and a lease; never above its lifetime."""
    world = World(claim_s=1800)
    assert world.launcher.lifetime_of(needs(runtime_min=None)) == 3600
    long = replace(world.launcher, lifetime_s=10**6)
    assert long.lifetime_of(needs(runtime_min=30)) == 1800 + STAGING_MARGIN_S + 1800
    assert world.launcher.lifetime_of(needs(runtime_min=30)) == 3600


def test_an_image_for_gpus() -> None:
    """Only who wants a GPU gets the image with its drivers."""
    clock = FakeClock()
    types = [instance_type("g6.xlarge", 4, 16, gpus=1), instance_type("c7i.large", 2, 4)]
    world = World(FakeCloud(clock, types=types, prices={"g6.xlarge": 0.8, "c7i.large": 0.09}), clock)
    world.launch("1", gpus=1)
    world.launch("2")
    assert [gpu for _, _, gpu in world.cloud.images] == [True, False]


def test_tokens_differ_between_machines_of_a_job() -> None:
    """The next machine of the same job is another one."""
    world = World()
    assert world.launch(no=1).id != world.launch(no=2).id


def test_cancelled_while_it_waits() -> None:
    """A cancelled job stops waiting at once."""
    world = World()
    world.cloud.refuse = lambda _: NONE_LEFT
    cancel = CancelToken()
    world.on_pause = cancel.cancel
    with pytest.raises(Cancelled):
        world.launcher.launch(plan(), HOST_KEY, 1, cancel)


# --- the account's limits -------------------------------------------------------------------


def quota_of_4(world: World) -> Callable[[LaunchSpec], LaunchError | None]:
    """EC2 as it is with a limit of 4 vCPUs."""

    def refuse(spec: LaunchSpec) -> LaunchError | None:
        alive = [world.cloud.machines[each].spec.offer for each in world.cloud.alive]
        used = sum(each.instance_type.vcpus for each in alive)
        return LIMIT if used + spec.offer.instance_type.vcpus > 4 else None

    return refuse


@pytest.mark.parametrize("told", [True, False])
def test_twenty_jobs_and_a_limit_of_four(told: bool) -> None:
    """All get a machine, two at a time, as soon as one has ended; few calls are in vain."""
    world = World()
    if told:
        world.cloud.quotas["L-1216C47A"] = 4
        world.feasibility.check(needs())
    world.cloud.refuse = quota_of_4(world)
    most: list[int] = []

    def job(number: int) -> str:
        machine = world.launch(str(number))
        most.append(len(world.cloud.alive))
        time.sleep(0.01)
        world.cloud.terminate([machine.id])
        world.launcher.released(machine)
        world.launcher.released(machine)
        return machine.id

    with ThreadPoolExecutor(20) as pool:
        machines = list(pool.map(job, range(20)))
    assert len(set(machines)) == 20
    assert max(most) <= 2
    assert sum("limit" in line for line in world.said) == 1
    in_vain = len(world.cloud.launches) - 20
    assert in_vain == 0 if told else in_vain <= 30


def test_a_limit_below_the_smallest_type_is_refused_early() -> None:
    """`check` names the type, the limit, its code and the command that asks for more."""
    world = World()
    world.cloud.quotas["L-1216C47A"] = 1
    with pytest.raises(ConfigurationError, match=r"2 vCPUs.*L-1216C47A.*is 1 .*request-service-quota"):
        world.feasibility.check(needs())
    world.feasibility.check(needs(spot=SpotUse.ONLY))


def test_a_limit_that_others_use_up() -> None:
    """Where nothing of ours runs, the wait has an end, and the sentence names the limit."""
    world = World(capacity_timeout_s=60)
    world.cloud.refuse = lambda _: LIMIT
    with pytest.raises(CapacityError, match="L-1216C47A"):
        world.launch()


def test_an_adopted_machine_counts_towards_the_limit() -> None:
    """Where one that a dead run launched holds the limit, a job waits for its end and does not give up."""
    world = World()
    inherited = world.launch("1")
    world.cloud.refuse = lambda _: LIMIT
    again = World(world.cloud, world.clock, capacity_timeout_s=0)
    again.launcher.adopted(inherited, needs())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(again.launch, "2")
        while not any("limit" in line for line in again.said) and not waiting.done():
            time.sleep(0.01)
        assert not waiting.done()
        world.cloud.refuse = lambda _: None
        again.launcher.released(inherited)
        assert waiting.result(10).id != inherited.id


def test_the_other_market_has_a_limit_of_its_own() -> None:
    """Where the limit of spot is reached, an on-demand machine is taken."""
    world = World()
    spot_limit = QuotaError("no more", code="MaxSpotInstanceCountExceeded")
    world.cloud.refuse = lambda spec: spot_limit if spec.offer.market is Market.SPOT else None
    assert world.launch(spot=SpotUse.PREFER, runtime_min=10).market is Market.ON_DEMAND
    assert len([each for each in world.cloud.launches if each.offer.market is Market.SPOT]) == 1


# --- spot -----------------------------------------------------------------------------------


def test_two_reclaims_then_on_demand() -> None:
    """Each time another offer, then on-demand."""
    world = World()
    taken = []
    for number in range(3):
        machine = world.launch(spot=SpotUse.PREFER, runtime_min=10, reclaimed=number, no=number + 1)
        taken.append((machine.market, machine.instance_type, machine.zone))
        world.launcher.released(machine, no_capacity=True)
    assert [each[0] for each in taken] == [Market.SPOT, Market.SPOT, Market.ON_DEMAND]
    assert taken[0] != taken[1]
    assert world.launch(spot=SpotUse.ONLY, reclaimed=5, no=9).market is Market.SPOT


def test_room_is_made_for_what_the_job_would_take() -> None:
    """After two reclaims that is no idle spot machine: it is ended, and not kept for the job, which would ask
    without a pause for as long as it waits."""
    asked: list[SpotUse] = []

    def make_room(wanted: JobPlan) -> bool:
        asked.append(wanted.requirements.spot)
        world.cloud.refuse = lambda _: None
        return len(asked) == 1

    world = World(make_room=make_room)
    world.cloud.refuse = lambda _: LIMIT
    assert world.launch(spot=SpotUse.PREFER, reclaimed=2).market is Market.ON_DEMAND
    assert set(asked) == {SpotUse.NEVER}


def test_a_spot_machine_knows_what_it_would_cost_on_demand() -> None:
    """For the same type, at the launch's prices; one on demand has no other price."""
    world = World()
    spot, other = world.launch(spot=SpotUse.ONLY), world.launch(no=2)
    assert spot.on_demand == world.cloud.prices(Market.ON_DEMAND)[spot.instance_type, ""]
    assert spot.price is not None
    assert spot.price.usd_per_hour < spot.on_demand.usd_per_hour
    assert other.on_demand is None


def test_no_permission_for_spot() -> None:
    """Told once; all jobs go on on-demand, and one that wants nothing else fails."""
    world = World()
    denied = PermissionDenied("no spot", action="iam:CreateServiceLinkedRole")
    world.cloud.refuse = lambda spec: denied if spec.offer.market is Market.SPOT else None
    for number in range(3):
        assert world.launch(str(number), spot=SpotUse.PREFER).market is Market.ON_DEMAND
    assert sum("spot" in line for line in world.said) == 1
    with pytest.raises(PermissionDenied):
        world.launch("4", spot=SpotUse.ONLY)


def test_another_missing_permission_is_a_failure() -> None:
    """Without ec2:RunInstances nothing else is tried."""
    world = World()
    world.cloud.refuse = lambda _: PermissionDenied("no", action="ec2:RunInstances")
    with pytest.raises(PermissionDenied):
        world.launch(spot=SpotUse.PREFER)
    assert len(world.cloud.launches) == 1


def test_where_another_machine_would_be_of_no_use() -> None:
    """Nothing is launched, and a job that waits for room hears of it, too."""
    useless: list[str] = []

    def may_launch() -> None:
        if useless:
            raise ConnectError(useless[0])

    world = World(may_launch=may_launch)
    world.launch("1")
    world.cloud.refuse = lambda _: CapacityError("none", code="InsufficientInstanceCapacity")
    world.on_pause = lambda: useless.append("not one let us in")
    with pytest.raises(ConnectError, match="not one let us in"):
        world.launch("2")
    assert len(world.cloud.alive) == 1


def test_the_rule_s_own_image() -> None:
    """`ec2_ami` goes before the run's image, and is checked before anything is launched."""
    world = World()
    with pytest.raises(ConfigurationError, match="ami-nowhere"):
        world.feasibility.check(needs(ami="ami-nowhere"))


def test_waiting_jobs_wake_one_another() -> None:
    """A job that waits for the account's limit goes on within a second of a machine's end."""
    world = World()
    world.cloud.refuse = quota_of_4(world)
    first, _ = world.launch("1"), world.launch("2")
    got: list[Machine] = []
    waiting = threading.Thread(target=lambda: got.append(world.launch("3")))
    waiting.start()
    time.sleep(0.1)
    assert not got
    world.cloud.terminate([first.id])
    world.launcher.released(first)
    waiting.join(5)
    assert len(got) == 1


def test_what_a_machine_may_cost_before_an_agent_comes() -> None:
    """The timer of its boot is bounded in dollars as a lease is, and is in the user-data."""
    world = World(claim_s=12 * 3600, lease_usd=0.25)
    world.launch("1")
    world.launch("2", runtime_min=300)
    assert world.cloud.launches[0].claim_s == round(0.25 / 0.0893 * 3600)
    assert world.cloud.launches[1].claim_s == 300 * 60
    assert str(round(0.25 / 0.0893 * 3600)) in world.cloud.launches[0].user_data
