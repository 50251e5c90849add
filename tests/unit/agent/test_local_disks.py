"""Local NVMe disks: which are taken, what is made of them, and what is said if they cannot be used.

The file systems are real, on loop devices in a mount namespace; sysfs is made up, and so is mdadm. Not seen
here: EC2's own disks, arrays of them, and xfs if this computer has no mkfs.xfs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from snakemake_executor_ec2.agent.local_disks import Disks
from snakemake_executor_ec2.agent.state import AgentError

INSTANCE_STORE = "Amazon EC2 NVMe Instance Storage"
EBS = "Amazon Elastic Block Store"
_STEPS = """
import json, os, sys
from snakemake_executor_ec2.agent import cache, local_disks
from snakemake_executor_ec2.agent.state import AgentError
root, disk_mb = sys.argv[1], int(sys.argv[2])
disks = local_disks.Disks(
    place=f"{root}/place", temporary=f"{root}/nvme", image=f"{root}/opt/nvme",
    system=f"{root}/block", devices=f"{root}/dev",
)
for device in sys.argv[3:]:  # as an image does that has formatted them
    os.makedirs(disks.image)
    os.system(f"mkfs.ext4 -q {device} && mount {device} {disks.image}")
local_disks._HERE = disks
local_disks.behind.__defaults__ = local_disks.files.__defaults__ = (disks,)
work = f"{root}/home/ann/project"
os.makedirs(work)
try:
    for _ in range(2):  # an answer that was lost: it is asked again
        disks.mount(f"{root}/note")
        disks.hold(work, disk_mb)
except AgentError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
with open(f"{work}/a", "w") as file:
    file.write("kept")
before = os.stat(f"{work}/a").st_ino
cache._move(f"{work}/a", f"{disks.place}/b")
cache._move(f"{disks.place}/b", f"{work}/c")
print(json.dumps({
    "held": os.path.ismount(work),
    "in place": os.path.exists(f"{disks.place}/work/c"),
    "was moved": os.stat(f"{work}/c").st_ino == before,
    "temporary": [os.path.ismount(disks.temporary), oct(os.stat(disks.temporary).st_mode & 0o7777)],
    "cache": os.path.relpath(cache.folder(), root),
    "free": disks.free(),
}))
"""


@dataclass(frozen=True)
class System:
    """A made-up /sys/block and /dev."""

    root: Path

    def disks(self) -> Disks:
        places = {"image": "opt/nvme", "system": "block", "devices": "dev"}
        return Disks(**{name: str(self.root / place) for name, place in places.items()})

    def add(self, name: str, model: str = INSTANCE_STORE, *, holder: str = "", part: str = "") -> Path:
        folder = self.root / "block" / name
        (folder / "device").mkdir(parents=True)
        (folder / "device/model").write_text(f"{model:40}\n")
        (folder / "holders").mkdir()
        for each in filter(None, (holder and f"holders/{holder}", part)):
            (folder / each).mkdir()
        (self.root / "dev").mkdir(exist_ok=True)
        return self.root / "dev" / name


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def test_which_disks_are_taken(system: System) -> None:
    """EC2's local ones; not EBS volumes, and not what is part of an array or has partitions."""
    system.add("nvme0n1", EBS, part="nvme0n1p1")
    system.add("nvme2n1")
    system.add("nvme1n1")
    system.add("nvme3n1", holder="md0")
    system.add("nvme4n1", part="nvme4n1p1")
    (system.root / "block/loop0").mkdir()

    assert system.disks().free() == [str(system.root / f"dev/nvme{n}n1") for n in (1, 2)]


def test_no_disk_is_an_error(system: System) -> None:
    """The job must not run on a slow one in silence; and a computer without sysfs has none."""
    with pytest.raises(AgentError, match="there are none, or something else uses them"):
        system.disks().mount(str(system.root / "note"))
    assert not (system.root / "note").exists()


@pytest.fixture
def loops(system: System) -> Iterator[list[str]]:
    """Two block devices of 300 MiB, if there can be any."""
    if os.geteuid() != 0 or shutil.which("losetup") is None or shutil.which("unshare") is None:
        pytest.skip("only root has loop devices")
    found: list[str] = []
    for number in (1, 2):
        image = system.root / f"image{number}"
        with image.open("wb") as file:
            file.truncate(300 << 20)
        made = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip("no loop devices here")
        found.append(made.stdout.strip())
    yield found
    for device in found:
        subprocess.run(["losetup", "-d", device], check=True)


def use(system: System, disk_mb: int = 100, of_image: str = "") -> dict[str, object]:
    """Mount, hold and look, in a mount namespace of its own."""
    path = f"{system.root / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            sys.executable,
            "-c",
            _STEPS,
            str(system.root),
            str(disk_mb),
            *of_image.split(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


MOUNTED = {"in place": True, "was moved": True, "temporary": [True, "0o1777"], "free": []}


@pytest.mark.root
def test_one_disk(system: System, loops: list[str]) -> None:
    """The working directory is on it, temporary files are, and files that stay are moved, not copied."""
    system.add("nvme1n1").symlink_to(loops[0])
    assert use(system) == {**MOUNTED, "held": True, "cache": "place/cache"}


@pytest.mark.root
def test_a_volume_of_the_image(system: System, loops: list[str]) -> None:
    """AWS's images for GPUs have formatted the disks already: their volume is used as it is."""
    system.add("nvme1n1", holder="dm-0").symlink_to(loops[0])
    assert use(system, of_image=loops[0]) == {**MOUNTED, "held": True, "cache": "place/cache"}


@pytest.mark.root
def test_too_small_for_the_job(system: System, loops: list[str]) -> None:
    """Then only temporary files are there."""
    system.add("nvme1n1").symlink_to(loops[0])
    found = use(system, disk_mb=5000)
    assert (found["held"], found["in place"], found["temporary"]) == (False, False, [True, "0o1777"])
    assert not str(found["cache"]).startswith("place")


@pytest.mark.root
def test_several_disks_are_one(system: System, loops: list[str]) -> None:
    """mdadm is told to make one array of them, without a question."""
    for number, device in enumerate(loops):
        system.add(f"nvme{number}n1").symlink_to(device)
    (system.root / "bin").mkdir()
    mdadm = system.root / "bin/mdadm"
    mdadm.write_text(f'#!/bin/sh\necho "$@" >> {system.root}/told\nln -s {loops[0]} "$2"\n')
    mdadm.chmod(0o755)

    assert use(system)["held"] is True
    told = (system.root / "told").read_text()
    dev = system.root / "dev"
    asked = f"--create {dev}/md127 --quiet --run --level=0 --raid-devices=2 {dev}/nvme0n1 {dev}/nvme1n1\n"
    assert told == asked


@pytest.mark.root
def test_a_disk_that_is_not_empty_is_left_alone(system: System, loops: list[str]) -> None:
    """Unless we began to format it: then it is formatted anew."""
    disk = system.add("nvme1n1")
    disk.symlink_to(loops[0])
    subprocess.run(["mkfs.ext4", "-q", loops[0]], check=True)
    for _ in range(2):
        refused = use(system)
        assert refused == {"error": f"its local NVMe disks cannot be used: {disk} is not empty"}
        shutil.rmtree(system.root / "home")

    (system.root / "note").touch()
    assert use(system)["held"] is True
