"""A line and a session in memory: what a story does on a machine, without a machine.

Machines are those of a `FakeCloud`. A test says what happens at a step, once:

    scene.happens["run"] = lambda: scene.cloud.end(machine_id, reason="Server.SpotInstanceTermination")

and which addresses do not answer: `scene.silent`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, cast

from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import ConnectError, ConnectionLost, HostKeyMismatch
from snakemake_executor_ec2.machines.connection import Connection
from snakemake_executor_ec2.model import Cleaned, JobPlan, JobResult, Software, Transfer
from snakemake_executor_ec2.ports import RemoteHost
from tests.fakes.clock import FakeClock
from tests.fakes.cloud import FakeCloud

NEW_HOST_KEY = "ssh-ed25519 NEWA"
"""The one that every machine makes for itself."""


STEPS = frozenset(
    {"move in", "make host key", "rotate", "install", "resume", "lease", "renew", "let go", "stage in"}
    | {"run", "stage out", "clean", "before image"}
)
"""All that a session does on a machine."""


class Happenings(dict[str, Callable[[], Any]]):
    """What happens at which step. A step that there is not would never be taken: it is refused."""

    def __setitem__(self, step: str, happening: Callable[[], Any]) -> None:
        _check_step(step)
        super().__setitem__(step, happening)


def _check_step(step: str) -> None:
    if step not in STEPS:
        raise AssertionError(f"no session takes the step {step!r}; there are {', '.join(sorted(STEPS))}")


class Scene:
    """What connections and sessions share."""

    def __init__(self, cloud: FakeCloud) -> None:
        self.cloud = cloud
        self.happens = Happenings()
        """What happens when a step is taken, the first time; it may raise."""
        self.steps: list[str] = []
        """Every step that was taken on any machine."""
        self.silent: set[str] = set()
        """Addresses that do not answer any more; connections to them break."""
        self.keys: dict[str, str] = {}
        """Host keys by address, where they matter."""
        self.cleaned = Cleaned(changed="", free_mib=20_000)
        """What a machine is like when what a job has left was removed."""
        self.results = [JobResult(exit_code=0, seconds=1.0)]
        """How the job ends: the first time, the second time, …; the last one stays."""
        self.connections = 0

    def answers(self, address: str) -> bool:
        """Whether a machine is there and heard."""
        numbers = {self.cloud.machines[each].number for each in self.cloud.alive}
        return address not in self.silent and int(address.rsplit(".", 1)[1]) in numbers

    def connect(
        self,
        address: str,
        *,
        name: str = "",  # noqa: ARG002 - the address will do
        host_keys: Collection[str],
        timeout_s: float,  # noqa: ARG002 - it answers at once
    ) -> RemoteHost:
        """See `ports.Connector.connect`."""
        if not self.answers(address):
            raise ConnectError(f"{address} does not answer.")
        if self.keys.get(address) not in (None, *host_keys):
            raise HostKeyMismatch(f"The computer that answers at {address} is not the run's machine.")
        self.connections += 1
        return cast("RemoteHost", FakeLine(self, address))


class FakeLine:
    """A connection on which nothing but steps is done."""

    def __init__(self, scene: Scene, address: str) -> None:
        self._scene = scene
        self._address = address
        self.is_open = True

    def step(self, name: str, detail: str = "") -> None:
        scene = self._scene
        _check_step(name)
        if not self.is_open or not scene.answers(self._address):
            raise ConnectionLost("The connection broke off.")
        scene.steps.append(name + detail)
        if happening := scene.happens.pop(name, None):
            happening()
            if not scene.answers(self._address):
                raise ConnectionLost("The connection broke off.")

    def pin(self, host_keys: Collection[str]) -> None:
        """See the port."""

    def close(self) -> None:
        self.is_open = False


class FakeSession:
    """See `ports.Session`."""

    def __init__(self, connection: Connection, scene: Scene) -> None:
        self._connection = connection
        self._scene = scene

    def _step(self, name: str, detail: str = "") -> None:
        self._connection.call(lambda host: cast("FakeLine", host).step(name, detail))

    def move_in(self, lease_s: float, *, used: bool = False) -> None:  # noqa: ARG002 - nobody counts here
        self._step("move in")

    def rotate_host_key(self, pin: Callable[..., None]) -> None:
        self._step("make host key")
        pin(*self._connection.host_keys, NEW_HOST_KEY)
        self._step("rotate")
        pin(NEW_HOST_KEY)

    def install_software(self, software: Software) -> None:  # noqa: ARG002 - there is none
        self._step("install")

    def before_image(self, keys: Collection[str]) -> tuple[str, ...]:  # noqa: ARG002 - nobody logs in here
        self._step("before image")
        return ()

    def saved_state(self) -> Mapping[str, Any]:
        return {"remembered": True}

    def resume(self, saved_state: Mapping[str, Any]) -> None:
        assert saved_state == self.saved_state()
        self._step("resume")

    def lease(self, lease_s: float) -> None:
        self._step("lease", f" {lease_s:g}")

    def renew(self) -> None:
        self._step("renew")

    def let_go(self) -> bool:
        def step(host: RemoteHost) -> bool:
            cast("FakeLine", host).step("let go")
            return True

        return self._connection.once(step) or False

    def stage_in(self, plan: JobPlan) -> Transfer:  # noqa: ARG002 - nothing travels
        self._step("stage in")
        return Transfer(files=1, bytes=10, seconds=0.1)

    def run(self, plan: JobPlan, log: Path) -> JobResult:  # noqa: ARG002 - nothing is run
        self._step("run")
        results = self._scene.results
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write("printed\n")
        return results.pop(0) if len(results) > 1 else results[0]

    def stage_out(self, plan: JobPlan, *, succeeded: bool) -> Transfer:  # noqa: ARG002 - nothing travels
        self._step("stage out")
        return Transfer(files=1, bytes=20, seconds=0.1)

    def left(self, plan: JobPlan) -> Mapping[Path, int]:
        return {plan.workdir / "side.txt": 7} if "run" in self._scene.steps else {}

    def clean(self, plan: JobPlan) -> Cleaned:  # noqa: ARG002 - nothing is there
        def step(host: RemoteHost) -> bool:
            cast("FakeLine", host).step("clean")
            return True

        if self._connection.once(step):
            return self._scene.cleaned
        return Cleaned(changed="the connection to it was lost", free_mib=0)


class FakeControl(CancelToken):
    """A `CancelToken` whose waits move the fake time on."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, seconds: float) -> None:
        self.check()
        self._clock.sleep(seconds)
        self.check()
