"""A new host key, or the old one: never none."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.unit.agent.machine import Machine

_PROGRAM = """
import sys; sys.path.insert(0, {agent!r})
from snakemake_executor_ec2.agent import hostkey, state
try:
    hostkey.rotate({place!r})
except state.AgentError as error:
    sys.exit(str(error))
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root owns host keys"),
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"),
]


def _rotate(machine: Machine, place: Path, *, reloads: bool) -> subprocess.CompletedProcess[bytes]:
    programs = place.parent / "bin"
    programs.mkdir()
    for name in ("systemctl", "pkill"):
        (programs / name).write_text(
            f"#!/bin/sh\necho {name} $* >> {place.parent}/calls\nexit {int(not reloads)}\n"
        )
        (programs / name).chmod(0o755)
    environment = {**machine.environment, "PATH": f"{programs}:{machine.environment['PATH']}"}
    program = _PROGRAM.format(agent=str(machine.agent), place=str(place))
    return subprocess.run([machine.python, "-c", program], capture_output=True, env=environment, check=False)


def _old_key(folder: Path) -> Path:
    (folder / "ssh").mkdir()
    place = folder / "ssh" / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place], check=True)
    return place


def test_the_key_is_replaced_and_sshd_told(machine: Machine, tmp_path: Path) -> None:
    """The answer is the public half of what lies there, and nobody else can read the private one."""
    place = _old_key(tmp_path)
    old = place.read_text()
    done = _rotate(machine, place, reloads=True)
    assert done.returncode == 0, done.stderr
    public = subprocess.run(["ssh-keygen", "-y", "-f", place], capture_output=True, text=True, check=True)
    assert public.stdout.split()[:2] == done.stdout.decode().split('"')[3].split()
    assert place.read_text() != old
    assert place.with_suffix(".pub").read_text().split()[:2] == public.stdout.split()[:2]
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert sorted(path.name for path in place.parent.iterdir()) == ["bin", "calls", "key", "key.pub"]
    assert not list(machine.state.glob("key-*"))


@pytest.mark.skipif(Path("/run/sshd.pid").exists(), reason="a real sshd would be told")
def test_where_sshd_cannot_be_told_the_old_key_stays(machine: Machine, tmp_path: Path) -> None:
    """One sentence, and the files are as they were."""
    place = _old_key(tmp_path)
    before = {path: path.read_text() for path in (place, place.with_suffix(".pub"))}
    done = _rotate(machine, place, reloads=False)
    assert done.returncode == 1
    assert b"could not be told" in done.stderr
    assert {path: path.read_text() for path in before} == before
    assert sorted(path.name for path in place.parent.iterdir()) == ["bin", "calls", "key", "key.pub"]
