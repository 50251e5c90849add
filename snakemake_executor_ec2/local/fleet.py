"""All instances of the cloud, for the threads that answer API calls.

Methods may be called from any thread but the event loop's own; those that say so wait for the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from .addresses import Addresses
from .disk import Disk
from .faultbook import FaultBook
from .host import HostError, run_to_end
from .instance import Conditions, Instance, Launch
from .removal import remove_tree

_T = TypeVar("_T")
_PATIENCE_S = 30.0
_IMAGE_S = 1.0
"""How long an image is `pending` at least."""


class Fleet:
    """Every instance that was launched, by id."""

    def __init__(self, loop: asyncio.AbstractEventLoop, conditions: Conditions, faults: FaultBook) -> None:
        self.faults = faults
        self.addresses = Addresses(conditions.ssh_port)
        self._loop = loop
        self._conditions = conditions
        self._instances: dict[str, Instance] = {}
        self._disks: dict[str, Disk] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds them only weakly

    def launch(self, launch: Launch) -> None:
        """Boot an instance, in the background."""

        async def begin() -> None:
            disk = self._disks.get(launch.image_id)
            instance = Instance(launch, self._conditions, self.faults, disk)
            self._instances[launch.instance_id] = instance
            instance.boot()

        self._wait(begin())

    def get(self, instance_id: str) -> Instance:
        """Raises KeyError."""
        return self._instances[instance_id]

    def end(self, instance_id: str, reason: str, *, stop: bool = False) -> None:
        """Begin to terminate or stop."""
        self._begin(self.get(instance_id).end(reason, stop=stop))

    def start(self, instance_id: str) -> None:
        self._begin(self.get(instance_id).start())

    def reboot(self, instance_id: str) -> None:
        self._begin(self.get(instance_id).reboot())

    def make_image(
        self, instance_id: str, image_id: str, *, reboot: bool, done: Callable[[str], None]
    ) -> None:
        """Begin to make an image of an instance's disk; `done` is called with what went wrong, or nothing.
        It may block."""
        conditions = self._conditions
        homes = conditions.homes_dir if conditions.isolated else None
        disk = Disk(
            directory=conditions.state_dir / "images" / image_id, home=homes / image_id if homes else None
        )

        async def make() -> None:
            wrong = ""
            try:
                await asyncio.gather(
                    self.get(instance_id).copy_disk(disk, reboot=reboot), asyncio.sleep(_IMAGE_S)
                )
                self._disks[image_id] = disk
            except OSError as error:
                wrong = str(error)
            await self._loop.run_in_executor(None, done, wrong)

        self._begin(make())

    def forget_image(self, image_id: str) -> None:
        """Delete an image's disk; machines that were made from it have copies."""
        if (disk := self._disks.pop(image_id, None)) is not None:
            disk.remove()

    def notify_spot(self, instance_id: str, notice: dict[str, str], reclaim_after_s: float | None) -> None:
        """Give the two minutes' notice, and reclaim when they (or what is said here) are over."""
        instance = self.get(instance_id)
        instance.spot_notice = notice

        async def reclaim(after_s: float) -> None:
            await asyncio.sleep(after_s)
            await instance.end("Server.SpotInstanceTermination")

        if reclaim_after_s is not None:
            self._begin(reclaim(reclaim_after_s))

    def reclaim_spot(self, instance_id: str) -> None:
        """Take a spot instance away without notice."""
        self.end(instance_id, "Server.SpotInstanceTermination")

    def trouble(self, instance_id: str, what: str, seconds: float) -> None:
        """`crash`, `cut`, `half-open` or `refuse`; returns when it has begun."""
        instance = self.get(instance_id)

        async def begin() -> None:
            if what == "crash":
                instance.crash()
            elif what == "cut":
                instance.cut()
            elif what == "half-open":
                self._spawn(instance.stall(seconds))
            else:
                self._spawn(instance.refuse(seconds))
            # Its first step has been taken when this returns.
            await asyncio.sleep(0)

        self._wait(begin())

    def shell(self, instance_id: str, command: str) -> tuple[int, bytes]:
        """Run a command on an instance as its root: (exit status, what it printed).

        Raises ValueError if it has no host (any more).
        """

        async def run() -> tuple[int, bytes]:
            return await run_to_end(self.get(instance_id).host, ["/bin/sh", "-c", command])

        try:
            return self._wait(run())
        except HostError as error:
            raise ValueError(str(error)) from error

    def has_crashed(self, instance_id: str) -> bool:
        return instance_id in self._instances and self._instances[instance_id].has_crashed

    def facts(self) -> list[dict[str, Any]]:
        return [instance.facts() for instance in list(self._instances.values())]

    async def close(self) -> None:
        """On the loop: end every host."""
        living = [instance for instance in self._instances.values() if instance.state != "terminated"]
        await asyncio.gather(*(instance.kill() for instance in living))
        remove_tree(self._conditions.state_dir)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._loop.call_soon_threadsafe(self._spawn, work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        future: Future[_T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(_PATIENCE_S)
