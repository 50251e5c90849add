"""EC2's own checks, asked for those machines only that do not answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from snakemake_executor_ec2.aws.health import HealthBoard
from snakemake_executor_ec2.errors import CloudError, CredentialsExpired, PermissionDenied
from tests.fakes.clock import FakeClock
from tests.unit.aws.scripted import ScriptedClients, client_error

OK, BAD, NEW = {"Status": "ok"}, {"Status": "impaired"}, {"Status": "initializing"}


def answer(**rows: tuple[dict[str, str], dict[str, str]]) -> dict[str, Any]:
    """DescribeInstanceStatus' answer: name → (the instance's check, that of the computer below it)."""
    return {
        "InstanceStatuses": [
            {"InstanceId": name, "InstanceStatus": own, "SystemStatus": below}
            for name, (own, below) in rows.items()
        ]
    }


class World:
    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.clock = FakeClock()
        self.clients = ScriptedClients()
        self.clients.ec2.answer("describe_instance_status", *answers)
        self.board = HealthBoard(self.clients.as_clients, clock=self.clock)

    @property
    def asked(self) -> list[list[str]]:
        return [call["InstanceIds"] for call in self.clients.ec2.called("describe_instance_status")]


def test_either_check_counts() -> None:
    """The instance's or its computer's; one that boots, is well or is not shown has not crashed."""
    world = World(answer(a=(BAD, OK), b=(OK, BAD), c=(OK, OK), d=(NEW, NEW)))
    assert [world.board.is_impaired(name) for name in "abcde"] == [True, True, False, False, False]


def test_one_call_for_all_who_are_missed() -> None:
    """Any number of threads cost one call in 15 s, for the machines that were asked about of late."""
    world = World(answer())
    names = [f"i-{number:03}" for number in range(150)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(world.board.is_impaired, names))
    assert len(world.asked) == 1
    world.clock.advance(15)
    world.board.is_impaired("i-000")
    assert [len(ids) for ids in world.asked[1:]] == [100, 50]
    world.clock.advance(61)
    world.board.is_impaired("i-007")
    assert world.asked[3:] == [["i-007"]]


@pytest.mark.parametrize(
    ("code", "status"), [("InvalidInstanceID.NotFound", 400), ("Unavailable", 503), ("InvalidAction", 501)]
)
def test_an_answer_that_says_nothing(code: str, status: int) -> None:
    """A machine that EC2 does not show yet spoils it for all; but it is one: the line to EC2 is up."""
    world = World(client_error(code, status=status), answer(a=(BAD, OK)))
    assert not world.board.is_impaired("a")
    world.clock.advance(15)
    assert world.board.is_impaired("a")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (client_error("UnauthorizedOperation"), PermissionDenied),
        (client_error("RequestExpired"), CredentialsExpired),
        (EndpointConnectionError(endpoint_url="https://ec2"), CloudError),
    ],
)
def test_no_answer_is_none(error: Exception, kind: type[Exception]) -> None:
    """Where EC2 does not tell, that is raised for all who ask in the next 15 s; then it is asked again."""
    world = World(error, answer(a=(BAD, OK)))
    for name in "aba":
        with pytest.raises(kind):
            world.board.is_impaired(name)
    assert len(world.asked) == 1
    world.clock.advance(15)
    assert world.board.is_impaired("a")
