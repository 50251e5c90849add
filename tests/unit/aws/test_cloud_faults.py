"""`Ec2Cloud` when EC2 fails, over real connections to the embedded cloud."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import snakemake_executor_ec2
from snakemake_executor_ec2.aws import snapshot
from snakemake_executor_ec2.aws.cloud import Ec2Cloud
from snakemake_executor_ec2.errors import CapacityError, PermissionDenied, QuotaError, ThrottledError
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.model import Arch, MachineState, Market
from tests.contract.test_cloud import RUN, make_spec
from tests.fakes.clock import FakeClock
from tests.unit.aws.moto_server import environment


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedCloud]:
    with EmbeddedCloud(pending_s=0.1) as made, environment(made.env):
        yield made


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def clock() -> FakeClock:
    made = FakeClock()
    # Its machines take real time to end, so sleeps are shortened, not skipped.
    made.on_sleep = lambda seconds: time.sleep(min(seconds, 0.03))
    return made


@pytest.fixture
def cloud(
    embedded: EmbeddedCloud, clock: FakeClock, warnings: list[str], cache_dir: Path
) -> Iterator[Ec2Cloud]:
    made = Ec2Cloud(run_id=RUN, clock=clock, warn=warnings.append, cache_dir=cache_dir)
    yield made
    embedded.faults.clear()
    made.close()
    assert nothing_is_left(embedded)
    embedded.forget_calls()


def alive(embedded: EmbeddedCloud) -> list[str]:
    states = embedded.machine_states()
    return sorted(each for each, state in states.items() if state in {"pending", "running", "stopping"})


def nothing_is_left(embedded: EmbeddedCloud) -> bool:
    """A machine that is ended while it starts may say `running` once more."""
    deadline = time.monotonic() + 15
    while alive(embedded) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(embedded)


def test_the_reply_to_a_launch_is_lost(embedded: EmbeddedCloud, cloud: Ec2Cloud) -> None:
    """When the connection breaks after the machine started, there is that machine and no other."""
    spec = make_spec(cloud)
    embedded.faults.lose_reply("RunInstances", count=3)
    machine = cloud.launch(spec)
    assert alive(embedded) == [machine.id]
    assert len(embedded.calls("RunInstances")) == 4


def test_replies_are_lost_for_long(embedded: EmbeddedCloud, cloud: Ec2Cloud) -> None:
    """Where EC2 never answers, the caller hears of it, and `close` ends the machine that started."""
    spec = make_spec(cloud)
    embedded.faults.lose_reply("RunInstances", count=None)
    with pytest.raises(ThrottledError):
        cloud.launch(spec)
    assert len(alive(embedded)) == 1
    embedded.faults.clear()
    assert cloud.launch(spec).id == alive(embedded)[0]


def test_the_reply_to_making_the_group_is_lost(embedded: EmbeddedCloud, cloud: Ec2Cloud) -> None:
    """A group whose creation was not answered is found by its name, used, and removed."""
    embedded.faults.lose_reply("CreateSecurityGroup")
    cloud.launch(make_spec(cloud))
    cloud.close()
    assert embedded.calls("DeleteSecurityGroup")[-1]["status"] == 200


def test_the_reply_to_removing_the_group_is_lost(
    embedded: EmbeddedCloud, cloud: Ec2Cloud, warnings: list[str]
) -> None:
    """A group that is gone has no tag any more, so the policy lets nobody remove it: that is no failure."""
    embedded.allow((Path(snakemake_executor_ec2.__file__).parent / "aws/policy.json").read_text())
    try:
        cloud.terminate([cloud.launch(make_spec(cloud)).id])
        deadline = time.monotonic() + 30
        while set(embedded.machine_states().values()) != {"terminated"} and time.monotonic() < deadline:
            time.sleep(0.05)
        embedded.faults.lose_reply("DeleteSecurityGroup")
        assert cloud.close()
    finally:
        embedded.allow(None)
    assert embedded.calls("DeleteSecurityGroup")[-1]["error"] == "UnauthorizedOperation"
    assert warnings == []


def test_throttled_for_a_while(embedded: EmbeddedCloud, cloud: Ec2Cloud) -> None:
    """Throttled calls are repeated until they are let through."""
    spec = make_spec(cloud)
    embedded.faults.throttle("RunInstances", count=4)
    machine = cloud.launch(spec)
    embedded.faults.throttle("TerminateInstances", count=4)
    cloud.terminate([machine.id])
    assert nothing_is_left(embedded)


def test_capacity(embedded: EmbeddedCloud, cloud: Ec2Cloud) -> None:
    """A lack of capacity is told at once, with its code, after one call."""
    spec = make_spec(cloud)
    embedded.faults.no_capacity("m7i.large")
    with pytest.raises(CapacityError) as caught:
        cloud.launch(spec)
    assert caught.value.code == "InsufficientInstanceCapacity"
    assert len(embedded.calls("RunInstances")) == 1


def test_quota(embedded: EmbeddedCloud, cloud: Ec2Cloud) -> None:
    """The account's limit is told as such: the first machine fits, the second does not."""
    embedded.faults.quota("L-1216C47A", 2)
    cloud.launch(make_spec(cloud))
    with pytest.raises(QuotaError):
        cloud.launch(make_spec(cloud))


@pytest.mark.parametrize("action", ["RunInstances", "CreateSecurityGroup", "AuthorizeSecurityGroupIngress"])
def test_no_permission_to_launch(embedded: EmbeddedCloud, cloud: Ec2Cloud, action: str) -> None:
    """A missing permission is named; nothing was launched."""
    spec = make_spec(cloud)
    embedded.faults.deny(action)
    with pytest.raises(PermissionDenied, match=f"ec2:{action}") as caught:
        cloud.launch(spec)
    assert caught.value.action == f"ec2:{action}"
    assert nothing_is_left(embedded)


def test_no_permission_for_the_catalogue(embedded: EmbeddedCloud, cloud: Ec2Cloud) -> None:
    """What can't be read is named as well; SSM and route tables can be done without."""
    for action in ("GetParameter", "DescribeRouteTables", "DescribeRegions"):
        embedded.faults.deny(action)
    cloud.check()
    assert cloud.image(None, Arch.X86_64).name.startswith("al2023")
    assert cloud.zones("m7i.large")
    embedded.faults.deny("DescribeSpotPriceHistory")
    with pytest.raises(PermissionDenied, match="ec2:DescribeSpotPriceHistory"):
        cloud.prices(Market.SPOT)


def test_prices_are_forbidden(embedded: EmbeddedCloud, cloud: Ec2Cloud, warnings: list[str]) -> None:
    """Without the permission for prices the run goes on with a snapshot's, and says so once."""
    embedded.faults.deny("GetProducts")
    for _ in range(2):
        assert cloud.prices(Market.ON_DEMAND)["m7i.large", ""].source.startswith("us-east-1, 2")
    (said,) = warnings
    assert "pricing:GetProducts" in said


@pytest.mark.usefixtures("embedded")
def test_the_pricing_api_names_none(clock: FakeClock, warnings: list[str]) -> None:
    """As if it had not answered: the package's own prices, if it has any."""
    new = Ec2Cloud(run_id=RUN, clock=clock, warn=warnings.append, allowed_types=["m8azn.large"])
    assert ("m8azn.large", "") not in new.prices(Market.ON_DEMAND)
    (said,) = warnings
    assert "pricing:GetProducts names none" in said


def test_prices(cloud: Ec2Cloud, warnings: list[str]) -> None:
    """Prices of a whole region come from the Pricing API's own pages; the embedded cloud's are AWS's."""
    prices = cloud.prices(Market.ON_DEMAND)
    assert len(prices) > 1000
    assert prices["m7i.large", ""].source == f"AWS's of {snapshot.read().prices_taken}"
    assert not warnings


def test_prices_of_few_types(embedded: EmbeddedCloud, clock: FakeClock) -> None:
    """Where the run allows few types, only their prices are asked for."""
    embedded.forget_calls()
    few = Ec2Cloud(run_id=RUN, clock=clock, warn=pytest.fail, allowed_types=["m7i.large", "c7i.?large"])
    assert {name for name, _ in few.prices(Market.ON_DEMAND)} == {"m7i.large", "c7i.xlarge"}
    # A call may have been made again by botocore: what was asked for counts.
    asked = [call["params"]["Filters"] for call in embedded.calls("GetProducts")]
    types = {each["Value"] for filters in asked for each in filters if each["Field"] == "instanceType"}
    assert types == {"m7i.large", "c7i.xlarge"}
    assert all(any(each["Field"] == "instanceType" for each in filters) for filters in asked)


def test_describe_is_throttled(embedded: EmbeddedCloud, cloud: Ec2Cloud, clock: FakeClock) -> None:
    """While statuses can't be had, the last one stands."""
    machine = cloud.launch(make_spec(cloud))
    deadline = time.monotonic() + 10
    while cloud.status(machine.id).state is not MachineState.RUNNING and time.monotonic() < deadline:
        clock.sleep(2.1)
    embedded.faults.throttle("DescribeInstances", count=3)
    for _ in range(3):
        clock.advance(40)
        assert cloud.status(machine.id).state is MachineState.RUNNING
    cloud.terminate([machine.id])
    clock.advance(40)
    assert cloud.status(machine.id).state.is_gone


def test_machines_that_may_not_be_ended(
    embedded: EmbeddedCloud, cloud: Ec2Cloud, warnings: list[str]
) -> None:
    """`close` raises nothing, but names the machine that is left and the missing permission; once it is
    given, another `close` ends the machine."""
    machine = cloud.launch(make_spec(cloud))
    embedded.faults.deny("TerminateInstances")
    assert not cloud.close()
    said = " ".join(warnings)
    assert machine.id in said
    assert "ec2:TerminateInstances" in said
    embedded.faults.clear()
    assert cloud.close()
