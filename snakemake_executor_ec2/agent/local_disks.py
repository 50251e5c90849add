"""A machine's local NVMe disks: one file system for the job's files, if its rule asks for such disks.

They come empty and unformatted, except where AWS's Deep Learning images have made one volume of them. The
file system is mounted at `PLACE`; a folder of it is where temporary files go (`TEMPORARY`, to which TMPDIR
leads), and another one is mounted over the working directory, if there is room for what the job needs. A
reboot takes the mounts, and a stop what is on the disks: a job that it hits starts again on another machine.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import NamedTuple

from .state import TEMPORARY, AgentError

PLACE = "/mnt/snakemake-ec2"
_OF_IMAGE = "/opt/dlami/nvme"
"""Where Deep Learning images mount their volume, while they boot."""
_IMAGE_S = 30.0
"""How long that is waited for."""
_MODEL = "Amazon EC2 NVMe Instance Storage"
_ARRAY = "md127"
_SECONDS = 600
"""Less than the controller waits for an answer, and time to install what joins disks."""
# What is on a disk is somebody's, unless the note says that we have begun to make it ours.
_MOUNT = """
set -eu
note=$1 place=$2 array=$3
shift 3
if [ ! -e "$note" ]; then
    for disk; do
        found=0
        blkid -p "$disk" >/dev/null 2>&1 || found=$?
        [ "$found" = 2 ] || { echo "$disk is not empty" >&2; exit 1; }
    done
    : >"$note"
fi
device=${1:-$array}
if [ $# -gt 1 ]; then
    command -v mdadm || dnf -q -y install mdadm || apt-get -q -y install mdadm
    [ -b "$array" ] || mdadm --create "$array" --quiet --run --level=0 --raid-devices=$# "$@"
    device=$array
fi
if command -v mkfs.xfs >/dev/null; then
    mkfs.xfs -q -K -f "$device"
else
    mkfs.ext4 -q -F -m 0 -E nodiscard "$device"
fi
mkdir -p "$place"
mount -o noatime "$device" "$place"
"""
_TAKE = """
set -eu
place=$1 image=$2
mkdir -p "$place" "$image/snakemake-ec2"
mount --bind "$image/snakemake-ec2" "$place"
"""
_DIVIDE = """
set -eu
place=$1 temporary=$2 owner=$3
mkdir -p "$place/tmp" "$place/work" "$temporary"
chmod 1777 "$place/tmp"
chown "$owner" "$place/work"
mount --bind "$place/tmp" "$temporary"
"""
_HOLD = """
set -eu
place=$1 folder=$2 owner=$3
mkdir -p "$place/cache"
chmod 700 "$place/cache"
chown "$owner" "$place/cache"
mount --bind "$place/work" "$folder"
"""


class Disks(NamedTuple):
    """Where all of it is."""

    place: str = PLACE
    temporary: str = TEMPORARY
    image: str = _OF_IMAGE
    system: str = "/sys/block"
    devices: str = "/dev"

    def free(self) -> list[str]:
        """The local disks that nobody uses, by their devices."""
        found = []
        for name in sorted(os.listdir(self.system)) if os.path.isdir(self.system) else ():
            folder = os.path.join(self.system, name)
            in_use = os.path.isdir(f"{folder}/holders") and os.listdir(f"{folder}/holders")
            if _read(f"{folder}/device/model") == _MODEL and not in_use and not self._is_mounted(name):
                found.append(os.path.join(self.devices, name))
        return found

    def are_mounted(self) -> bool:
        """Whether this machine has the file system."""
        return os.path.ismount(self.place)

    def mount(self, note: str) -> None:
        """Have it. `note`: a file for us, that says that this was begun. Raises AgentError."""
        if not self.are_mounted():
            self._have_file_system(note)
        if not os.path.ismount(self.temporary):
            _as_root(_DIVIDE, self.place, self.temporary, _owner())

    def _have_file_system(self, note: str) -> None:
        if self._image_has_one():
            _as_root(_TAKE, self.place, self.image)
            return
        disks, array = self.free(), os.path.join(self.devices, _ARRAY)
        if not disks and not (os.path.exists(note) and os.path.exists(array)):
            raise AgentError(
                "its local NVMe disks cannot be used: there are none, or something else uses them (a setup "
                "script that formats or mounts them is no longer needed)"
            )
        _as_root(_MOUNT, note, self.place, array, *disks)

    def _image_has_one(self) -> bool:
        deadline = time.monotonic() + _IMAGE_S
        while os.path.isdir(os.path.dirname(self.image)) and not os.path.ismount(self.image):
            if time.monotonic() > deadline:
                break  # this one leaves the disks to us
            time.sleep(0.5)
        return os.path.ismount(self.image)

    def hold(self, folder: str, disk_mb: int) -> None:
        """Let what is put into an empty folder be on them, if there is room. Raises AgentError."""
        space = os.statvfs(self.place)
        if os.path.ismount(folder) or os.listdir(folder) or space.f_bavail * space.f_frsize < disk_mb * 10**6:
            return
        _as_root(_HOLD, self.place, folder, _owner())

    def _is_mounted(self, name: str) -> bool:
        """Whether a disk or a part of it is: then it has parts, or it is in the table of mounts."""
        device = os.path.join(self.devices, name)
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as table:
            sources = {os.path.realpath(line.split()[0]) for line in table if line.startswith("/")}
        parts = [each for each in os.listdir(os.path.join(self.system, name)) if each.startswith(f"{name}p")]
        return bool(parts) or os.path.realpath(device) in sources


_HERE = Disks()


def behind(path: str, disks: Disks = _HERE) -> str:
    """The path, by way of `PLACE`, of what is on the local disks: between two ways nothing can be renamed."""
    folder = path
    while disks.are_mounted() and folder != os.path.dirname(folder):
        if os.path.ismount(folder) and os.path.samestat(os.stat(folder), os.stat(f"{disks.place}/work")):
            return os.path.join(disks.place, "work", os.path.relpath(path, folder))
        folder = os.path.dirname(folder)
    return path


def files(otherwise: str, disks: Disks = _HERE) -> str:
    """Where a folder is on the same disks as the working directory, for what is kept between two jobs."""
    return disks.place if disks.are_mounted() and os.path.isdir(f"{disks.place}/cache") else otherwise


def _owner() -> str:
    return f"{os.getuid()}:{os.getgid()}"


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _as_root(script: str, *arguments: str) -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    try:
        done = subprocess.run(
            [*sudo, "sh", "-c", script, "sh", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise AgentError("its local NVMe disks cannot be used without sudo") from error
    except subprocess.TimeoutExpired as error:
        raise AgentError(f"its local NVMe disks were not ready after {_SECONDS} s") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise AgentError(f"its local NVMe disks cannot be used: {said[-1] if said else 'no reason is told'}")
