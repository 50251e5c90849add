"""The run's security group: made late, opened narrowly, removed at the end."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.aws.security_group import SecurityGroup
from snakemake_executor_ec2.errors import ConfigurationError
from tests.fakes.clock import FakeClock
from tests.unit.aws.scripted import ScriptedClients, client_error


class World:
    """A group with its clock and its script."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.clients = ScriptedClients()
        self.ec2 = self.clients.ec2
        self.ec2.answer("create_security_group", {"GroupId": "sg-1"})
        self.ec2.answer("authorize_security_group_ingress", {})
        self.warnings: list[str] = []
        self.group = SecurityGroup(
            self.clients.as_clients, run_id="r1", ssh_port=2222, clock=self.clock, warn=self.warnings.append
        )

    def ensure(self) -> str:
        return self.group.ensure("vpc-1", lambda: ["203.0.113.7/32"])


@pytest.fixture
def world() -> World:
    return World()


def test_tagged_from_the_first_moment(world: World) -> None:
    """The group carries the run's tag in the call that makes it."""
    assert world.ensure() == "sg-1"
    (made,) = world.ec2.called("create_security_group")
    assert made["GroupName"] == "snakemake-ec2-r1"
    assert made["VpcId"] == "vpc-1"
    assert {"Key": "snakemake-ec2:run", "Value": "r1"} in made["TagSpecifications"][0]["Tags"]


def test_unknown_caller_makes_nothing(world: World) -> None:
    """Where the caller's address can't be told, no group is made."""

    def unknown() -> list[str]:
        raise ConfigurationError("no address")

    with pytest.raises(ConfigurationError):
        world.group.ensure("vpc-1", unknown)
    assert not world.ec2.calls


def test_made_by_a_call_whose_answer_was_lost(world: World) -> None:
    """A group of the run's name that exists already is ours."""
    world.ec2._script["create_security_group"] = [client_error("InvalidGroup.Duplicate")]
    world.ec2.answer("describe_security_groups", {"SecurityGroups": [{"GroupId": "sg-9"}]})
    assert world.ensure() == "sg-9"


def test_more_networks(world: World) -> None:
    """Another address is let in as well, once; one that is in already is not asked for."""
    world.ensure()
    for _ in range(2):
        world.group.allow(["203.0.113.7/32", "198.51.100.9/32", "2001:db8::1/128"])
    rules = [each["IpPermissions"][0] for each in world.ec2.called("authorize_security_group_ingress")]
    assert [each["IpRanges"][0]["CidrIp"] for each in rules[:2]] == ["203.0.113.7/32", "198.51.100.9/32"]
    assert rules[2]["Ipv6Ranges"][0]["CidrIpv6"] == "2001:db8::1/128"
    assert len(rules) == 3
    assert {(each["FromPort"], each["ToPort"]) for each in rules} == {(2222, 2222)}


def test_its_own_machines(world: World) -> None:
    """The rule for them names the group itself, and only ssh's port; without a group there is none."""
    world.group.allow_itself()
    assert not world.ec2.calls
    world.ensure()
    world.group.allow_itself()
    rule = world.ec2.called("authorize_security_group_ingress")[-1]["IpPermissions"][0]
    assert [each["GroupId"] for each in rule["UserIdGroupPairs"]] == ["sg-1"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 2222, 2222)
    assert "IpRanges" not in rule


def test_a_rule_that_is_there_is_fine(world: World) -> None:
    """EC2's complaint about a duplicate rule is no failure; an unknown fresh group is waited for."""
    world.ec2._script["authorize_security_group_ingress"] = [
        client_error("InvalidGroup.NotFound"),
        client_error("InvalidPermission.Duplicate"),
    ]
    assert world.ensure() == "sg-1"
    assert len(world.clock.slept) == 1


def test_allow_before_the_first_launch(world: World) -> None:
    """Nothing is made for nobody."""
    world.group.allow(["203.0.113.7/32"])
    assert not world.ec2.calls


def test_delete_waits_for_the_last_machine(world: World) -> None:
    """While a machine's network interface is there, deletion is tried again."""
    world.ensure()
    world.ec2.answer("delete_security_group", *[client_error("DependencyViolation")] * 5, {})
    assert world.group.delete()
    assert world.group.delete()
    assert len(world.ec2.called("delete_security_group")) == 6
    assert not world.warnings
    assert not world.group.exists


def test_delete_gives_up_with_a_word(world: World) -> None:
    """A group that can't be deleted is named, and raises nothing that would hide another error."""
    world.ensure()
    world.ec2.answer("delete_security_group", client_error("DependencyViolation"))
    start = world.clock.now()
    assert not world.group.delete()
    assert world.clock.now() - start < 180
    (said,) = world.warnings
    assert "sg-1" in said
    assert world.group.exists


def test_deleted_by_somebody_else(world: World) -> None:
    """A group that is gone already is what we wanted."""
    world.ensure()
    world.ec2.answer("delete_security_group", client_error("InvalidGroup.NotFound"))
    world.group.delete()
    assert not world.warnings
