"""An image is made, or nothing is left: neither a machine nor a part of an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_ec2.controller import bake as module
from snakemake_executor_ec2.controller.bake import Order, bake, order
from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.errors import (
    CloudError,
    CredentialsExpired,
    PermissionDenied,
    PreparationError,
    ThrottledError,
)
from snakemake_executor_ec2.model import Arch, Image, JobOutcome, Software
from tests.fakes.cloud import DEFAULT_AMIS
from tests.fakes.images import FakeImages
from tests.unit.controller.stories import World

IMAGE = Image(
    ami=DEFAULT_AMIS[Arch.X86_64], name="al2023", arch=Arch.X86_64, root_device="/dev/xvda", root_gib=8
)
SETUP = Software(snakemake="9", setup="mount /dev/nvme1n1 /scratch")


def make_order(software: Software = Software(snakemake="9"), **more: Any) -> Order:  # noqa: B008 - it is frozen
    facts = {
        "base": "newest", "gpu": False, "disk_mb": 1000, "key": "run-1.1.1", "now": 1_800_000_000.0,
        "login_keys": ("ssh-ed25519 BBBB",),
    }  # fmt: skip
    return order(software, RunConfig(instance_types=("m7i.*",)), IMAGE, **{**facts, **more})


class Bakery(World):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.images = FakeImages(self.cloud, self.clock)
        self.order = make_order()

    def bake(self) -> JobOutcome:
        return bake(self.order, self.images, self.context, self.cancel_token)


@pytest.fixture
def bakery(tmp_path: Path) -> Bakery:
    return Bakery(tmp_path)


def test_an_image_is_made_and_its_machine_ends(bakery: Bakery) -> None:
    """It is cleaned after the installation, before the image; the journal knows the machine and its end."""
    outcome = bakery.bake()

    assert outcome.ok, outcome.message
    (image,) = bakery.images.find(bakery.order.digest)
    assert (image.state, image.base, image.base_name) == ("available", IMAGE.ami, "al2023")
    assert f"{image.image.ami} ({bakery.order.name}) is available" in outcome.message
    assert bakery.scene.steps == ["move in", "make host key", "rotate", "install", "before image"]
    assert bakery.cloud.alive == []
    (attempt,) = bakery.journal.attempts("run-1")
    assert (attempt.label, attempt.end_reason) == ("bake (x86_64)", "done")
    assert attempt.on.ended_at is not None


def test_the_machine_is_one_that_the_user_allows() -> None:
    """On demand, from the base itself; with a GPU only if a setup script may look for one."""
    needed = make_order().plan.requirements
    assert (needed.instance_types, needed.ami, needed.spot, needed.gpus) == (
        ("m7i.*",),
        IMAGE.ami,
        "never",
        0,
    )
    assert make_order(gpu=True).plan.requirements.gpus == 0
    assert make_order(SETUP, gpu=True).plan.requirements.gpus == 1
    assert make_order().name == f"snakemake-ec2 {make_order().digest[:12]} x86_64 20270115-080000"


def test_a_setup_script_is_warned_of(bakery: Bakery) -> None:
    """What it starts or mounts is in no image."""
    bakery.order = make_order(SETUP)
    assert bakery.bake().ok
    assert any("what it starts or mounts is not there" in each for each in bakery.said)


def _refuse(bakery: Bakery, method: str) -> None:
    bakery.images.fail(method, PermissionDenied("may not", action="ec2:CreateImage"))


def _raise(bakery: Bakery, step: str) -> None:
    def happening() -> None:
        raise PreparationError(f"{step} failed")

    bakery.scene.happens[step] = happening


def _fail(bakery: Bakery) -> None:
    bakery.images.fails = "EC2 had an internal error"


def _never(bakery: Bakery) -> None:
    bakery.images.pending_s = module.IMAGE_S * 2


@pytest.mark.parametrize(
    ("go_wrong", "words", "steps"),
    [
        (lambda each: _refuse(each, "check"), "may not", 3),
        (lambda each: _raise(each, "install"), "install failed", 4),
        (lambda each: _raise(each, "before image"), "before image failed", 5),
        (lambda each: _refuse(each, "make"), "may not", 5),
        (_fail, "it is failed (EC2 had an internal error)", 5),
        (_never, "has not finished the image", 5),
    ],
)
def test_what_goes_wrong_leaves_nothing(
    bakery: Bakery, go_wrong: Callable[[Bakery], None], words: str, steps: int
) -> None:
    """A missing permission is found out before anything is installed. An image that failed is deleted."""
    go_wrong(bakery)

    outcome = bakery.bake()

    assert not outcome.ok
    assert words in outcome.message
    assert len(bakery.scene.steps) == steps
    assert bakery.cloud.alive == []
    assert bakery.images.made == {}
    assert bakery.endings == ["failed"]


@pytest.mark.parametrize("step", ["install", "before image", "image"])
def test_a_cancelled_bake_leaves_nothing(bakery: Bakery, step: str) -> None:
    """Whenever the user ends it, also while EC2 makes the image."""
    if step == "image":
        bakery.clock.on_sleep = lambda _: bakery.cancel_token.cancel() if bakery.images.made else None
    else:
        bakery.scene.happens[step] = bakery.cancel_token.cancel

    outcome = bakery.bake()

    assert outcome.cancelled
    assert bakery.cloud.alive == []
    assert bakery.images.made == {}
    assert bakery.endings == ["cancelled"]


def test_an_unfinished_image_that_stays_is_told(bakery: Bakery) -> None:
    """It costs money; and its machine ends all the same."""
    _fail(bakery)
    bakery.images.fail("delete", CloudError("EC2 refuses"))

    outcome = bakery.bake()

    assert not outcome.ok
    assert any("could not be deleted (EC2 refuses)" in each for each in bakery.said)
    assert bakery.cloud.alive == []


def test_an_older_image_for_the_same_software_is_named(bakery: Bakery) -> None:
    """It is not used any more, and costs money."""
    assert "Older ones" not in bakery.bake().message
    (older,) = bakery.images.find()
    bakery.order = make_order(now=1_800_000_100.0, key="run-1.2.1")

    outcome = bakery.bake()

    assert outcome.ok, outcome.message
    assert outcome.message.endswith(
        f"cost at most $0.6500 a month: `snakemake-ec2 bake --delete {older.image.ami}`"
    )


def test_ec2_may_be_silent_while_it_makes_an_image(bakery: Bakery) -> None:
    """A network that is down, or credentials that expire, cost no image."""
    bakery.images.fail("state", ThrottledError("AWS did not answer"))
    bakery.images.fail("state", CredentialsExpired("log in again"))
    assert bakery.bake().ok


def test_an_image_that_somebody_deletes_is_not_waited_for(bakery: Bakery) -> None:
    """Once EC2 has shown it, it is gone if EC2 does not."""
    bakery.clock.on_sleep = lambda _: bakery.images.made.clear()
    began = bakery.clock.monotonic()

    outcome = bakery.bake()

    assert "was deleted before it was finished" in outcome.message
    assert bakery.clock.monotonic() - began < module.KNOWN_AFTER_S
    assert not any("could not be deleted" in each for each in bakery.said)
    assert bakery.cloud.alive == []
