"""One answer of DescribeInstances for all who ask."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from snakemake_executor_ec2.aws.statuses import StatusBoard, status_of
from snakemake_executor_ec2.errors import ConfigurationError, PermissionDenied
from snakemake_executor_ec2.model import MachineState
from tests.fakes.clock import FakeClock
from tests.unit.aws.scripted import ScriptedClients, client_error, instance, reservations

PUBLIC = {"PublicIpAddress": "203.0.113.1", "PrivateIpAddress": "10.0.0.1"}
PRIVATE = {"PrivateIpAddress": "10.0.0.1"}


class World:
    """A board with its clock and its script."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.clients = ScriptedClients()
        self.ec2 = self.clients.ec2
        self.board = StatusBoard(self.clients.as_clients, run_id="r1", clock=self.clock)

    @property
    def calls(self) -> int:
        return len(self.ec2.called("describe_instances"))


@pytest.fixture
def world() -> World:
    return World()


def test_one_call_for_all(world: World) -> None:
    """Any number of machines and threads cost one call in 2 s, for those of the run that are at work."""
    world.ec2.answer("describe_instances", reservations(*(instance(f"i-{each}") for each in range(50))))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(world.board.status, [f"i-{each}" for each in range(50)]))
    assert {each.state for each in found} == {MachineState.RUNNING}
    assert world.calls == 1
    assert world.ec2.called("describe_instances")[0]["Filters"] == [
        {"Name": "tag:snakemake-ec2:run", "Values": ["r1"]},
        {"Name": "instance-state-name", "Values": ["pending", "running"]},
    ]
    world.clock.advance(2.1)
    world.board.status("i-1")
    assert world.calls == 2


def test_state_address_and_reason(world: World) -> None:
    """State, public address and the reason of an end are EC2's."""
    ended = instance("i-2", "terminated", StateReason={"Code": "Server.SpotInstanceTermination"})
    world.ec2.answer("describe_instances", reservations(instance("i-1", **PUBLIC), ended))
    assert world.board.status("i-1").address == "203.0.113.1"
    assert world.board.status("i-2").reason == "Server.SpotInstanceTermination"
    assert world.board.status("i-2").state.is_gone


@pytest.mark.parametrize(
    ("public", "state", "address"),
    [(True, "pending", None), (True, "running", "10.0.0.1"), (False, "pending", "10.0.0.1")],
)
def test_private_address(world: World, public: bool, state: str, address: str | None) -> None:
    """While a public address is on its way, the private one, somebody else's here, is not given."""
    world.ec2.answer("describe_instances", reservations(instance("i-1", state, **PRIVATE)))
    if public:
        world.board.expect_public("i-1")
    assert world.board.status("i-1").address == address


def test_no_other_than_the_private_address() -> None:
    """For a computer in the machines' network, also while they have public ones."""
    row = reservations(instance("i-1", **PUBLIC))["Reservations"][0]["Instances"][0]
    assert status_of(row, public=False, private=True).address == "10.0.0.1"
    assert status_of(row, public=False).address == "203.0.113.1"


def test_a_machine_just_launched_has_an_address_for_others(world: World) -> None:
    """It answers ssh before the board hears of it, or that it runs; one that has ended, or will, has none."""
    gone = instance("i-2", "shutting-down", **PRIVATE)
    world.ec2.answer("describe_instances", reservations())
    world.board.status("i-3")
    world.ec2.answer("describe_instances", reservations(instance("i-1", "pending", **PRIVATE), gone))
    assert world.board.private_address("i-1") == "10.0.0.1"
    assert world.board.private_address("i-2") is None
    world.board.ending(["i-1"])
    assert world.board.private_address("i-1") is None


def test_not_yet_shown_is_unknown(world: World) -> None:
    """A machine that EC2 never showed is unknown, however long that lasts."""
    world.ec2.answer("describe_instances", reservations())
    for _ in range(3):
        assert world.board.status("i-1").state is MachineState.UNKNOWN
        world.clock.advance(100)


def test_absent_after_it_was_seen(world: World) -> None:
    """A machine that EC2 stops showing keeps its state for a minute, and then is gone."""
    world.ec2.answer("describe_instances", reservations(instance("i-1")), reservations())
    assert world.board.status("i-1").state is MachineState.RUNNING
    for _ in range(12):
        world.clock.advance(5)
        assert world.board.status("i-1").state is MachineState.RUNNING
    world.clock.advance(5)
    assert world.board.status("i-1").state is MachineState.TERMINATED


def test_throttling_keeps_the_last_answer(world: World) -> None:
    """Throttling and lost connections leave the last answer standing and are asked less and less often."""
    world.ec2.answer(
        "describe_instances",
        reservations(instance("i-1")),
        *[client_error("RequestLimitExceeded", status=503)] * 3,
        reservations(instance("i-1", "terminated")),
    )
    for _ in range(30):
        assert world.board.status("i-1").state is MachineState.RUNNING
        if world.calls == 4:
            break
        world.clock.advance(2)
    assert world.calls == 4
    world.clock.advance(30)
    assert world.board.status("i-1").state is MachineState.TERMINATED


def test_an_outage_is_no_absence(world: World) -> None:
    """Machines are not taken as gone because nobody could ask for a while."""
    world.ec2.answer(
        "describe_instances",
        reservations(instance("i-1")),
        client_error("Unavailable", status=503),
        reservations(),
    )
    world.board.status("i-1")
    world.clock.advance(300)
    assert world.board.status("i-1").state is MachineState.RUNNING
    world.clock.advance(300)
    assert world.board.status("i-1").state is MachineState.RUNNING


def test_one_answer_after_a_quiet_time_is_no_absence(world: World) -> None:
    """A machine that nobody asked for in hours is not taken as gone by the first answer that lacks it."""
    world.ec2.answer(
        "describe_instances", reservations(instance("i-1")), reservations(), reservations(instance("i-1"))
    )
    for _ in range(3):
        assert world.board.status("i-1").state is MachineState.RUNNING
        world.clock.advance(7200)


def test_ended_machines_are_not_asked_about(world: World) -> None:
    """Of 1,000 machines that have ended, EC2 is asked by id until it has said how, and then no more; never
    about those that we have ended."""
    names = [f"i-{number:03}" for number in range(1000)]
    filters: list[dict[str, list[str]]] = []

    def described(**asked: Any) -> dict[str, Any]:
        filters.append({each["Name"]: each["Values"] for each in asked["Filters"]})
        ids = filters[-1].get("instance-id")
        return reservations(*(instance(each, "terminated") for each in ids) if ids else [instance("i-1000")])

    world.ec2.answer("describe_instances", reservations(*map(instance, [*names, "i-1000"])), described)
    world.board.status("i-000")
    world.board.ending(names[:700])
    for _ in range(3):
        world.clock.advance(5)
        assert world.board.status("i-1000").state is MachineState.RUNNING
    by_id = [each["instance-id"] for each in filters if "instance-id" in each]
    assert [len(each) for each in by_id] == [200, 100]
    assert {each for ids in by_id for each in ids} == {*names[700:]}
    assert world.board.status(names[999]).state is MachineState.TERMINATED


def test_ended_machines_that_somebody_asks_about(world: World) -> None:
    """Each answer is EC2's of the last 2 s, also of a machine that was left out of the last call because we
    have ended it, or because nobody knew that it had started and ended."""

    def described(**asked: Any) -> dict[str, Any]:
        filters = {each["Name"]: each["Values"] for each in asked["Filters"]}
        return reservations(*(instance(each, "terminated") for each in filters.get("instance-id", ())))

    world.ec2.answer("describe_instances", reservations(*map(instance, ("i-1", "i-2"))), described)
    for name in ("i-1", "i-2", "i-3", "i-4"):
        world.board.launched(name)
    world.clock.advance(10)
    assert world.board.status("i-1").state is MachineState.RUNNING
    world.board.ending(["i-1", "i-2"])
    world.clock.advance(10)
    for name in ("i-1", "i-2", "i-3", "i-4"):
        assert world.board.status(name).state is MachineState.TERMINATED


def test_new_machines_do_not_hurry_ec2(world: World) -> None:
    """A thousand machines that EC2 does not show yet are no reason to ask before it is time."""
    world.ec2.answer("describe_instances", reservations())
    for number in range(1000):
        world.board.launched(f"i-{number}")
        assert world.board.status(f"i-{number}").state is MachineState.UNKNOWN
    assert world.calls <= 2


@pytest.mark.parametrize(
    ("code", "kind"), [("AuthFailure", ConfigurationError), ("UnauthorizedOperation", PermissionDenied)]
)
def test_revoked_credentials_are_raised(world: World, code: str, kind: type[Exception]) -> None:
    """Credentials that were revoked are told, instead of "still running" for ever."""
    world.ec2.answer("describe_instances", reservations(instance("i-1")), client_error(code))
    world.board.status("i-1")
    for _ in range(2):
        world.clock.advance(3)
        with pytest.raises(kind):
            world.board.status("i-1")
