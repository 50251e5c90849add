"""What every `ImageStore` does: the fake that other tests trust, and EC2 through boto3."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from snakemake_executor_ec2.aws.baked import Ec2Images
from snakemake_executor_ec2.aws.clients import Clients
from snakemake_executor_ec2.errors import CloudError, ConfigurationError
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.ports import ImageStore
from snakemake_executor_ec2.tags import image_tags
from snakemake_executor_ec2.timing import SystemClock
from tests.contract.test_cloud import make_spec
from tests.fakes.clock import FakeClock
from tests.fakes.cloud import FakeCloud
from tests.fakes.images import FakeImages
from tests.unit.aws.moto_server import environment
from tests.unit.local.conftest import Rig

_names = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Setup:
    """An image store under test, and machines for it."""

    images: ImageStore
    launch: Callable[[], str]
    """A machine that runs."""
    end: Callable[[str], None]
    settle: Callable[[], None]
    """Let EC2 finish the images that it is making."""


def _fake() -> Setup:
    clock = FakeClock()
    cloud = FakeCloud(clock)
    return Setup(
        images=FakeImages(cloud, clock),
        launch=lambda: cloud.launch(make_spec(cloud)).id,
        end=cloud.end,
        settle=lambda: clock.advance(60),
    )


def _embedded(rig: Rig, embedded: EmbeddedCloud) -> Setup:
    images = Ec2Images(Clients(region=None, profile=None), SystemClock())

    def launch() -> str:
        machine = rig.launch()
        machine.wait_until("running")
        return machine.id

    def end(machine_id: str) -> None:
        rig.ec2.terminate_instances(InstanceIds=[machine_id])

    def settle() -> None:
        deadline = time.monotonic() + 20
        while any(each.state == "pending" for each in images.find()):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    return Setup(images=images, launch=launch, end=end, settle=settle)


@pytest.fixture(params=["fake", "embedded"], scope="module")
def setup(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    if request.param == "fake":
        yield _fake()
        return
    with ExitStack() as stack:
        embedded = stack.enter_context(EmbeddedCloud(cache_dir=tmp_path_factory.mktemp("cache")))
        stack.enter_context(environment(embedded.env))
        rig = Rig(embedded, tmp_path_factory.mktemp("rig"))
        yield _embedded(rig, embedded)
        rig.tidy()


def _tags(digest: str) -> dict[str, str]:
    return image_tags(
        name="an image", digest=digest, base="ami-1", base_name="al2023-ami", holds="Snakemake 9", owner="me"
    )


def _name() -> str:
    return f"snakemake-ec2 test {next(_names)}"


def test_an_image_is_made_found_and_deleted(setup: Setup) -> None:
    """It is found by what it holds from the start, is pending before it is available, and is gone at last."""
    images, name = setup.images, _name()
    machine = setup.launch()
    images.check(machine, name=name, tags=_tags("one"))
    assert images.find("one") == ()

    ami = images.make(machine, name=name, tags=_tags("one"))
    assert images.state(ami) == ("pending", "")
    assert [each.state for each in images.find("one")] == ["pending"]
    assert images.make(machine, name=name, tags=_tags("one")) == ami
    setup.settle()

    assert images.state(ami) == ("available", "")
    (found,) = images.find("one")
    assert (found.image.ami, found.image.name, found.state) == (ami, name, "available")
    assert (found.digest, found.holds, found.owner) == ("one", "Snakemake 9", "me")
    assert (found.base, found.base_name) == ("ami-1", "al2023-ami")
    assert found.gib >= found.image.root_gib >= 8
    assert len(found.snapshots) == 1
    assert images.find("another") == ()
    assert found in images.find()
    images.delete(ami)
    assert images.find() == ()
    assert images.state(ami) == ("unknown", "")
    setup.end(machine)


def test_what_there_is_not_cannot_be_used(setup: Setup) -> None:
    """A machine that has ended gives no image, and only images of this kind can be deleted."""
    machine = setup.launch()
    setup.end(machine)
    with pytest.raises(CloudError):
        setup.images.make(machine, name=_name(), tags=_tags("one"))
    with pytest.raises(ConfigurationError, match="no image of `snakemake-ec2 bake`"):
        setup.images.delete("ami-0123456789abcdef0")


def test_a_newer_image_comes_first(setup: Setup) -> None:
    """An image that is still being made may be deleted."""
    machine = setup.launch()
    older = setup.images.make(machine, name=_name(), tags=_tags("two"))
    setup.settle()
    time.sleep(1.0 if isinstance(setup.images, Ec2Images) else 0)  # EC2 tells whole seconds
    newer = setup.images.make(machine, name=_name(), tags=_tags("two"))

    assert [each.image.ami for each in setup.images.find("two")][:1] == [newer]
    for ami in (older, newer):
        setup.images.delete(ami)
    assert setup.images.find() == ()
    setup.end(machine)
