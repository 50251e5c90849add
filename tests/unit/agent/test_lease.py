"""A machine that nobody asks for powers itself off; one that somebody asks for does not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.unit.agent.machine import Machine


def _appears(path: Path, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return path.exists()


def test_a_lapsed_lease_powers_off_before_there_is_any_job(machine: Machine) -> None:
    """A controller that dies while it stages files in leaves no machine behind."""
    off = machine.home / "off"
    machine.ask("guard", request={"lease_s": 0.5, "poweroff": f"touch {off}"})
    assert not off.exists()
    assert _appears(off, 3)


def test_a_lease_lapses_while_a_job_runs_and_after_it(machine: Machine) -> None:
    """Outputs wait on the machine for as long as the lease, and no longer."""
    off = machine.home / "off"
    machine.start("true", lease_s=4.0, poweroff=f"touch {off}")
    machine.finish()
    assert not off.exists()
    assert _appears(off, 10)


def test_a_renewed_lease_lasts(machine: Machine) -> None:
    """Renewing lets it run its whole length again."""
    off = machine.home / "off"
    machine.ask("guard", request={"lease_s": 6.0, "poweroff": f"touch {off}"})
    began = time.monotonic()
    while time.monotonic() - began < 8:
        machine.ask("renew")
    assert not off.exists()
    assert 2 < machine.ask("status").said["lease_left_s"] <= 6.0
    assert _appears(off, 15)


def test_a_lease_that_is_taken_back_never_lapses(machine: Machine) -> None:
    """And its guard goes home; renewing what is not there begins nothing."""
    off = machine.home / "off"
    machine.ask("guard", request={"lease_s": 5, "poweroff": f"touch {off}"})
    machine.ask("guard", request={"lease_s": 0})
    machine.ask("renew")
    assert not machine.wait_for_silence()
    assert not off.exists()
    assert machine.ask("status").said["lease_left_s"] is None


def test_there_is_one_guard(machine: Machine) -> None:
    """Asking again renews the lease and leaves the guard that there is."""
    for _ in range(3):
        machine.ask("guard", request={"lease_s": 60})
    time.sleep(0.2)
    assert [line.rpartition(" ")[2] for _, line in machine.processes()] == ["guarding"]


def test_without_a_lease_there_is_no_guard(machine: Machine) -> None:
    """A lease of 0, or none, lets the machine live."""
    machine.ask("guard", request={"lease_s": 0})
    machine.ask("guard", request={"lease_s": None})
    assert machine.processes() == []


def test_the_clock_may_be_set(machine: Machine) -> None:
    """The lease has nothing to do with the wall clock, nor with a file's modification time."""
    off = machine.home / "off"
    machine.ask("guard", request={"lease_s": 60, "poweroff": f"touch {off}"})
    os.utime(machine.state / "lease", (0, 0))
    time.sleep(0.3)
    assert not off.exists()
    assert machine.ask("status").said["lease_left_s"] > 55


def test_a_job_is_told_by_whoever_is_left(machine: Machine) -> None:
    """A guard that was killed is replaced by the next `start` or `guard`."""
    machine.ask("guard", request={"lease_s": 60})
    for pid, _ in machine.processes():
        os.kill(pid, signal.SIGKILL)
    machine.wait_for_silence()
    machine.start("true", lease_s=60)
    machine.finish()
    time.sleep(0.3)
    assert [line.rpartition(" ")[2] for _, line in machine.processes()] == ["guarding"]
