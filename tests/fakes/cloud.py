"""`FakeCloud`: EC2 in memory, as `tests/contract/test_cloud.py` proves it to behave.

It keeps machines and lets time change them. Tests tell it what goes wrong:

    cloud.fail("launch", CapacityError("none left", code="InsufficientInstanceCapacity"), times=2)
    cloud.refuse = lambda spec: QuotaError("…") if spec.offer.instance_type.vcpus > 4 else None
    cloud.lose_replies = 1          # the machine starts, the caller hears of an error
    cloud.end(machine.id, reason="Server.SpotInstanceTermination")
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import (
    CloudError,
    ConfigurationError,
    Ec2ExecutorError,
    LaunchError,
    ThrottledError,
)
from snakemake_executor_ec2.model import (
    Arch,
    Image,
    InstanceType,
    LaunchSpec,
    Machine,
    MachineState,
    MachineStatus,
    Market,
    Price,
)
from snakemake_executor_ec2.ports import Clock, Cloud
from snakemake_executor_ec2.tags import RUN_TAG

_BOTH = frozenset({Market.ON_DEMAND, Market.SPOT})


def instance_type(name: str, vcpus: int, mem_gib: float, **more: object) -> InstanceType:
    """A row of a catalogue, x86_64 and sold in both markets unless told otherwise."""
    fields: dict[str, object] = {"arches": frozenset({Arch.X86_64}), "markets": _BOTH, **more}
    return InstanceType(name=name, vcpus=vcpus, mem_mib=int(mem_gib * 1024), **fields)  # type: ignore[arg-type]


TYPES = (
    instance_type("c7i.large", 2, 4),
    instance_type("m7i.large", 2, 8),
    instance_type("m7i.xlarge", 4, 16),
    instance_type("m7i.4xlarge", 16, 64),
    instance_type("m7i.metal-24xl", 96, 384, bare_metal=True),
    instance_type("m7g.large", 2, 8, arches=frozenset({Arch.ARM64})),
    instance_type("r7i.large", 2, 16),
    instance_type("t3.medium", 2, 4, burstable=True),
    instance_type("g6.xlarge", 4, 16, gpus=1, gpu_model="L4", gpu_mem_mib=22888),
)
"""A small catalogue with one of each kind."""

PRICES = {
    "c7i.large": 0.0893,
    "m7i.large": 0.1008,
    "m7i.xlarge": 0.2016,
    "m7i.4xlarge": 0.8064,
    "m7i.metal-24xl": 4.8384,
    "m7g.large": 0.0816,
    "r7i.large": 0.1323,
    "t3.medium": 0.0416,
    "g6.xlarge": 0.8048,
}
"""Made up for tests: near what EC2 asks, and in its order."""

DEFAULT_AMIS = {Arch.X86_64: "ami-0fake0x86", Arch.ARM64: "ami-0fake0arm"}


@dataclass(kw_only=True)
class FakeMachine:
    """What the fake knows of a machine."""

    machine: Machine
    spec: LaunchSpec
    number: int
    launched_at: float
    ended_at: float | None = None
    reason: str = ""
    allowed: set[str] = field(default_factory=set)
    """Addresses that `allow_ssh_from_here` was called with."""


class FakeCloud:
    """A `Cloud` in memory. One object is one run's view of it."""

    endpoint = "https://ec2.fake"
    account = "123456789012"

    def __init__(
        self,
        clock: Clock,
        *,
        run_id: str = "run-1",
        types: Sequence[InstanceType] = TYPES,
        prices: Mapping[str, float] | None = None,
        zones: Sequence[str] = ("us-east-1a", "us-east-1b"),
    ) -> None:
        self.run_id = run_id
        self.machines: dict[str, FakeMachine] = {}
        """Every machine that was ever started, by id."""
        self.launches: list[LaunchSpec] = []
        self.images: list[tuple[str | None, Arch, bool]] = []
        """Every image that was asked for: name, architecture, whether for a GPU."""
        """Every spec that `launch` was called with, refused ones too."""
        self.refuse: Callable[[LaunchSpec], CloudError | None] = lambda _: None
        """Says which launches EC2 refuses, and why."""
        self.lose_replies = 0
        """So many launches start their machine and then raise ThrottledError."""
        self.pending_s = 5.0
        self.shutting_down_s = 5.0
        self.hidden_s = 0.0
        """For so long after its launch, a machine is not shown: EC2's eventual consistency."""
        self.console = "fake boot messages"
        self.quotas: dict[str, float] = {}
        """What is told of the account's limits, by code; `refuse` enforces."""
        self.impaired: set[str] = set()
        """Ids of machines that EC2's own checks fail for."""
        self.closed = 0
        self.machines_meet = False
        """Whether they may reach each other's ssh port."""
        self._clock = clock
        self._types = tuple(types)
        self._prices = PRICES if prices is None else prices
        self._zones = tuple(zones)
        self._lock = threading.RLock()
        self._by_token: dict[str, str] = {}
        self._taken: set[str] = set()
        self._errors: dict[str, deque[Ec2ExecutorError]] = defaultdict(deque)

    # --- for tests -------------------------------------------------------------------------

    def fail(self, method: str, error: Ec2ExecutorError, *, times: int = 1) -> None:
        """The next calls of a method raise this error."""
        if not hasattr(Cloud, method):
            raise AssertionError(f"a Cloud has no method {method!r}, so it would never fail")
        self._errors[method].extend([error] * times)

    def end(self, machine_id: str, *, reason: str = "Client.InstanceInitiatedShutdown") -> None:
        """A machine powers itself off or is reclaimed."""
        with self._lock:
            found = self.machines[machine_id]
            if found.ended_at is None:
                found.ended_at, found.reason = self._clock.monotonic(), reason

    def forget(self, machine_id: str) -> None:
        """A machine disappears from EC2 altogether, as an hour after its end."""
        with self._lock:
            del self.machines[machine_id]

    @property
    def alive(self) -> list[str]:
        """The ids of machines that still cost money."""
        with self._lock:
            return [each.machine.id for each in self.machines.values() if each.ended_at is None]

    # --- Cloud -----------------------------------------------------------------------------

    @property
    def region(self) -> str:
        return "us-east-1"

    def check(self) -> None:
        self._raise_planned("check")

    def instance_types(self) -> tuple[InstanceType, ...]:
        self._raise_planned("instance_types")
        return self._types

    def zones(self, instance_type: str) -> tuple[str, ...]:
        self._raise_planned("zones")
        return self._zones if any(each.name == instance_type for each in self._types) else ()

    def prices(self, market: Market) -> Mapping[tuple[str, str], Price]:
        self._raise_planned("prices")
        if market is Market.ON_DEMAND:
            return {
                (name, ""): Price(usd_per_hour=usd, source="made up") for name, usd in self._prices.items()
            }
        return {
            (name, zone): Price(usd_per_hour=usd * 0.4, source="made up")
            for name, usd in self._prices.items()
            for zone in self._zones
        }

    def quota(self, code: str) -> float | None:
        self._raise_planned("quota")
        return self.quotas.get(code)

    def image(self, ami: str | None, arch: Arch, *, gpu: bool = False) -> Image:
        self._raise_planned("image")
        self.images.append((ami, arch, gpu))
        known = {each: of for of, each in DEFAULT_AMIS.items()}
        wanted = ami or DEFAULT_AMIS[arch]
        if wanted not in known:
            raise ConfigurationError(f"there is no machine image {wanted!r} in {self.region}")
        if known[wanted] is not arch:
            raise ConfigurationError(f"the machine image {wanted} is for {known[wanted]}, the job for {arch}")
        return Image(ami=wanted, name="fake Linux", arch=arch, root_device="/dev/xvda", root_gib=8)

    def launch(self, spec: LaunchSpec, cancel: CancelToken | None = None) -> Machine:
        if cancel is not None:
            cancel.check()
        if spec.tags.get(RUN_TAG) != self.run_id:
            raise ValueError("a launch without the run's tag")
        with self._lock:
            self.launches.append(spec)
            self._raise_planned("launch")
            refused = self._refusal(spec)
            if refused is not None:
                raise refused
            machine = self._start(spec)
            if self.lose_replies:
                self.lose_replies -= 1
                raise ThrottledError("AWS did not answer ec2:RunInstances: connection lost")
            self._taken.add(spec.token)
            return machine

    def give_up(self, spec: LaunchSpec) -> None:
        with self._lock:
            if spec.token in self._by_token and spec.token not in self._taken:
                self.end(self._by_token[spec.token], reason="Client.UserInitiatedShutdown")

    def status(self, machine_id: str) -> MachineStatus:
        self._raise_planned("status")
        with self._lock:
            found = self.machines.get(machine_id)
            now = self._clock.monotonic()
            if found is None or now - found.launched_at < self.hidden_s:
                return MachineStatus(state=MachineState.UNKNOWN)
            address = f"203.0.113.{found.number}"
            if found.ended_at is None:
                if now - found.launched_at < self.pending_s:
                    return MachineStatus(state=MachineState.PENDING)
                return MachineStatus(state=MachineState.RUNNING, address=address)
            over = now - found.ended_at >= self.shutting_down_s
            state = MachineState.TERMINATED if over else MachineState.SHUTTING_DOWN
            return MachineStatus(state=state, reason=found.reason)

    def is_impaired(self, machine_id: str) -> bool:
        self._raise_planned("is_impaired")
        return machine_id in self.impaired and machine_id in self.alive

    def allow_ssh_from_here(self, address: str) -> None:
        self._raise_planned("allow_ssh_from_here")
        with self._lock:
            for each in self.machines.values():
                each.allowed.add(address)

    def allow_ssh_between_machines(self) -> None:
        self._raise_planned("allow_ssh_between_machines")
        self.machines_meet = True

    def private_address(self, machine_id: str) -> str | None:
        self._raise_planned("private_address")
        running = self.status(machine_id).state is MachineState.RUNNING
        return f"10.0.0.{self.machines[machine_id].number}" if running else None

    def terminate(self, machine_ids: Collection[str]) -> None:
        self._raise_planned("terminate")
        for machine_id in machine_ids:
            if machine_id in self.machines:
                self.end(machine_id, reason="Client.UserInitiatedShutdown")

    def console_output(self, machine_id: str) -> str:
        self._raise_planned("console_output")
        return self.console if machine_id in self.machines else ""

    def take_over(self) -> dict[str, MachineState]:
        self._raise_planned("take_over")
        return {name: self.status(name).state for name in self.machines}

    def close(self) -> bool:
        self.closed += 1
        with suppress(Ec2ExecutorError):
            self.terminate(self.alive)
        return not self.alive

    # --- helpers ---------------------------------------------------------------------------

    def _raise_planned(self, method: str) -> None:
        with self._lock:
            planned = self._errors[method]
            if planned:
                raise planned.popleft()

    def _refusal(self, spec: LaunchSpec) -> CloudError | None:
        name = spec.offer.instance_type.name
        if all(each.name != name for each in self._types):
            return LaunchError(f"the instance type {name!r} does not exist", code="InvalidParameterValue")
        if spec.zone not in self._zones:
            return LaunchError(f"there is no subnet in {spec.zone}")
        return self.refuse(spec)

    def _start(self, spec: LaunchSpec) -> Machine:
        """The same token gives the same machine, whatever has become of it."""
        if spec.token in self._by_token:
            return self.machines[self._by_token[spec.token]].machine
        number = len(self._by_token) + 1
        machine = Machine(
            id=f"i-{number:017x}",
            instance_type=spec.offer.instance_type.name,
            zone=spec.zone,
            market=spec.offer.market,
            price=spec.offer.price,
            on_demand=spec.offer.on_demand,
            disk_gib=spec.disk_gib,
            disk_mbps=spec.disk_mbps,
            disk_iops=spec.disk_iops,
            launched_at=self._clock.now(),
        )
        self._by_token[spec.token] = machine.id
        self.machines[machine.id] = FakeMachine(
            machine=machine, spec=spec, number=number, launched_at=self._clock.monotonic()
        )
        return machine
