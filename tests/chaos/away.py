"""Chaos with the controller away: faults by the seed around `snakemake-ec2 away start --wait`, which is
called again, as cron or a user does it, until the results are here.

What is done to machines of jobs is in `faults.py`; here it is done to the machine that runs Snakemake, to the
line between it and this computer, and to the command that starts it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from snakemake_executor_ec2.local.client import ControlError
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.tags import AWAY_RULE, RULE_TAG
from tests.chaos.faults import PAUSE_S, Event
from tests.chaos.witness import Witness
from tests.workflow.killing import Watched

_LIMIT_S = 900.0
_CALLS = 12
_LEASE_S = 60
_GIVES_UP_S = 20.0
"""How long a command is watched after its machine was taken, before somebody ends it and calls again."""
_WITHIN_S = 40.0
"""When faults begin: a start takes half of it, the workflow the rest."""
_CALL = ("away", "start", "--jobs", "4", "--wait", "--lifetime", "2h", "--keep", "1h")
_OPTIONS = ("--ec2-lease", f"{_LEASE_S}s", "--ec2-boot-timeout", "60s")


@dataclass(kw_only=True)
class Scene:
    """What faults are done to."""

    cloud: EmbeddedCloud
    before: set[str]
    """Machines of earlier runs."""
    call: Watched
    lost: bool = False
    """A controller's machine has ended, with all that was on it: jobs it had run run again."""
    taken_at: float | None = None
    """When the machine that the command watches was taken from under it."""
    excused: set[str] = field(default_factory=set)
    """Host names of machines that faults took away."""

    @property
    def ec2(self) -> Any:
        env = self.cloud.env
        return boto3.client(
            "ec2",
            endpoint_url=env["AWS_ENDPOINT_URL"],
            region_name=env["AWS_REGION"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        )

    def running(self) -> dict[str, str]:
        """Id → host name of machines that run now."""
        return {
            each["id"]: f"ip-{each['address'].replace('.', '-')}.ec2.internal"
            for each in self.cloud.instances()
            if each["id"] not in self.before and each["state"] == "running"
        }

    def alive(self) -> list[str]:
        """Machines that are billed."""
        return [
            name
            for name, state in self.cloud.machine_states().items()
            if name not in self.before and state in ("pending", "running")
        ]

    def controllers(self) -> list[str]:
        """Running machines of controllers."""
        wanted = [{"Name": f"tag:{RULE_TAG}", "Values": [AWAY_RULE]}]
        found = self.ec2.describe_instances(Filters=wanted)["Reservations"]
        ids = {each["InstanceId"] for one in found for each in one["Instances"]}
        return [name for name in self.running() if name in ids]


def do(event: Event, scene: Scene) -> bool:
    """Make it happen; False if there is nothing yet that it could happen to."""
    if event.kind in _ANY_TIME:
        _ANY_TIME[event.kind](scene)
        return True
    controllers = scene.controllers()
    others = [name for name in scene.running() if name not in controllers]
    among = others if event.kind in _TO_JOBS else controllers
    if not among:
        return False
    try:
        (_TO_JOBS | _TO_CONTROLLER)[event.kind](scene, among[int(event.pick * len(among))])
    except ControlError:
        return False  # it has ended in the meantime
    return True


def _kill(scene: Scene) -> None:
    scene.call.kill()


def _stop(scene: Scene) -> None:
    os.kill(scene.call.process.pid, signal.SIGSTOP)
    time.sleep(PAUSE_S)
    os.kill(scene.call.process.pid, signal.SIGCONT)


def _throttle(scene: Scene) -> None:
    scene.cloud.faults.throttle(count=4)


def _lose_launch(scene: Scene) -> None:
    scene.cloud.faults.lose_reply("RunInstances")


def _crash(scene: Scene, machine: str) -> None:
    scene.taken_at = time.monotonic()
    scene.cloud.faults.crash(machine)


def _reboot(scene: Scene, machine: str) -> None:
    scene.taken_at = time.monotonic()
    scene.ec2.reboot_instances(InstanceIds=[machine])


def _terminate(scene: Scene, machine: str) -> None:
    scene.taken_at, scene.lost = time.monotonic(), True
    scene.ec2.terminate_instances(InstanceIds=[machine])


def _cut(scene: Scene, machine: str) -> None:
    scene.cloud.faults.cut(machine)


def _half_open(scene: Scene, machine: str) -> None:
    scene.cloud.faults.half_open(machine, PAUSE_S)


def _refuse(scene: Scene, machine: str) -> None:
    scene.cloud.faults.refuse(machine, PAUSE_S)
    scene.cloud.faults.cut(machine)


def _crash_of_a_job(scene: Scene, machine: str) -> None:
    scene.excused.add(scene.running().get(machine, ""))
    scene.cloud.faults.crash(machine)


_ANY_TIME: dict[str, Callable[[Scene], None]] = {
    "kill": _kill,
    "stop": _stop,
    "throttle": _throttle,
    "lose-launch": _lose_launch,
}
_TO_CONTROLLER: dict[str, Callable[[Scene, str], None]] = {
    "controller-crash": _crash,
    "controller-reboot": _reboot,
    "controller-terminated": _terminate,
    "cut": _cut,
    "half-open": _half_open,
    "refuse": _refuse,
}
_TO_JOBS: dict[str, Callable[[Scene, str], None]] = {"crash": _crash_of_a_job}
_WEIGHTS = {
    "kill": 2.0,
    "controller-crash": 3.0,
    "controller-reboot": 3.0,
    "cut": 2.0,
    "controller-terminated": 0.7,
    "crash": 0.7,
}
KINDS = (*_ANY_TIME, *_TO_CONTROLLER, *_TO_JOBS)


def schedule(seed: int) -> tuple[Event, ...]:
    """One to three faults, by the seed alone."""
    chance = random.Random(seed)  # noqa: S311 -- a schedule, no secret
    kinds = chance.choices(KINDS, [_WEIGHTS.get(kind, 1.0) for kind in KINDS], k=chance.randint(1, 3))
    events = [Event(at_s=chance.uniform(0, _WITHIN_S), kind=kind, pick=chance.random()) for kind in kinds]
    return tuple(sorted(events, key=lambda event: event.at_s))


def run(
    cloud: EmbeddedCloud,
    events: Sequence[Event],
    expected: dict[str, bytes],
    place: Callable[[Path, Witness], None],
    options: Sequence[str],
) -> tuple[list[Event], int, list[str], str]:
    """One workflow under faults: those without an occasion, the calls, what is wrong, what was printed."""
    cloud.faults.clear()
    folder = Path(tempfile.mkdtemp(prefix="snakemake-ec2-chaos-"))
    try:
        with Witness() as seen:
            place(folder, seen)
            return _to_the_end(cloud, folder, seen, [*events], expected, options)
    finally:
        cloud.faults.clear()
        shutil.rmtree(folder, ignore_errors=True)


def _to_the_end(
    cloud: EmbeddedCloud,
    folder: Path,
    seen: Witness,
    waiting: list[Event],
    expected: dict[str, bytes],
    options: Sequence[str],
) -> tuple[list[Event], int, list[str], str]:
    before, began, calls, output = set(cloud.machine_states()), time.monotonic(), 0, ""
    problems: list[str] = []
    _call(cloud, folder, "away", "setup").wait()
    scene: Scene | None = None
    while calls < _CALLS and not problems:
        calls += 1
        call = _call(cloud, folder, *_CALL, *_OPTIONS, *options)
        scene = scene or Scene(cloud=cloud, before=before, call=call)
        scene.call, scene.taken_at = call, None
        problems += _watch(scene, waiting, began)
        status = call.wait()
        output += f"{call.output}--- exit status {status}\n"
        if status == 0:
            break
    else:
        problems.append(f"no success in {calls} calls")
    assert scene is not None
    problems += _wrong(folder, scene, seen, expected)
    return waiting, calls, problems, output


def _watch(scene: Scene, waiting: list[Event], began: float) -> list[str]:
    """Until the command has ended, with the faults at their times; what is wrong."""
    process = scene.call.process
    while process.poll() is None:
        time.sleep(0.2)
        now = time.monotonic()
        if now - began > _LIMIT_S:
            scene.call.kill()
            return [f"not at its end after {_LIMIT_S:.0f} s"]
        if scene.taken_at is not None and now - scene.taken_at > _GIVES_UP_S:
            scene.call.kill()
        for event in [each for each in waiting if each.at_s <= now - began]:
            if process.poll() is None and do(event, scene):
                waiting.remove(event)
    return []


def _wrong(folder: Path, scene: Scene, seen: Witness, expected: dict[str, bytes]) -> list[str]:
    """What is not as it has to be when all is over."""
    problems = [
        f"{name} differs from that of a local run"
        for name, content in expected.items()
        if not (folder / name).exists() or (folder / name).read_bytes() != content
    ]
    # Machines of jobs whose controller was terminated end by their lease.
    deadline = time.monotonic() + (_LEASE_S if scene.lost else 0.0) + 30
    while scene.alive():
        if time.monotonic() > deadline:
            problems.append(f"machines are alive: {', '.join(scene.alive())}")
            break
        time.sleep(0.5)
    if not scene.lost:
        problems += seen.overlaps()
        problems += seen.completed_again(scene.excused)
    return problems


def _call(cloud: EmbeddedCloud, folder: Path, *arguments: str) -> Watched:
    return Watched(
        subprocess.Popen(
            [str(Path(sys.executable).with_name("snakemake-ec2")), *arguments],
            cwd=folder,
            env=cloud.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    )
