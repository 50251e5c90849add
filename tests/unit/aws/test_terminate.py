"""Ending machines, against all resistance."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from snakemake_executor_ec2.aws.terminate import Terminator
from snakemake_executor_ec2.errors import CloudError, PermissionDenied, ThrottledError
from tests.fakes.clock import FakeClock
from tests.unit.aws.scripted import ScriptedClients, client_error, instance, reservations

OFFLINE = EndpointConnectionError(endpoint_url="https://ec2")


class World:
    """A terminator with its clock and its script."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.clients = ScriptedClients()
        self.ec2 = self.clients.ec2
        self.warnings: list[str] = []
        self.terminator = Terminator(
            self.clients.as_clients, run_id="r1", clock=self.clock, warn=self.warnings.append
        )

    @property
    def batches(self) -> list[list[str]]:
        return [each["InstanceIds"] for each in self.ec2.called("terminate_instances")]


@pytest.fixture
def world() -> World:
    return World()


def test_one_call_for_many(world: World) -> None:
    """Up to a hundred machines are ended with one call, without waiting for their shutdown."""
    world.ec2.answer("terminate_instances", {})
    world.terminator.terminate([f"i-{each}" for each in range(250)])
    assert [len(each) for each in world.batches] == [100, 100, 50]
    assert all(each["SkipOsShutdown"] for each in world.ec2.called("terminate_instances"))


def test_one_call_for_many_threads(world: World) -> None:
    """Machines whose jobs end at the same time share a call; each hears of its own failure and no other's."""
    everybody = threading.Barrier(20)

    def refuse_one(**parameters: Any) -> dict[str, Any]:
        if "i-7" in parameters["InstanceIds"]:
            raise client_error("UnauthorizedOperation", "You are not authorized")
        return {}

    world.ec2.answer("terminate_instances", refuse_one)
    world.ec2.answer("describe_instances", reservations())
    world.clock.on_sleep = lambda _: time.sleep(0.2)

    def end(number: int) -> bool:
        everybody.wait()
        try:
            world.terminator.terminate([f"i-{number}"])
        except PermissionDenied:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        ended = list(pool.map(end, range(20)))
    assert [number for number, each in enumerate(ended) if not each] == [7]
    assert {each for batch in world.batches for each in batch} == {f"i-{number}" for number in range(20)}
    assert max(map(len, world.batches)) > 10


def test_an_interrupted_call_for_many(world: World) -> None:
    """Ctrl-C ends the call of the thread that asks for all: another one asks then."""
    joined, interrupted = threading.Event(), threading.Event()

    def interrupt(_: float) -> None:
        if not interrupted.is_set():
            interrupted.set()
            assert joined.wait(10)
            raise KeyboardInterrupt

    world.clock.on_sleep = interrupt
    world.ec2.answer("terminate_instances", {})
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(world.terminator.terminate, ["i-1"])
        assert interrupted.wait(10)
        second = pool.submit(world.terminator.terminate, ["i-2"])
        while "i-2" not in world.terminator._gathering.ids:  # type: ignore[union-attr]
            time.sleep(0.01)
        joined.set()
        second.result(10)
        with pytest.raises(KeyboardInterrupt):
            first.result(10)
    assert world.batches == [["i-2"]]


def test_skip_is_refused(world: World) -> None:
    """Where the API does not know SkipOsShutdown, machines are ended without it from then on."""

    def old_api(**parameters: Any) -> dict[str, Any]:
        if "SkipOsShutdown" in parameters:
            raise client_error("UnknownParameter")
        return {}

    world.ec2.answer("terminate_instances", old_api)
    world.terminator.terminate(["i-1"])
    world.terminator.terminate(["i-2"])
    assert world.batches == [["i-1"], ["i-1"], ["i-2"]]


def test_unknown_ids_do_not_hinder_others(world: World) -> None:
    """EC2 refuses a call with an unknown id as a whole: the others are ended without it."""
    ended: set[str] = set()

    def ec2(InstanceIds: list[str], **_: Any) -> dict[str, Any]:  # noqa: N803  (boto3's name)
        bad = [each for each in InstanceIds if each in ("i-bad1", "i-bad2")]
        if bad:
            raise client_error(
                "InvalidInstanceID.NotFound", f"The instance IDs '{', '.join(bad)}' do not exist"
            )
        ended.update(InstanceIds)
        return {}

    world.ec2.answer("terminate_instances", ec2)
    world.terminator.terminate(["i-1", "i-bad1", "i-2", "i-bad2", "i-3"])
    assert ended == {"i-1", "i-2", "i-3"}


def test_not_found_right_after_launch_is_not_believed(world: World) -> None:
    """A machine launched a moment ago is asked for until EC2 knows it; the others do not wait."""
    world.terminator.launched("i-b2")
    world.ec2.answer(
        "terminate_instances",
        client_error("InvalidInstanceID.NotFound", "The instance ID 'i-b2' does not exist"),
        {},
        client_error("InvalidInstanceID.NotFound", "The instance ID 'i-b2' does not exist"),
        {},
    )
    world.terminator.terminate(["i-a1", "i-b2"])
    assert world.batches == [["i-a1", "i-b2"], ["i-a1"], ["i-b2"], ["i-b2"]]


def test_never_found(world: World) -> None:
    """A machine that EC2 does not know a minute after its launch does not exist."""
    world.terminator.launched("i-1")
    world.ec2.answer(
        "terminate_instances", client_error("InvalidInstanceID.NotFound", "'i-1' does not exist")
    )
    start = world.clock.now()
    world.terminator.terminate(["i-1"])
    assert 60 <= world.clock.now() - start < 80


def test_throttling_is_waited_out(world: World) -> None:
    """This stops the bill: throttling and a lost network are borne for two minutes."""
    failures = [client_error("RequestLimitExceeded", status=503), OFFLINE] * 4
    world.ec2.answer("terminate_instances", *failures, {})
    world.terminator.terminate(["i-1", "i-2"])
    assert len(world.batches) == 9


def test_offline_for_long(world: World) -> None:
    """In the end the caller hears that a machine could not be ended."""
    world.ec2.answer("terminate_instances", OFFLINE)
    with pytest.raises(ThrottledError):
        world.terminator.terminate(["i-1", "i-2"])
    assert 120 <= world.clock.now() - 1_800_000_000 < 140


def test_one_protected_machine(world: World) -> None:
    """A machine that EC2 refuses to end is told of after the others were ended."""
    ended: set[str] = set()

    def ec2(InstanceIds: list[str], **_: Any) -> dict[str, Any]:  # noqa: N803  (boto3's name)
        if "i-2" in InstanceIds:
            raise client_error("OperationNotPermitted", "i-2 may not be terminated")
        ended.update(InstanceIds)
        return {}

    world.ec2.answer("terminate_instances", ec2)
    world.ec2.answer("describe_instances", reservations(instance("i-2")))
    with pytest.raises(CloudError, match="i-2"):
        world.terminator.terminate(["i-1", "i-2", "i-3"])
    assert ended == {"i-1", "i-3"}


def test_an_ended_machine_may_be_objected_to(world: World) -> None:
    """Whatever EC2 says about ending a machine that has ended, it has ended."""
    world.ec2.answer("terminate_instances", client_error("InvalidNetworkInterfaceID.NotFound"))
    world.ec2.answer("describe_instances", reservations(instance("i-1", "terminated")))
    world.terminator.terminate(["i-1"])


def test_no_permission(world: World) -> None:
    """A missing permission to end machines is told at once."""
    world.ec2.answer("terminate_instances", client_error("UnauthorizedOperation"))
    world.ec2.answer("describe_instances", reservations(instance("i-1")))
    with pytest.raises(PermissionDenied, match="ec2:TerminateInstances"):
        world.terminator.terminate(["i-1"])


# --- sweep ----------------------------------------------------------------------------------


def test_sweep_looks_twice(world: World) -> None:
    """No machine in one answer proves little: it must be two in a row."""
    world.ec2.answer(
        "describe_instances", reservations(), reservations(instance("i-late", "pending")), reservations()
    )
    world.ec2.answer("terminate_instances", {})
    assert world.terminator.sweep()
    assert world.batches == [["i-late"]]
    assert len(world.ec2.called("describe_instances")) == 4
    assert not world.warnings


def test_sweep_asks_for_what_is_alive(world: World) -> None:
    """Stopped machines cost money, too; those that shut down don't."""
    world.ec2.answer("describe_instances", reservations())
    world.terminator.sweep()
    filters = {each["Name"]: each["Values"] for each in world.ec2.called("describe_instances")[0]["Filters"]}
    assert filters == {
        "tag:snakemake-ec2:run": ["r1"],
        "instance-state-name": ["pending", "running", "stopping", "stopped"],
    }


def test_sweep_ends_in_time_with_a_word(world: World) -> None:
    """A machine that can't be ended is named after a minute or two; nothing is raised."""
    world.ec2.answer("describe_instances", reservations(instance("i-1")))
    world.ec2.answer("terminate_instances", client_error("UnauthorizedOperation"))
    start = world.clock.now()
    assert not world.terminator.sweep()
    assert world.clock.now() - start < 120
    (said,) = world.warnings
    assert "i-1" in said
    assert "ec2:TerminateInstances" in said


def test_sweep_without_a_network(world: World) -> None:
    """Where EC2 can't be asked, the tag to look for is named."""
    world.ec2.answer("describe_instances", OFFLINE)
    assert not world.terminator.sweep()
    (said,) = world.warnings
    assert "snakemake-ec2:run=r1" in said
