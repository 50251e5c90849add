"""One instance of the cloud: its host, its sshd, and the course of its life.

Everything here belongs to the cloud's event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from .cache import share_built_wheels
from .cloudinit import CloudInit
from .disk import Disk
from .faultbook import FaultBook
from .host import Host, HostError
from .image import Image, wrong_clock
from .imds import MetadataService, metadata
from .removal import remove_tree
from .sshd import Sshd

_SHUTTING_DOWN_S = 0.2
_NO_SUDO = b"#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What an instance is made of, as the API was asked for it."""

    instance_id: str
    instance_type: str
    zone: str
    address: str
    image_id: str
    user_data: bytes
    login_keys: list[str]
    market: str
    """`on-demand` or `spot`."""
    shutdown_behavior: str
    """`stop` or `terminate`: what a power-off from inside does."""
    set_state: Callable[[str, str], None]
    """(state, reason code), with EC2's names for both: how the API learns of every change. May block."""
    admits: Callable[[str, int], bool]
    """Whether a security group opens a port to an address."""
    role: Callable[[], dict[str, dict[str, str]]] | None = None
    """What its metadata service has of its instance profile: `info`, and the credentials by the role's name;
    None: it was launched without one."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How the cloud's hosts are made, beyond single faults."""

    state_dir: Path
    image: Image
    isolated: bool
    ssh_port: int
    cache: Path
    """What hosts share, and what outlives the cloud."""
    homes_dir: Path | None = None
    """Where hosts' homes are instead of on their disks, which are in `state_dir`."""
    pending_s: float = 0.15
    """How long an instance is `pending` at least."""
    boot_s: float = 0.0
    """How long it is running before one can log in, at least."""
    disk_bytes: int | None = None
    """The size of every host's disk; without one, what this computer has free."""
    services: dict[str, str] = field(default_factory=dict)
    """Variables by which the hosts that have a role find AWS's services, which on EC2 the network leads to.
    Filled when the cloud serves."""


@dataclass(kw_only=True)
class _Troubles:
    """The faults that this instance was launched with."""

    boot_delay_s: float | None = 0.0
    impostor_connections: float = 0
    disk_bytes: int | None = None
    memory_bytes: int | None = None
    clock_ahead_s: float = 0.0
    no_sudo: bool = False
    impostor_key: asyncssh.SSHKey | None = field(default=None, repr=False)


class Instance:
    """An instance from launch until it is terminated. Is the `Door` of its sshd."""

    def __init__(
        self, launch: Launch, conditions: Conditions, faults: FaultBook, image_disk: Disk | None = None
    ) -> None:
        """`image_disk` is what its disk begins with: none for Amazon's images."""
        self.launch = launch
        self.state = "pending"
        self.spot_notice: dict[str, str] | None = None
        self._conditions = conditions
        self._troubles = _troubles_of(launch, faults)
        self._directory = conditions.state_dir / "hosts" / launch.instance_id
        homes = conditions.homes_dir
        # A disk of a certain size has to have everything on it.
        limited = self._troubles.disk_bytes or conditions.disk_bytes
        self._home = homes / launch.instance_id if homes and not limited else None
        self._disk = Disk(directory=self._directory, home=self._home if conditions.isolated else None)
        self._disk_in_memory = conditions.isolated and limited is not None
        self._image_disk = image_disk
        self._disk_in_use = asyncio.Lock()
        self._connections: Counter[str] = Counter(attempted=0, admitted=0, authenticated=0)
        self._received_bytes = 0
        self._console = ""
        self._host: Host | None = None
        self._cloud_init: CloudInit | None = None
        self._hostname = f"ip-{launch.address.replace('.', '-')}.ec2.internal"
        self._metadata = MetadataService(launch.address, self._look_up_metadata)
        self._sshd = Sshd(launch.address, conditions.ssh_port, self)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._crashed = False
        self._booted = False
        self._refusals = 0
        self._life: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def boot(self) -> None:
        """Start the host, then cloud-init and sshd on it, in the background."""
        self._life = asyncio.get_running_loop().create_task(self._boot())

    async def end(self, reason: str, *, stop: bool = False) -> None:
        """Terminate or stop it; returns when nothing of it runs any more."""
        if self.state in ("terminated", "shutting-down") or (stop and self.state in ("stopping", "stopped")):
            return
        await self._set("stopping" if stop else "shutting-down", reason)
        await self.kill()
        await asyncio.sleep(_SHUTTING_DOWN_S)
        await self._set("stopped" if stop else "terminated", reason)
        if not stop:
            async with self._disk_in_use:
                for directory in (self._directory, self._home):
                    if directory is not None:
                        await asyncio.get_running_loop().run_in_executor(None, remove_tree, directory)

    async def start(self) -> None:
        """Boot what was stopped."""
        await self._set("pending", "")
        self.boot()

    async def reboot(self) -> None:
        """End every process, and boot from the same disk."""
        await self.kill()
        self.boot()

    async def copy_disk(self, target: Disk, *, reboot: bool) -> None:
        """Copy its disk for an image: as EC2 does it, with a reboot after which the host is another process.
        Raises OSError."""
        if self._disk_in_memory:
            raise OSError("a host whose disk has a size has it in memory: no image can be made of it here")
        async with self._disk_in_use:
            if reboot and self.state == "running":
                await self.kill()
            await asyncio.get_running_loop().run_in_executor(None, self._disk.copy_to, target)
        if reboot and self.state == "running":
            self.boot()

    async def kill(self) -> None:
        """End the host and everything that talks to it, whatever the API is told."""
        if self._life is not None:
            self._life.cancel()
        self._sshd.close()
        self._sshd.cut()
        self._metadata.close()
        self._crashed = self._booted = False
        self._flowing.set()
        if self._host is not None:
            self._host.on_gone = lambda: None
            self._host.kill()
            await self._host.gone()
            self._keep_console()
            self._host = None

    def crash(self) -> None:
        """The host dies; nobody is told, and no packet is answered any more."""
        self._crashed = True
        self._flowing.clear()
        self._sshd.freeze()
        if self._host is not None:
            self._host.on_gone = lambda: None
            self._host.kill()

    def cut(self) -> None:
        """End every ssh connection; the host runs on."""
        self._sshd.cut()

    async def stall(self, seconds: float) -> None:
        """Half-open: for a while connections stay, new ones open, and no byte passes."""
        self._flowing.clear()
        self._sshd.freeze()
        await asyncio.sleep(seconds)
        if not self._crashed:
            self._flowing.set()
            self._sshd.thaw()

    async def refuse(self, seconds: float) -> None:
        """For a while nobody listens on the ssh port; connections that stand are left alone."""
        self._refusals += 1
        self._sshd.close()
        await asyncio.sleep(seconds)
        self._refusals -= 1
        self._listen()

    def meet_impostor(self, connections: float) -> None:
        """Show the next connections another host key than the machine's."""
        self._troubles.impostor_connections = connections

    @property
    def has_crashed(self) -> bool:
        """Its host is dead, and EC2 says `running`."""
        return self._crashed

    def console_output(self) -> str:
        return self._console + (self._cloud_init.log if self._cloud_init else "")

    def facts(self) -> dict[str, Any]:
        """What a test may want to know."""
        process = self._host.process if self._host is not None else None
        return {
            "id": self.launch.instance_id,
            "type": self.launch.instance_type,
            "zone": self.launch.zone,
            "market": self.launch.market,
            "address": self.launch.address,
            "state": self.state,
            "pid": process.pid if process is not None and process.poll() is None else None,
            "crashed": self._crashed,
            "connections": dict(self._connections),
            "received_bytes": self._received_bytes,
            "open_connections": len(self._sshd.connections),
        }

    # What sshd asks of its door.

    @property
    def host(self) -> Host:
        if self._host is None:
            raise HostError(f"{self.launch.instance_id} has no host")
        return self._host

    def admits(self, address: str) -> bool:
        return self.launch.admits(address, self._conditions.ssh_port)

    def counts(self, what: str) -> None:
        self._connections[what] += 1

    def receives(self, size: int) -> None:
        self._received_bytes += size

    async def flowing(self) -> None:
        await self._flowing.wait()

    def takes_impostor_key(self) -> asyncssh.SSHKey | None:
        if self._troubles.impostor_connections <= 0:
            return None
        self._troubles.impostor_connections -= 1
        if self._troubles.impostor_key is None:
            self._troubles.impostor_key = asyncssh.generate_private_key("ssh-ed25519")
        return self._troubles.impostor_key

    # The course of a boot.

    async def _boot(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, share_built_wheels, self._conditions.cache)
            if self._image_disk is not None and not self._disk.exists:
                await loop.run_in_executor(None, self._image_disk.copy_to, self._disk)
            host = await self._new_host()
            self._host = host
            await asyncio.gather(host.start(), asyncio.sleep(self._conditions.pending_s))
            if self._troubles.no_sudo:
                await host.write("/usr/local/bin/sudo", _NO_SUDO, mode=0o755)
            await self._set("running", "")
            cloud_init = CloudInit(
                host,
                self.launch.user_data,
                login_keys=self.launch.login_keys,
                instance_id=self.launch.instance_id,
            )
            self._cloud_init = cloud_init
            await cloud_init.before_sshd()
            if self._troubles.boot_delay_s is None:
                return
            await asyncio.sleep(max(self._conditions.boot_s, self._troubles.boot_delay_s))
            self._booted = True
            self._listen()
            await cloud_init.after_sshd()
        except (HostError, OSError) as error:
            self._console += f"{error}\n"
            if self.state == "pending":
                await self._set("terminated", "Server.InternalError")

    async def _new_host(self) -> Host:
        host = Host(
            self._directory,
            hostname=self._hostname,
            image=self._conditions.image,
            isolated=self._conditions.isolated,
            root_bytes=self._troubles.disk_bytes or self._conditions.disk_bytes,
            home=self._home,
            memory_bytes=self._troubles.memory_bytes,
        )
        host.extra_variables = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": await self._metadata.open()}
        if self.launch.role is not None:
            host.extra_variables |= self._conditions.services
        if self._troubles.clock_ahead_s:
            host.extra_variables |= wrong_clock(self._troubles.clock_ahead_s)
        host.on_shutdown = self._on_shutdown
        host.on_gone = self._on_gone
        return host

    def _listen(self) -> None:
        if self._booted and not self._refusals and self.state == "running" and not self._crashed:
            self._sshd.open()

    def _look_up_metadata(self, path: str) -> str | None:
        launch = self.launch
        facts = {
            "address": launch.address,
            "hostname": self._hostname,
            "image_id": launch.image_id,
            "instance_id": launch.instance_id,
            "instance_type": launch.instance_type,
            "market": launch.market,
            "user_data": launch.user_data.decode("utf-8", "surrogateescape"),
            "zone": launch.zone,
        }
        role = launch.role() if launch.role is not None and path.startswith("meta-data") else {}
        return metadata(facts, self.spot_notice, role, path)

    def _on_shutdown(self, how: str) -> None:
        if how == "halt":
            return  # the processor stops; EC2 sees no power-off, and bills on
        loop = asyncio.get_running_loop()
        if how == "reboot":
            self._ending = loop.create_task(self.reboot())
            return
        stop = self.launch.shutdown_behavior == "stop"
        self._ending = loop.create_task(self.end("Client.InstanceInitiatedShutdown", stop=stop))

    def _on_gone(self) -> None:
        if self._ending is None or self._ending.done():
            self.crash()

    def _keep_console(self) -> None:
        if self._cloud_init is not None:
            self._console += self._cloud_init.log
            self._cloud_init = None

    async def _set(self, state: str, reason: str) -> None:
        self.state = state
        # In a thread: the API's lock may be held by a long answer.
        await asyncio.get_running_loop().run_in_executor(None, self.launch.set_state, state, reason)


def _troubles_of(launch: Launch, faults: FaultBook) -> _Troubles:
    facts = {"type": launch.instance_type, "zone": launch.zone}
    troubles = _Troubles()
    if (slow := faults.take("slow-boot", **facts)) is not None:
        troubles.boot_delay_s = slow["delay"]
    if (impostor := faults.take("impostor", **facts)) is not None:
        connections = impostor["connections"]
        troubles.impostor_connections = float("inf") if connections is None else connections
    if (disk := faults.take("small-disk", **facts)) is not None:
        troubles.disk_bytes = disk["bytes"]
    if (memory := faults.take("small-memory", **facts)) is not None:
        troubles.memory_bytes = memory["bytes"]
    if (clock := faults.take("clock", **facts)) is not None:
        troubles.clock_ahead_s = clock["ahead"]
    troubles.no_sudo = faults.take("no-sudo", **facts) is not None
    return troubles
