"""The faults of chaos runs: what each does to the controller, the cloud or a machine."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_ec2.local.client import ControlError
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from tests.chaos import places
from tests.workflow.killing import Watched

PAUSE_S = 3.0
"""How long a fault lasts that comes and goes."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """A fault, some seconds after the beginning."""

    at_s: float
    kind: str
    pick: float
    """Which of the machines that are there, from 0 to 1."""

    def __str__(self) -> str:
        return f"{self.kind} at {self.at_s:.1f} s"


@dataclass(kw_only=True)
class Scene:
    """What a run's faults are done to."""

    cloud: EmbeddedCloud
    before: set[str]
    """Machines of earlier runs."""
    clock: Path
    """Holds the seconds by which the controller's clock is off."""
    lease_s: float
    call: Watched
    folder: Path
    port: int
    """The witness'."""
    options: tuple[str, ...]
    env: dict[str, str]
    place: Callable[[], None]
    """Puts the workflow into its folder once more."""
    excused: set[str] = field(default_factory=set)
    """Host names of machines that faults took away, or whose results they did."""
    problems: list[str] = field(default_factory=list)

    def machines(self, *states: str) -> dict[str, str]:
        """Id → host name of the run's machines in some states."""
        return {
            each["id"]: f"ip-{each['address'].replace('.', '-')}.ec2.internal"
            for each in self.cloud.instances()
            if each["id"] not in self.before and each["state"] in states
        }


def do(event: Event, scene: Scene) -> bool:
    """Make it happen; False where there is nothing yet that it could happen to."""
    if event.kind in _TO_CONTROLLER:
        _TO_CONTROLLER[event.kind](scene)
        return True
    machines = sorted(scene.machines("running"))
    if not machines:
        return False
    try:
        return _TO_MACHINE[event.kind](scene, machines[int(event.pick * len(machines))])
    except ControlError:
        return False  # it has ended in the meantime


# --- the controller, and the cloud as a whole ---------------------------------------------------


def _kill(scene: Scene) -> None:
    scene.call.kill()


def _abandon(scene: Scene) -> None:
    """Kill it, and nobody calls again for longer than the lease: every machine ends by itself."""
    scene.call.kill()
    deadline = time.monotonic() + scene.lease_s + 30
    while left := scene.machines("pending", "running"):
        if time.monotonic() > deadline:
            scene.problems.append(f"alive later than the lease allows: {', '.join(left)}")
            return
        time.sleep(0.5)
    scene.excused |= set(scene.machines("shutting-down", "terminated").values())


def _stop(scene: Scene) -> None:
    os.kill(scene.call.process.pid, signal.SIGSTOP)
    time.sleep(PAUSE_S)
    os.kill(scene.call.process.pid, signal.SIGCONT)


def _disk_full_here(scene: Scene) -> None:
    """No file of the controller's may grow for a while: what a full disk looks like from inside."""
    pid = scene.call.process.pid
    try:
        soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        time.sleep(PAUSE_S)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
    except ProcessLookupError:
        return


_TO_CONTROLLER: dict[str, Callable[[Scene], None]] = {
    "kill": _kill,
    "abandon": _abandon,
    "stop": _stop,
    "hang-up": places.hang_up,
    "terminate": places.terminate,
    "copied": places.copy,
    "folder-removed": places.remove_folder,
    "journal-removed": places.remove_journal,
    "another-computer": places.another_computer,
    "disk-full-here": _disk_full_here,
    "clock-forward": lambda scene: _set_clock(scene, 7200),
    # No further back: Snakemake fails by itself, here as anywhere, where an input lies in the future.
    "clock-back": lambda scene: _set_clock(scene, -1),
    "clock-there": lambda scene: _ignore(scene.cloud.faults.wrong_clock(-7200, count=1)),
    "slow-boot": lambda scene: _ignore(scene.cloud.faults.slow_boot(PAUSE_S, count=1)),
    "throttle": lambda scene: _ignore(scene.cloud.faults.throttle(count=4)),
    "lose-launch": lambda scene: _ignore(scene.cloud.faults.lose_reply("RunInstances")),
    "lose-terminate": lambda scene: _ignore(scene.cloud.faults.lose_reply("TerminateInstances")),
}


def _set_clock(scene: Scene, off_s: float) -> None:
    scene.clock.write_text(str(off_s))


def _ignore(_: object) -> None:
    return


# --- one machine --------------------------------------------------------------------------------


def _cut(scene: Scene, machine: str) -> bool:
    scene.cloud.faults.cut(machine)
    return True


def _half_open(scene: Scene, machine: str) -> bool:
    scene.cloud.faults.half_open(machine, PAUSE_S)
    return True


def _refuse(scene: Scene, machine: str) -> bool:
    scene.cloud.faults.refuse(machine, PAUSE_S)
    scene.cloud.faults.cut(machine)
    return True


def _crash(scene: Scene, machine: str) -> bool:
    scene.excused.add(scene.machines("running")[machine])
    scene.cloud.faults.crash(machine)
    return True


def _spot_notice(scene: Scene, machine: str) -> bool:
    scene.excused.add(scene.machines("running")[machine])
    scene.cloud.faults.spot_notice(machine, reclaim_after_s=PAUSE_S)
    return True


def _spot_reclaim(scene: Scene, machine: str) -> bool:
    scene.excused.add(scene.machines("running")[machine])
    scene.cloud.faults.spot_reclaim(machine)
    return True


def _agent_killed(scene: Scene, machine: str) -> bool:
    """SIGKILL for the process that watches the job, as soon as there is one."""
    # The brackets keep the pattern from fitting the shell that it is in.
    status, _ = scene.cloud.faults.shell(machine, "pkill -KILL -f '[a]gent.pyz supervisor'")
    if status == 0:
        scene.excused.add(scene.machines("running")[machine])
    return status == 0


def _disk_full_there(scene: Scene, machine: str) -> bool:
    """The machine's disk is full for a while; where its size is not limited, only fuller."""
    faults = scene.cloud.faults
    scene.excused.add(scene.machines("running")[machine])
    faults.shell(machine, f"head -c {_BALLOON_MIB}M /dev/zero > /balloon")
    time.sleep(PAUSE_S)
    faults.shell(machine, "rm -f /balloon")
    return True


_BALLOON_MIB = 600
_TO_MACHINE: dict[str, Callable[[Scene, str], bool]] = {
    "cut": _cut,
    "half-open": _half_open,
    "refuse": _refuse,
    "crash": _crash,
    "spot-notice": _spot_notice,
    "spot-reclaim": _spot_reclaim,
    "agent-killed": _agent_killed,
    "disk-full-there": _disk_full_there,
}

# --- schedules ----------------------------------------------------------------------------------

WITHIN_S = 14.0
"""When faults begin. A run without faults takes about as long."""
_WEIGHTS = {
    "kill": 6,
    "abandon": 0.5,
    "folder-removed": 0.5,
    "copied": 0.7,
    "crash": 0.7,
    "clock-forward": 0.7,
    "clock-back": 0.7,
}
KINDS = (*_TO_CONTROLLER, *_TO_MACHINE)


def schedule(seed: int) -> tuple[Event, ...]:
    """One to five faults, by the seed alone."""
    chance = random.Random(seed)  # noqa: S311 -- a schedule, no secret
    kinds = chance.choices(KINDS, [_WEIGHTS.get(kind, 1) for kind in KINDS], k=chance.randint(1, 5))
    events = [Event(at_s=chance.uniform(0, WITHIN_S), kind=kind, pick=chance.random()) for kind in kinds]
    return tuple(sorted(events, key=lambda event: event.at_s))
