"""A line that breaks is mended for as long as the machine may be there, and no longer."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from snakemake_executor_ec2.errors import (
    Cancelled,
    ConnectionLost,
    HostKeyMismatch,
    InstanceLost,
    LaunchError,
    LoginRefused,
    PermissionDenied,
    ThrottledError,
)
from snakemake_executor_ec2.machines.connection import Connection
from snakemake_executor_ec2.machines.failure_detector import Reachability
from snakemake_executor_ec2.model import Machine
from snakemake_executor_ec2.ports import RemoteHost
from tests.fakes.session import FakeControl, Scene
from tests.unit.machines import launchers

ADDRESS = "203.0.113.1"
LEASE_S, LOST_S = 43_200.0, 600.0


class World(launchers.World):
    """A machine and a connection to it."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene(self.cloud)
        self.cancel_token = FakeControl(self.clock)
        self.reachability = Reachability()
        self.machine: Machine = self.launch()
        self.connection = Connection(
            cloud=self.cloud,
            connector=self.scene,
            clock=self.clock,
            cancel=self.cancel_token,
            machine=self.machine,
            host_keys=("ssh-ed25519 AAAA",),
            patience_s=LEASE_S,
            lost_after_s=LOST_S,
            reachability=self.reachability,
            tell=self.said.append,
        )
        self.began = self.clock.monotonic()

    @property
    def waited_s(self) -> float:
        return self.clock.monotonic() - self.began

    def at(self, seconds: float, happening: Callable[[], None]) -> None:
        """Have something happen so many seconds from now."""

        def look(_: float) -> None:
            if self.waited_s >= seconds:
                self.clock.on_sleep = None
                happening()

        self.clock.on_sleep = look

    def call(self) -> str:
        """Something that is done over the connection, once, however often it is tried."""

        def use(host: RemoteHost) -> str:
            if not self.scene.answers(ADDRESS):
                raise ConnectionLost("The connection broke off.")
            return "done"

        return self.connection.call(use)


@pytest.fixture
def world() -> World:
    made = World()
    made.connection.open(60.0)
    made.began = made.clock.monotonic()
    return made


def test_an_outage_costs_its_own_length(world: World) -> None:
    """What was under way is done again on a new connection; the user hears of an outage of minutes."""
    world.scene.silent.add(ADDRESS)
    world.at(300.0, world.scene.silent.clear)
    assert world.call() == "done"
    assert 300 <= world.waited_s < 310
    assert world.scene.connections == 2
    assert len(world.said) == 2
    assert "does not answer" in world.said[0]
    assert "12 hours" in world.said[0]
    assert world.said[1] == f"{world.machine.id} answers again"


def test_a_short_cut_is_nobody_s_business(world: World) -> None:
    """Nothing is said of it."""
    world.scene.silent.add(ADDRESS)
    world.at(20.0, world.scene.silent.clear)
    assert world.call() == "done"
    assert world.said == []


def test_a_line_that_breaks_at_each_use_is_given_time(world: World) -> None:
    """The first time it is opened again at once, then after pauses, and at once again after it stood long."""
    used_at: list[float] = []

    def use(_: RemoteHost) -> str:
        used_at.append(world.waited_s)
        if len(used_at) == 9:
            world.clock.sleep(100.0)
        if len(used_at) < 11:
            raise ConnectionLost("The connection broke off.")
        return "done"

    assert world.connection.call(use) == "done"
    waits = [round(after - before, 1) for before, after in itertools.pairwise(used_at)]
    assert waits == [0, 0.5, 0.5, 0.5, 1, 2, 5, 5, 100, 0]


def _broken(world: World, seconds: float = 0.0, *, came_further: bool = False) -> Callable[[object], str]:
    """What is done on a machine that lets us log in, and breaks off whatever it is, after so long."""

    def use(_: object) -> str:
        world.clock.sleep(seconds)
        raise ConnectionLost("The end of a command was not heard.", came_further=came_further)

    return use


@pytest.mark.parametrize("seconds", [0.0, 30.0])
def test_a_machine_that_breaks_off_every_call_is_lost(world: World, seconds: float) -> None:
    """If nothing was ever done there, or something is on another one: the job starts again elsewhere."""
    with pytest.raises(InstanceLost, match=r"lets us log in, .* 30\S* minutes .*: The end of a"):
        world.connection.call(_broken(world, seconds))
    assert 1800 <= world.waited_s < 1860
    assert world.call() == "done"  # now it has worked
    world.began = world.clock.monotonic()
    world.at(100.0, lambda: world.reachability.note_work("i-other", world.clock.monotonic()))
    with pytest.raises(InstanceLost, match="lets us log in"):
        world.connection.call(_broken(world, seconds))
    assert 1800 <= world.waited_s < 1860


def test_a_network_that_breaks_off_every_call_is_waited_for(world: World) -> None:
    """If nothing comes to an end on other machines either, and this one has worked: its job may still run."""
    world.reachability.note_work("i-other", world.clock.monotonic())
    assert world.call() == "done"
    with pytest.raises(InstanceLost, match="for 12 hours"):
        world.connection.call(_broken(world))
    assert LEASE_S <= world.waited_s < LEASE_S + 60


@pytest.mark.parametrize("seconds", [0.0, 61.0])
def test_a_line_that_brings_something_each_time_is_no_reason(world: World, seconds: float) -> None:
    """Or that stands for more than a minute."""
    calls = itertools.count()
    broken = _broken(world, seconds, came_further=not seconds)
    use = lambda host: "done" if next(calls) == 1000 else broken(host)  # noqa: E731
    assert world.connection.call(use) == "done"
    assert world.waited_s > 4000


def test_a_night_between_two_breaks_is_no_reason(world: World) -> None:
    """A laptop that slept finds its line broken, twice: only what can be held against the machine counts."""
    calls = itertools.count()

    def use(host: object) -> str:
        number = next(calls)
        if number == 1:
            world.scene.silent.add(ADDRESS)
            world.at(30_000.0, world.scene.silent.clear)
        return "done" if number == 5 else _broken(world)(host)

    assert world.connection.call(use) == "done"
    assert world.waited_s > 30_000


def test_calls_that_break_off_while_ec2_is_silent_do_not_count(world: World) -> None:
    """Our own network is what breaks them."""
    world.cloud.fail("is_impaired", ThrottledError("no answer"), times=1000)
    calls = itertools.count()
    broken = _broken(world)
    use = lambda host: "done" if next(calls) == 1100 else broken(host)  # noqa: E731
    assert world.connection.call(use) == "done"
    assert world.waited_s > 5000


def test_a_machine_that_ended_is_lost_at_once(world: World) -> None:
    """With EC2's reason for its end."""
    world.cloud.end(world.machine.id, reason="Server.SpotInstanceTermination")
    with pytest.raises(InstanceLost) as error:
        world.call()
    assert error.value.by_spot
    assert world.waited_s < 5


def test_a_machine_that_is_well_is_waited_for(world: World) -> None:
    """Nothing else of ours answers, so it may be our network: for as long as its lease runs."""
    world.scene.silent.add(ADDRESS)
    with pytest.raises(InstanceLost, match="could not be reached for 12 hours"):
        world.call()
    assert LEASE_S <= world.waited_s < LEASE_S + 10


@pytest.mark.parametrize("without_permission", [False, True])
def test_a_machine_that_alone_is_silent(world: World, without_permission: bool) -> None:
    """Where another one lets us in since, it is given up after half an hour, whatever EC2 may tell."""
    if without_permission:
        denied = PermissionDenied("no", action="ec2:DescribeInstanceStatus")
        world.cloud.fail("is_impaired", denied, times=10_000)
    world.scene.silent.add(ADDRESS)
    world.at(100.0, lambda: world.reachability.note("i-other", world.clock.monotonic()))
    with pytest.raises(InstanceLost, match="while EC2 and other machines do"):
        world.call()
    assert 1900 <= world.waited_s < 1920


def test_a_crash(world: World) -> None:
    """EC2's checks fail: given up after ten minutes of that."""
    world.scene.silent.add(ADDRESS)
    world.at(100.0, lambda: world.cloud.impaired.add(world.machine.id))
    with pytest.raises(InstanceLost, match="has crashed"):
        world.call()
    assert 700 <= world.waited_s < 720


def test_while_ec2_is_silent_nothing_is_given_up(world: World) -> None:
    """Our own network is down for an hour; then EC2 answers first, and the machine has its time again."""
    world.scene.silent.add(ADDRESS)
    world.cloud.impaired.add(world.machine.id)
    world.cloud.fail("is_impaired", ThrottledError("no answer"), times=720)  # one every 5 s
    with pytest.raises(InstanceLost, match="has crashed"):
        world.call()
    assert 3550 + LOST_S <= world.waited_s < 3650 + LOST_S


def test_what_ec2_said_last_holds_while_it_says_nothing(world: World) -> None:
    """A machine is reached at the address that is known, also without EC2."""
    world.cloud.fail("status", ThrottledError("no answer"), times=3)
    world.scene.silent.add(ADDRESS)
    world.at(1.0, world.scene.silent.clear)
    assert world.call() == "done"


def test_cancelled(world: World) -> None:
    """Whoever waits for a machine hears of Ctrl-C."""
    world.scene.silent.add(ADDRESS)
    world.at(50.0, world.cancel_token.cancel)
    with pytest.raises(Cancelled):
        world.call()
    assert world.waited_s < 60


def test_a_first_connection_has_its_own_patience() -> None:
    """A machine that never answers is lost after the boot timeout: another one may do better."""
    world = World()
    world.scene.silent.add(ADDRESS)
    with pytest.raises(InstanceLost, match=r"could not log in to .* within 60 s"):
        world.connection.open(60.0)
    assert 60 <= world.waited_s < 70


def test_a_boot_during_an_outage_of_ours() -> None:
    """While EC2 does not answer either, the machine's time to boot does not run: it is not launched twice."""
    world = World()
    world.scene.silent.add(ADDRESS)
    world.cloud.fail("is_impaired", ThrottledError("no answer"), times=120)  # one every 5 s
    world.at(590.0, world.scene.silent.clear)
    world.connection.open(60.0)
    assert 590 <= world.waited_s < 600
    world.reachability.check()


def test_a_boot_is_not_waited_for_for_ever() -> None:
    """Not longer than a machine may live without us."""
    world = World()
    world.scene.silent.add(ADDRESS)
    world.cloud.fail("is_impaired", ThrottledError("no answer"), times=100_000)
    with pytest.raises(InstanceLost, match="could not log in to"):
        world.connection.open(60.0)
    assert LEASE_S <= world.waited_s < LEASE_S + 20


@pytest.mark.parametrize("kind", [HostKeyMismatch, LoginRefused])
def test_what_another_machine_would_do_as_well(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's key and a user that is not let in are not answered with another machine."""
    world = World()

    def refuse(*_: object, **__: object) -> RemoteHost:
        raise kind("not here")

    monkeypatch.setattr(world.scene, "connect", refuse)
    with pytest.raises(kind, match="not here"):
        world.connection.open(60.0)
    world.reachability.note_unreached("i-other", "not here")
    with pytest.raises(LaunchError, match="launched 2"):
        world.reachability.check()
