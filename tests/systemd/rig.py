"""EC2-like machines that are none of ours: moto's API as it is, and for each instance a Debian with its
own systemd, cloud-init and OpenSSH, booted from an image by systemd-nspawn. Needs root.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import threading
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3

OLDEST = "bullseye"
SUITES = ("stable", "bookworm", OLDEST)
"""The newest Debian; the one whose cloud-init (22.4) gives host keys' public halves to root alone, as Amazon
Linux 2023's does; and one with Python 3.9, as that has, cloud-init 20.4, OpenSSH 8.4 and systemd 247, where
no Python is to be had that Snakemake could use."""
_IMAGES = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "snakemake-ec2")
_PACKAGES = (
    "systemd,systemd-sysv,libpam-systemd,dbus,dbus-user-session,openssh-server,cloud-init,python3,python3-venv,"
    "sudo,iproute2,ca-certificates,procps,netbase,cron"
)
_LOOK_EVERY_S = 0.5


def missing() -> str:
    """What keeps these machines from being had here; empty: nothing does."""
    if os.geteuid() != 0:
        return "needs root"
    tools = [tool for tool in ("systemd-nspawn", "debootstrap", "ip") if not shutil.which(tool)]
    return f"needs {', '.join(tools)}" if tools else ""


def make_image(suite: str) -> Path:
    """A Debian with what any cloud's image has, from the mirror that this computer uses; made once."""
    image = _IMAGES / f"debian-{suite}-{zlib.crc32(_PACKAGES.encode()):x}"
    if not image.exists():
        part = image.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        # It cannot choose between packages that provide the same: apt finishes its work.
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", suite, str(part)], check=False
        )
        subprocess.run(["chroot", str(part), "apt-get", "-f", "install", "-y"], check=True)
        part.rename(image)
    return image


class SystemdCloud:
    """moto's EC2 at an endpoint, and machines that follow what it says. Looks like an `EmbeddedCloud`."""

    unset: tuple[str, ...] = ("AWS_PROFILE", "SNAKEMAKE_EC2_SSH_PORT", "AWS_SESSION_TOKEN")

    def __init__(self, endpoint: str, image: Path, folder: Path) -> None:
        self.env: Mapping[str, str] = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        session = boto3.Session(
            self.env["AWS_ACCESS_KEY_ID"], self.env["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1"
        )
        self.ec2 = session.client("ec2", endpoint_url=endpoint)
        self._image = image
        self.suite = ""
        self._folder = folder
        self._machines: dict[str, subprocess.Popen[bytes]] = {}
        self.powered_off: list[str] = []
        """Those that ended by themselves."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> SystemdCloud:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for name in list(self._machines):
            self._end(name)

    def environment(self) -> dict[str, str]:
        """What a program finds it with."""
        kept = {name: value for name, value in os.environ.items() if name not in self.unset}
        return {**kept, **self.env}

    def instances(self, *states: str) -> list[str]:
        """Ids of the instances in these states."""
        return [each["InstanceId"] for each in self._described() if each["State"]["Name"] in states]

    def _described(self) -> list[Any]:
        reservations = self.ec2.describe_instances()["Reservations"]
        return [instance for each in reservations for instance in each["Instances"]]

    def _follow(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            for instance in self._described():
                name, state = instance["InstanceId"], instance["State"]["Name"]
                if state in ("pending", "running") and name not in self._machines:
                    self._boot(name, instance["PublicIpAddress"], instance["PrivateIpAddress"])
                elif state in ("shutting-down", "terminated") and name in self._machines:
                    self._end(name)
            for name, process in list(self._machines.items()):
                if process.poll() is not None:
                    del self._machines[name]
                    self.powered_off.append(name)
                    self.ec2.terminate_instances(InstanceIds=[name])

    def _boot(self, name: str, public: str, private: str) -> None:
        folder = self._folder / name
        folder.mkdir()
        told = self.ec2.describe_instance_attribute(InstanceId=name, Attribute="userData")
        (folder / "user-data").write_bytes(base64.b64decode(told["UserData"]["Value"]))
        (folder / "meta-data").write_text(f"instance-id: {name}\nlocal-hostname: {name}\n")
        script = Path(__file__).parent / "boot.sh"
        self._machines[name] = subprocess.Popen(
            [str(script), str(self._image), str(folder), public, private], start_new_session=True
        )

    def _end(self, name: str) -> None:
        process = self._machines.pop(name)
        children = subprocess.run(
            ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False
        )
        for pid in children.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)  # nspawn powers its machine off, and the script goes on
        process.wait()
