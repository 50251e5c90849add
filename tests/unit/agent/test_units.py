"""Units of systemd that a job has left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snakemake_executor_ec2.agent import units

_USER = f"run/user/{os.getuid()}/systemd"
LEFT = {
    "a service for a time": ("run/systemd/transient/job.service", "job.service"),
    "a timer for a time": ("run/systemd/transient/run-u7.timer", "run-u7.timer"),
    "one until the next boot": ("run/systemd/system/job.path", "job.path"),
    "a timer of the user's": (f"{_USER}/transient/job.timer", "job.timer"),
    "a timer that the user wrote": ("home/.config/systemd/user/job.timer", "job.timer"),
    "a service of the image's": ("run/systemd/units/invocation:docker.service", "docker.service"),
    "one of several": (
        "run/systemd/units/invocation:postgresql@15-main.service",
        "postgresql@15-main.service",
    ),
}
"""The file that appears, and what is found."""
OF_SYSTEM = {
    "a login": "run/systemd/transient/session-14.scope",
    "a user's manager": "run/systemd/units/invocation:user@1000.service",
    "what the boot starts late": "run/systemd/units/invocation:late.service",
    "what a timer starts": "run/systemd/units/invocation:logrotate.service",
    "what is asked for over D-Bus": "run/systemd/units/invocation:polkit.service",
    "a mount, which is looked for elsewhere": "run/systemd/units/invocation:mnt.mount",
    "a limit that is logged": "run/systemd/units/log-rate-limit-burst:cron.service",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system's files, with those of its units that tell how each is started."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    put(tmp_path, "usr/lib/systemd/system/multi-user.target.wants/late.service")
    put(tmp_path, "usr/lib/systemd/system/logrotate.timer")
    put(tmp_path, "usr/lib/systemd/system/polkit.service", "[Service]\nType=dbus\nBusName=org.x\n")
    put(tmp_path, "usr/lib/systemd/system/docker.service", "[Service]\nExecStart=/usr/bin/dockerd\n")
    put(tmp_path, "run/systemd/units/invocation:cron.service")
    put(tmp_path, "run/systemd/transient/snakemake-ec2-lifetime.timer")
    return tmp_path


def put(root: Path, name: str, text: str = "") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.mark.parametrize(("file", "unit"), LEFT.values(), ids=LEFT)
def test_what_a_job_has_left_is_found(root: Path, file: str, unit: str) -> None:
    """Wherever systemd notes it; what was there before is not named."""
    before = units.there(str(root))
    assert units.new(before, str(root)) == ""
    put(root, file)
    assert units.new(before, str(root)) == unit


@pytest.mark.parametrize("file", OF_SYSTEM.values(), ids=OF_SYSTEM)
def test_what_the_system_does_meanwhile_is_not(root: Path, file: str) -> None:
    """It would be there without the job, too."""
    before = units.there(str(root))
    put(root, file)
    assert units.new(before, str(root)) == ""


def test_without_systemd_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, for instance."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert units.there(str(tmp_path)) == frozenset()
