"""Which image a run starts from: by what is installed, and on what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snakemake_executor_ec2.errors import ConfigurationError, PermissionDenied
from snakemake_executor_ec2.machines.baked import BakedChoice, base_name, newest, software_digest
from snakemake_executor_ec2.model import Arch, Image, Software
from snakemake_executor_ec2.ports import BakedImage
from snakemake_executor_ec2.sizing import disk
from tests.fakes.cloud import DEFAULT_AMIS
from tests.unit.machines import launchers
from tests.unit.machines.launchers import needs

NOW = 1_800_000_000.0
SOFTWARE = Software(snakemake="9.1", packages=("pandas==2.2",), requirements="numpy\n", setup="true\n")
BASE = Image(ami="ami-base", name="al2023", arch=Arch.X86_64, root_device="/dev/xvda", root_gib=8)


def digest(software: Software = SOFTWARE, **more: Any) -> str:
    facts = {"base": "newest", "arch": Arch.X86_64, "ssh_user": "ec2-user", **more}
    return software_digest(software, **facts)


def baked(ami: str = "ami-own", **more: Any) -> BakedImage:
    facts = {
        "image": replace(BASE, ami=ami, root_gib=12), "digest": "d", "state": "available", "base": "ami-base",
        "base_name": "al2023-ami",
        "holds": "Snakemake 9.1", "owner": "me", "made_at": NOW - 3 * 86_400, "gib": 12,
        "snapshots": ("snap-1",),
    }  # fmt: skip
    return BakedImage(**{**facts, **more})


def choice(*images: BakedImage, **more: Any) -> tuple[BakedChoice, list[str], list[str]]:
    """What chooses among images, whatever digest they have; what it asked for, and what it said."""
    asked: list[str] = []
    said: list[str] = []

    def find(wanted: str) -> list[BakedImage]:
        asked.append(wanted)
        return [replace(each, digest=wanted) for each in images]

    facts = {
        "find": find,
        "software": SOFTWARE,
        "ssh_user": "ec2-user",
        "now": lambda: NOW,
        "tell": said.append,
    }
    return BakedChoice(**{**facts, **more}), asked, said


@pytest.mark.parametrize(
    "other",
    [
        digest(replace(SOFTWARE, snakemake="9.2")),
        digest(replace(SOFTWARE, packages=())),
        digest(replace(SOFTWARE, requirements="numpy==2\n")),
        digest(replace(SOFTWARE, setup="false\n")),
        digest(base="ami-1"),
        digest(arch=Arch.ARM64),
        digest(ssh_user="ubuntu"),
    ],
)
def test_what_is_installed_and_where_makes_another_digest(other: str) -> None:
    """Each part counts."""
    assert other != digest()


def test_what_comes_on_top_makes_no_other_digest() -> None:
    """Tools are installed where they are missing, and what comes late is there already."""
    assert digest(replace(SOFTWARE, tools=("conda",), late=("python",))) == digest()
    assert len(digest()) == 32


def test_a_base_is_its_kind_unless_it_was_named() -> None:
    """Amazon's newest changes every few weeks; what the user names is meant exactly."""
    newer = replace(BASE, ami="ami-newer")
    assert base_name(BASE, named=False, gpu=False) == base_name(newer, named=False, gpu=False)
    assert base_name(BASE, named=False, gpu=True) != base_name(BASE, named=False, gpu=False)
    assert base_name(BASE, named=True, gpu=False) == "ami-base"


def test_the_newest_that_can_be_used() -> None:
    """Not one of another digest or architecture, and none that is not finished."""
    arm = replace(BASE, arch=Arch.ARM64)
    images = [
        baked("ami-old", made_at=1.0),
        baked("ami-new", made_at=2.0),
        baked("ami-pending", made_at=3.0, state="pending"),
        baked("ami-other", made_at=3.0, digest="e"),
        baked("ami-arm", made_at=3.0, image=arm),
    ]
    found = newest(images, "d", Arch.X86_64)
    assert found is not None
    assert found.image.ami == "ami-new"
    assert newest(images[2:], "d", Arch.X86_64) is None


def test_a_run_starts_from_the_image_and_says_so_once() -> None:
    """EC2 is asked once for each base; the image needs no more room for software."""
    chooses, asked, said = choice(baked())
    image = [chooses.in_place_of(BASE, named=False, gpu=False) for _ in range(3)][-1]

    assert (image.ami, image.has_software) == ("ami-own", True)
    assert len(asked) == 1
    assert said == [
        "machines start from your image ami-own, 3 days old, which has the run's software: none is installed"
    ]
    assert disk.disk_gib(needs(), image) == disk.disk_gib(needs(), BASE)
    chooses.in_place_of(BASE, named=True, gpu=False)
    assert len(set(asked)) == 2


def test_an_outdated_base_is_told() -> None:
    """The image is used all the same; one that was made from a base that the user names is never outdated."""
    newer = replace(BASE, ami="ami-newer")
    chooses, _, said = choice(baked())
    assert chooses.in_place_of(newer, named=False, gpu=False).ami == "ami-own"
    assert "Its base ami-base is not the newest any more" in said[0]
    chooses.in_place_of(newer, named=True, gpu=False)
    assert "not the newest" not in said[1]


def test_without_an_image_machines_start_from_the_base() -> None:
    """And nothing is said."""
    chooses, _, said = choice()
    assert chooses.in_place_of(BASE, named=False, gpu=False) is BASE
    assert said == []


def test_without_the_permission_to_look_a_run_goes_on() -> None:
    """With one line about it."""

    def find(_: str) -> list[BakedImage]:
        raise PermissionDenied("may not", action="ec2:DescribeImages")

    chooses, _, said = choice(find=find)
    assert [chooses.in_place_of(BASE, named=False, gpu=False) for _ in range(2)] == [BASE, BASE]
    assert said == ["images of your own were not looked for (may not); software is installed on each machine"]


def test_an_image_that_is_deleted_during_a_run_fails_no_job() -> None:
    """The machine is launched from the base at once, in the same way, and so are those after it."""
    world = launchers.World()
    chooses, _, said = choice(baked(image=replace(BASE, ami="ami-own")))
    world.feasibility = replace(world.feasibility, baked=chooses)
    object.__setattr__(world.launcher, "feasibility", world.feasibility)
    gone = ConfigurationError("there is no such machine image")
    world.cloud.refuse = lambda spec: gone if spec.image.ami == "ami-own" else None  # type: ignore[assignment, return-value]

    world.launch("1")
    world.launch("2")

    assert [each.image.ami for each in world.cloud.launches] == ["ami-own", *[DEFAULT_AMIS[Arch.X86_64]] * 2]
    assert len({each.zone for each in world.cloud.launches}) == 1
    assert said[1:] == [
        "machines cannot start from your image ami-own any more (there is no such machine image): from now "
        "on software is installed on each"
    ]


def test_other_refusals_of_a_launch_stand() -> None:
    """A wrong key pair or profile is nothing that another image would change."""
    world = launchers.World()
    gone = ConfigurationError("no such key pair")
    world.cloud.refuse = lambda _: gone  # type: ignore[assignment, return-value]
    with pytest.raises(ConfigurationError, match="no such key pair"):
        world.launch()
    assert len(world.cloud.launches) == 1
