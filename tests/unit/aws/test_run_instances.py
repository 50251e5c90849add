"""Exactly one machine for each spec, whatever EC2 answers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from snakemake_executor_ec2 import tags
from snakemake_executor_ec2.aws.network import Caller, Subnet
from snakemake_executor_ec2.aws.run_instances import RETRY_S, Launcher
from snakemake_executor_ec2.aws.security_group import SecurityGroup
from snakemake_executor_ec2.aws.together import token_of
from snakemake_executor_ec2.errors import (
    CapacityError,
    ConfigurationError,
    LaunchError,
    PermissionDenied,
    QuotaError,
    ThrottledError,
)
from snakemake_executor_ec2.model import LaunchSpec
from snakemake_executor_ec2.timing import LAUNCHES_PER_S
from tests.fakes.clock import FakeClock
from tests.unit.aws.scripted import ScriptedClients, client_error, instance, reservations
from tests.unit.machines.test_user_data import SPEC

LOST = ConnectionClosedError(endpoint_url="https://ec2")
STARTED = {
    "Instances": [{"InstanceId": "i-1", "InstanceType": "m7i.large", "Placement": {"AvailabilityZone": "a"}}]
}


LAUNCHED_BEFORE = instance("i-7", ClientToken=SPEC.token, InstanceType="m7i.large")


def subnet(subnet_id: str) -> Subnet:
    return Subnet(id=subnet_id, vpc_id="vpc-1", zone="a", zone_id="az1", public=True)


class World:
    """A launcher with its clock and its script."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.clients = ScriptedClients()
        self.ec2 = self.clients.ec2
        self.ec2.answer("create_security_group", {"GroupId": "sg-1"})
        self.ec2.answer("authorize_security_group_ingress", {})
        self.warnings: list[str] = []
        self.ended: list[str] = []
        self.group = SecurityGroup(
            self.clients.as_clients, run_id="r1", ssh_port=22, clock=self.clock, warn=self.warnings.append
        )
        self.launcher = Launcher(
            self.clients.as_clients,
            run_id="r1",
            group=self.group,
            caller=Caller(ssh_from="203.0.113.7", endpoint=lambda: ""),
            clock=self.clock,
            end=self.ended.extend,
        )

    def launch(self, spec: LaunchSpec = SPEC, subnets: tuple[str, ...] = ("subnet-1",)) -> Any:
        return self.launcher.launch(spec, [subnet(each) for each in subnets])

    @property
    def requests(self) -> list[dict[str, Any]]:
        return self.ec2.called("run_instances")


@pytest.fixture
def world() -> World:
    return World()


def test_launch(world: World) -> None:
    """A launch is one call, and its machine is what EC2 says it started."""
    world.ec2.answer("run_instances", STARTED)
    machine = world.launch()
    assert (machine.id, machine.zone, machine.launched_at) == ("i-1", "a", world.clock.now())
    assert len(world.requests) == 1


@pytest.mark.parametrize(
    "failure",
    [LOST, client_error("RequestLimitExceeded", status=503), client_error("InternalError", status=500)],
)
def test_ambiguous_outcomes_are_asked_again_with_the_same_token(world: World, failure: Exception) -> None:
    """A lost or unusable answer is followed by the very same request, which can't start a second machine."""
    world.ec2.answer("run_instances", failure, failure, STARTED)
    assert world.launch().id == "i-1"
    first, second, third = world.requests
    assert first == second == third
    assert first["ClientToken"] == SPEC.token


def test_throttled_for_long(world: World) -> None:
    """After some 20 s of throttling the caller hears of it, and no call came faster than the pace."""
    world.ec2.answer("run_instances", client_error("RequestLimitExceeded", status=503))
    start = world.clock.now()
    with pytest.raises(ThrottledError):
        world.launch()
    assert RETRY_S <= world.clock.now() - start < RETRY_S + 10
    assert len(world.requests) <= 15


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InsufficientInstanceCapacity", CapacityError),
        ("Unsupported", CapacityError),
        ("VcpuLimitExceeded", QuotaError),
        ("UnauthorizedOperation", PermissionDenied),
        ("AuthFailure", ConfigurationError),
        ("InvalidAMIID.NotFound", ConfigurationError),
    ],
)
def test_refusals_are_told_at_once(world: World, code: str, kind: type[Exception]) -> None:
    """Capacity, quotas and permissions are for the caller to judge: one call, no retry."""
    world.ec2.answer("run_instances", client_error(code))
    with pytest.raises(kind):
        world.launch()
    assert len(world.requests) == 1


def test_full_subnet(world: World) -> None:
    """A subnet without free addresses is left for the next one of the zone, with the same token."""
    world.ec2.answer("run_instances", client_error("InsufficientFreeAddressesInSubnet"), STARTED)
    world.launch(subnets=("subnet-1", "subnet-2"))
    used = [each["NetworkInterfaces"][0]["SubnetId"] for each in world.requests]
    assert used == ["subnet-1", "subnet-2"]
    assert len({each["ClientToken"] for each in world.requests}) == 1


def test_all_subnets_full(world: World) -> None:
    """Where every subnet of a zone is full, that is a lack of capacity there."""
    world.ec2.answer("run_instances", client_error("InsufficientFreeAddressesInSubnet"))
    with pytest.raises(CapacityError):
        world.launch(subnets=("subnet-1", "subnet-2"))


def test_token_was_used_in_another_subnet(world: World) -> None:
    """A token that has started a machine elsewhere in the zone leads to that machine."""
    world.ec2.answer("run_instances", client_error("IdempotentParameterMismatch"))
    world.ec2.answer("describe_instances", reservations(instance("i-6"), LAUNCHED_BEFORE))
    assert world.launch().id == "i-7"


def test_a_machine_that_is_not_shown_yet(world: World) -> None:
    """EC2 knows it by its token before it shows it. It is waited for, and never launched otherwise."""
    hidden, shown = reservations(instance("i-6")), reservations(LAUNCHED_BEFORE)
    world.ec2.answer("run_instances", client_error("IdempotentParameterMismatch"))
    world.ec2.answer("describe_instances", hidden, hidden, shown)
    assert world.launch().id == "i-7"
    assert len(world.requests) == 1


def test_a_machine_that_is_not_shown_for_long(world: World) -> None:
    """The same launch may be asked for again: for another one there would be two machines."""
    world.ec2.answer("run_instances", client_error("IdempotentParameterMismatch"))
    world.ec2.answer("describe_instances", reservations(), *[reservations()] * 10)
    with pytest.raises(ThrottledError, match="does not show it yet"):
        world.launch()


def test_machines_are_taken_only_in_a_row(world: World) -> None:
    """Of a call for three, the second one is shown first: it must not become the machine of the first."""
    specs = [replace(SPEC, token=tags.client_token(str(number))) for number in range(3)]
    rows = [
        instance(f"i-{number}", ClientToken=token_of(specs), InstanceType="m7i.large", AmiLaunchIndex=number)
        for number in range(3)
    ]
    torn = reservations(rows[0], rows[2])
    world.ec2.answer("describe_instances", reservations(rows[1]), torn, reservations(*rows), torn)
    error = client_error("IdempotentParameterMismatch")
    assert world.launcher._launched_before(specs, error) == rows
    with pytest.raises(ThrottledError):
        world.launcher._launched_before(specs, error)


def test_a_machine_that_has_ended_before_it_was_heard_of(world: World) -> None:
    """EC2 launches nothing for its token again. The job hears of its end, or looks for another machine."""
    world.ec2.answer("run_instances", LOST, client_error("IdempotentInstanceTerminated"))
    world.ec2.answer(
        "describe_instances",
        reservations({**LAUNCHED_BEFORE, "State": {"Name": "terminated"}}),
        reservations(),
    )
    assert world.launch().id == "i-7"
    with pytest.raises(CapacityError, match="has ended already"):
        world.launch(replace(SPEC, token=tags.client_token("another")))


def test_a_refusal_after_a_lost_answer(world: World) -> None:
    """The call before may have launched a machine, which nobody would ask for again: it is ended."""
    world.ec2.answer("run_instances", LOST, client_error("AuthFailure"))
    world.ec2.answer("describe_instances", LOST, reservations(), reservations(LAUNCHED_BEFORE))
    with pytest.raises(ConfigurationError):
        world.launch()
    until = time.monotonic() + 10
    while not world.ended and time.monotonic() < until:
        time.sleep(0.01)
    assert world.ended == ["i-7"]


@pytest.mark.parametrize("code", ["InvalidGroup.NotFound", "InvalidParameterValue"])
def test_fresh_network(world: World, code: str) -> None:
    """Right after the group was made, EC2 may not know it yet: that is waited out."""
    world.ec2.answer("run_instances", client_error(code), client_error(code), STARTED)
    assert world.launch().id == "i-1"


def test_invalid_parameter_later(world: World) -> None:
    """Once the group has settled, an invalid parameter is just that."""
    world.ec2.answer("run_instances", STARTED, client_error("InvalidParameterValue"))
    world.launch()
    world.clock.advance(100)
    with pytest.raises(LaunchError):
        world.launch(replace(SPEC, token=tags.client_token("another")))
    assert len(world.requests) == 2


def test_pace(world: World) -> None:
    """Five calls may come at once, then two a second."""
    world.ec2.answer("run_instances", STARTED)
    at = []
    for number in range(20):
        world.launch(replace(SPEC, token=tags.client_token(str(number))))
        at.append(world.clock.now())
    assert len(world.requests) == 20
    assert at[4] - at[0] < 1.0
    assert (20 - 5) / LAUNCHES_PER_S - 1 <= at[-1] - at[0] <= 20 / LAUNCHES_PER_S


def test_one_group_for_many_launches(world: World) -> None:
    """The group is made once, at the first launch, open to the caller's network only."""
    world.ec2.answer("run_instances", STARTED)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: world.launch(), range(8)))
    assert len(world.ec2.called("create_security_group")) == 1
    (opened,) = world.ec2.called("authorize_security_group_ingress")
    (rule,) = opened["IpPermissions"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 22, 22)
    assert [each["CidrIp"] for each in rule["IpRanges"]] == ["203.0.113.7/32"]


def test_no_permission_for_groups(world: World) -> None:
    """A group that may not be made is named as a missing permission; nothing is launched."""
    denied = client_error("UnauthorizedOperation")
    world.ec2._script["create_security_group"] = [denied]
    with pytest.raises(PermissionDenied, match="ec2:CreateSecurityGroup"):
        world.launch()
    assert not world.requests
