"""What lets a run's machines pass on files, on a fake cloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_ec2.errors import PermissionDenied
from snakemake_executor_ec2.machines.fan_out import Copy
from snakemake_executor_ec2.machines.peers import Peers
from snakemake_executor_ec2.ssh.keys import new_key_pair
from tests.fakes.clock import FakeClock
from tests.fakes.cloud import FakeCloud


class World:
    """A run's peers."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.cloud = FakeCloud(self.clock)
        self.said: list[str] = []
        self.peers = Peers(
            cloud=self.cloud,
            clock=self.clock,
            authority=new_key_pair(),
            user="ec2-user",
            port=22,
            tell=self.said.append,
        )


@pytest.fixture
def world() -> World:
    return World()


def _copy(machine_id: str) -> Copy:
    return Copy(
        machine_id=machine_id,
        zone="a",
        name="n",
        path="/w/large",
        host_keys=(),
        ahead_s=0,
        content=Path("/w/large"),
        size=1,
    )


def test_the_way_between_machines_is_opened_once(world: World) -> None:
    """When it is needed first."""
    assert world.peers.opened()
    world.cloud.fail("allow_ssh_between_machines", PermissionDenied("no", action="a"))
    assert world.peers.opened()


def test_a_way_that_may_not_be_opened(world: World) -> None:
    """The controller sends everything from then on; the user is told once, with the permission."""
    action = "ec2:AuthorizeSecurityGroupIngress"
    error = PermissionDenied(f"the AWS credentials do not have the permission {action}", action=action)
    world.cloud.fail("allow_ssh_between_machines", error)
    assert not world.peers.opened()
    assert not world.peers.opened()
    assert world.peers.is_off
    assert len(world.said) == 1
    assert action in world.said[0]


def test_one_machine_that_cannot_be_asked_is_not_all(world: World) -> None:
    """Three of them are, if none could in between; two lines are told, not one for each failure."""

    def fails(holders: str, reader: str = "8", *, reached: bool = False, failure: str = "refused") -> bool:
        for each in holders:
            world.peers.got(_copy(each), reader, failure=failure, reached=reached)
        return world.peers.is_off

    assert not fails("111112")
    assert not fails("3", failure="", reached=True)
    assert not fails("12")
    assert fails("3", "9")
    assert len(world.said) == 2


@pytest.mark.parametrize(("readers", "reached"), [("888", False), ("789", True)], ids=["its own", "slow"])
def test_what_does_not_show_that_there_is_no_way(world: World, readers: str, *, reached: bool) -> None:
    """One machine that gets through to no other may be the cause itself; those that answer, and then are
    too slow, can be reached."""
    for holder, reader in zip("123", readers, strict=True):
        world.peers.got(_copy(holder), reader, failure="why", reached=reached)
    assert not world.peers.is_off


def test_a_file_is_read_once_for_all_machines(world: World, tmp_path: Path) -> None:
    """Its checksum is that of the state that the key stands for."""
    file = tmp_path / "large"
    file.write_text("first")
    first = world.peers.checksum("key", file)
    file.write_text("second")
    assert world.peers.checksum("key", file) == first
    assert world.peers.checksum("another key", file) != first
