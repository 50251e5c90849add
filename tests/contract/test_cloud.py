"""What every `Cloud` does: the fake that other tests trust, and EC2 through boto3.

The backends are named in `BACKENDS`; adding one is a function that makes a `Setup`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import pytest

from snakemake_executor_ec2 import tags
from snakemake_executor_ec2.aws.cloud import Ec2Cloud
from snakemake_executor_ec2.errors import ConfigurationError, LaunchError
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.machines import user_data
from snakemake_executor_ec2.model import (
    Arch,
    KeyPair,
    LaunchSpec,
    MachineState,
    Market,
    Offer,
    Price,
)
from snakemake_executor_ec2.ports import Clock, Cloud
from tests.fakes.clock import FakeClock
from tests.fakes.cloud import FakeCloud
from tests.unit.aws.moto_server import environment, moto_server

RUN = "run-1"


@dataclass(frozen=True)
class Setup:
    """A cloud under test."""

    cloud: Cloud
    clock: Clock
    settle: Callable[[], None]
    """Let EC2 do what it does on its own: machines start, machines end."""
    idempotent: bool
    """The API honours ClientToken; moto's own does not."""


@contextmanager
def _fake() -> Iterator[Setup]:
    clock = FakeClock()
    yield Setup(
        cloud=FakeCloud(clock, run_id=RUN), clock=clock, settle=lambda: clock.advance(30), idempotent=True
    )


@contextmanager
def _moto() -> Iterator[Setup]:
    with moto_server():
        clock = FakeClock()
        cloud = Ec2Cloud(run_id=RUN, clock=clock, warn=lambda _: None, region="us-east-1")
        yield Setup(cloud=cloud, clock=clock, settle=lambda: clock.advance(30), idempotent=False)


@contextmanager
def _embedded() -> Iterator[Setup]:
    """The cloud that users rehearse on: its machines take real time, if little."""
    with EmbeddedCloud(pending_s=0.1) as embedded, environment(embedded.env):
        clock = FakeClock()
        clock.on_sleep = lambda seconds: time.sleep(min(seconds, 0.05))
        cloud = Ec2Cloud(run_id=RUN, clock=clock, warn=pytest.fail, ssh_port=embedded.ssh_port)

        def settle() -> None:
            deadline = time.monotonic() + 20
            while {"pending", "shutting-down"} & set(embedded.machine_states().values()):
                assert time.monotonic() < deadline, embedded.machine_states()
                time.sleep(0.05)
            clock.advance(30)

        yield Setup(cloud=cloud, clock=clock, settle=settle, idempotent=True)


BACKENDS: dict[str, Callable[[], AbstractContextManager[Setup]]] = {
    "fake": _fake,
    "moto": _moto,
    "embedded": _embedded,
}


@pytest.fixture(params=BACKENDS, scope="module")
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    with BACKENDS[request.param]() as made:
        yield made
        made.cloud.close()


@pytest.fixture
def cloud(setup: Setup) -> Iterator[Cloud]:
    yield setup.cloud
    setup.cloud.close()


_numbers = itertools.count()


def make_spec(cloud: Cloud, *, type_name: str = "m7i.large", zone: str | None = None) -> LaunchSpec:
    """A complete spec with a token of its own."""
    instance_type = next(each for each in cloud.instance_types() if each.name == type_name)
    zones = cloud.zones(type_name)
    return LaunchSpec(
        token=tags.client_token(RUN, str(next(_numbers))),
        offer=Offer(instance_type=instance_type, market=Market.ON_DEMAND, zones=zones, price=None),
        zone=zone or zones[0],
        image=cloud.image(None, Arch.X86_64),
        disk_gib=20,
        user_data=user_data.cloud_config(
            host_key=KeyPair(private="made-up", public="ssh-ed25519 AAAA"),
            authorized_keys=["ssh-ed25519 BBBB"],
            lifetime_s=600,
            claim_s=600,
            ssh_user="ec2-user",
        ),
        tags=tags.tags(run_id=RUN, rule="align", owner="me", expires_at=0.0),
    )


def test_check_passes(cloud: Cloud) -> None:
    """Valid credentials and a known region raise nothing."""
    cloud.check()


def test_region(cloud: Cloud) -> None:
    """The region is the one that was set."""
    assert cloud.region == "us-east-1"


def test_catalogue(cloud: Cloud) -> None:
    """The catalogue has a well-known type with its nominal size."""
    found = {each.name: each for each in cloud.instance_types()}["m7i.large"]
    assert (found.vcpus, found.mem_mib, found.arches) == (2, 8192, frozenset({Arch.X86_64}))
    assert Market.ON_DEMAND in found.markets
    assert found.gpus == 0
    assert not any((found.burstable, found.bare_metal, found.accelerators))


def test_zones(cloud: Cloud) -> None:
    """A type's zones come in the same order every time; an unknown type has none."""
    assert len(cloud.zones("m7i.large")) >= 2
    assert cloud.zones("m7i.large") == cloud.zones("m7i.large")
    assert cloud.zones("m7i.larg") == ()


@pytest.mark.parametrize("market", Market)
def test_prices(cloud: Cloud, market: Market) -> None:
    """Prices are positive, have a source, and name a zone for spot only."""
    for (name, zone), price in cloud.prices(market).items():
        assert name
        assert bool(zone) is (market is Market.SPOT)
        assert price.usd_per_hour > 0
        assert price.source


def test_quota(cloud: Cloud) -> None:
    """A limit is a number of vCPUs, or not known; one that there is not is not known."""
    limit = cloud.quota("L-1216C47A")
    assert limit is None or limit > 0
    assert cloud.quota("L-00000000") is None


@pytest.mark.parametrize("arch", Arch)
def test_default_image(cloud: Cloud, arch: Arch) -> None:
    """Without an AMI, there is an image for each architecture."""
    image = cloud.image(None, arch)
    assert image.arch is arch
    assert image.ami.startswith("ami-")
    assert image.root_device.startswith("/dev/")
    assert image.root_gib > 0


def test_named_image(cloud: Cloud) -> None:
    """An AMI that exists is found by its id."""
    image = cloud.image(None, Arch.X86_64)
    assert cloud.image(image.ami, Arch.X86_64) == image


def test_unknown_image(cloud: Cloud) -> None:
    """An AMI that does not exist is refused by name before anything is launched."""
    with pytest.raises(ConfigurationError, match="ami-00000000000000000"):
        cloud.image("ami-00000000000000000", Arch.X86_64)


def test_image_of_another_architecture(cloud: Cloud) -> None:
    """An AMI for another architecture is refused, and both are named."""
    image = cloud.image(None, Arch.X86_64)
    with pytest.raises(ConfigurationError, match=r"x86_64.*arm64"):
        cloud.image(image.ami, Arch.ARM64)


def test_launch_and_terminate(setup: Setup, cloud: Cloud) -> None:
    """A machine is what was asked for, gets an address, and is gone after `terminate`."""
    spec = make_spec(cloud)
    price, on_demand = (Price(usd_per_hour=usd, source="here") for usd in (0.1, 0.2))
    spec = replace(spec, offer=replace(spec.offer, price=price, on_demand=on_demand))
    machine = cloud.launch(spec)
    assert (machine.instance_type, machine.zone, machine.disk_gib) == ("m7i.large", spec.zone, 20)
    assert machine.market is Market.ON_DEMAND
    assert (machine.price, machine.on_demand) == (price, on_demand)
    assert machine.launched_at == pytest.approx(setup.clock.now(), abs=5)
    setup.settle()
    status = cloud.status(machine.id)
    assert status.state is MachineState.RUNNING
    assert status.address

    cloud.terminate([machine.id])
    setup.settle()
    assert cloud.status(machine.id).state.is_gone


def test_a_disk_that_is_fast(setup: Setup, cloud: Cloud) -> None:
    """A machine has the disk of its spec, and others of the same shape are launched for themselves."""
    fast = replace(make_spec(cloud), disk_mbps=500, disk_iops=4000)
    machine, usual = cloud.launch(fast), cloud.launch(make_spec(cloud))
    assert (machine.disk_mbps, machine.disk_iops) == (500, 4000)
    assert (usual.disk_mbps, usual.disk_iops) == (125, 3000)
    setup.settle()
    cloud.terminate([machine.id, usual.id])


def test_launch_in_another_zone(cloud: Cloud) -> None:
    """The zone of a spec decides where its machine is."""
    zone = cloud.zones("m7i.large")[1]
    assert cloud.launch(make_spec(cloud, zone=zone)).zone == zone


def test_same_spec_same_machine(setup: Setup, cloud: Cloud) -> None:
    """A spec that is launched twice makes one machine."""
    if not setup.idempotent:
        pytest.skip("moto ignores ClientToken")
    spec = make_spec(cloud)
    assert cloud.launch(spec).id == cloud.launch(spec).id


def test_other_token_other_machine(cloud: Cloud) -> None:
    """Specs that differ in nothing but their token make two machines."""
    spec = make_spec(cloud)
    other = replace(spec, token=tags.client_token("another"))
    assert cloud.launch(spec).id != cloud.launch(other).id


def test_launches_from_threads(cloud: Cloud) -> None:
    """Many threads launch at once, and each gets a machine of its own."""
    specs = [make_spec(cloud) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        machines = list(pool.map(cloud.launch, specs))
    assert len({each.id for each in machines}) == 8


def test_launch_needs_the_runs_tag(cloud: Cloud) -> None:
    """A machine that no sweep would find is never started."""
    spec = make_spec(cloud)
    with pytest.raises(ValueError, match="tag"):
        cloud.launch(replace(spec, tags={}))


def test_unknown_type_is_refused(cloud: Cloud) -> None:
    """A type that EC2 does not have is a LaunchError that names it."""
    spec = make_spec(cloud)
    unknown = replace(spec.offer, instance_type=replace(spec.offer.instance_type, name="m7i.larg"))
    with pytest.raises(LaunchError, match=r"m7i\.larg"):
        cloud.launch(replace(spec, offer=unknown))


def test_zone_without_subnet(cloud: Cloud) -> None:
    """A zone in which we have no subnet is a LaunchError."""
    with pytest.raises(LaunchError, match="us-east-1x"):
        cloud.launch(replace(make_spec(cloud), zone="us-east-1x"))


def test_status_of_an_unknown_machine(cloud: Cloud) -> None:
    """A machine that EC2 does not show is unknown, which is not gone."""
    status = cloud.status("i-00000000000000000")
    assert status.state is MachineState.UNKNOWN
    assert not status.state.is_gone


def test_a_machine_that_is_well(setup: Setup, cloud: Cloud) -> None:
    """EC2's own checks fail for no machine that runs, or that has ended."""
    machine = cloud.launch(make_spec(cloud))
    setup.settle()
    assert not cloud.is_impaired(machine.id)
    cloud.terminate([machine.id])
    setup.settle()
    assert not cloud.is_impaired(machine.id)


def test_terminate_is_idempotent(setup: Setup, cloud: Cloud) -> None:
    """Ending a machine twice, or none at all, is fine."""
    machine = cloud.launch(make_spec(cloud))
    cloud.terminate([machine.id])
    cloud.terminate([machine.id])
    cloud.terminate([])
    setup.settle()
    assert cloud.status(machine.id).state.is_gone


def test_terminate_with_an_unknown_machine(setup: Setup, cloud: Cloud) -> None:
    """A machine that never was does not keep the others alive."""
    machines = [cloud.launch(make_spec(cloud)) for _ in range(2)]
    cloud.terminate([machines[0].id, "i-00000000000000000", machines[1].id])
    setup.settle()
    assert all(cloud.status(each.id).state.is_gone for each in machines)


def test_allow_ssh_from_here(setup: Setup, cloud: Cloud) -> None:
    """Opening the way for this computer again raises nothing, before and after a user_data."""
    cloud.allow_ssh_from_here("127.0.0.1")
    cloud.launch(make_spec(cloud))
    cloud.allow_ssh_from_here("127.0.0.1")
    cloud.allow_ssh_from_here("127.0.0.1")


def test_machines_that_reach_each_other(setup: Setup, cloud: Cloud) -> None:
    """They may be let to as often as one likes; a private address is that of a machine that runs, and was not
    told to end."""
    machine = cloud.launch(make_spec(cloud))
    cloud.allow_ssh_between_machines()
    cloud.allow_ssh_between_machines()
    setup.settle()
    assert cloud.private_address(machine.id)
    assert cloud.private_address("i-00000000000000000") is None
    cloud.terminate([machine.id])
    assert cloud.private_address(machine.id) is None


def test_console_output(cloud: Cloud) -> None:
    """A machine's boot messages are text."""
    machine = cloud.launch(make_spec(cloud))
    assert isinstance(cloud.console_output(machine.id), str)


def test_close_ends_what_is_left(setup: Setup, cloud: Cloud) -> None:
    """`close` ends every machine of the run, and may be called twice."""
    machines = [cloud.launch(make_spec(cloud)) for _ in range(3)]
    cloud.terminate([machines[0].id])
    assert cloud.close()
    assert cloud.close()
    setup.settle()
    assert all(cloud.status(each.id).state.is_gone for each in machines)
