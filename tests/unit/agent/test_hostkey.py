"""A new host key, or the old one: never none."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.agent.machine import Machine

_PROGRAM = """
import sys; sys.path.insert(0, {agent!r})
from snakemake_executor_ec2.agent import hostkey, state
try:
    hostkey.{step}({place!r})
except state.AgentError as error:
    sys.exit(str(error))
"""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root owns host keys"),
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"),
]


# What sudo is, as far as the agent uses it: `sudo -n COMMAND …`.
_SUDO = """
#include <unistd.h>
int main(int count, char **words) { return setgid(0) || setuid(0) || execvp(words[2], words + 2); }
"""
_NOBODY = 65534


class Host:
    """A machine with a host key, and an sshd that may be told to reload."""

    def __init__(self, machine: Machine, folder: Path, *, user: int | None = None) -> None:
        """`user`: who runs the agent, if not root."""
        self.machine = machine
        self.user = user
        self.calls = folder / "calls"
        self.calls.touch()
        self.place = folder / "ssh" / "key"
        self.programs = folder / "bin"
        for path in (self.place.parent, self.programs):
            path.mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.place], check=True)
        self.reloads(well=True)
        if user is not None:
            self._belongs_to_root(user)

    def _belongs_to_root(self, user: int) -> None:
        """As cloud-init before 23.1 leaves it, Amazon Linux 2023's for instance; the user may use sudo."""
        Path(f"{self.place}.pub").chmod(0o600)
        self.calls.chmod(0o666)
        source, sudo = self.programs / "sudo.c", self.programs / "sudo"
        source.write_text(_SUDO)
        subprocess.run(["gcc", "-o", sudo, source], check=True)
        sudo.chmod(0o4755)
        os.chown(self.machine.home, user, user)

    def reloads(self, *, well: bool) -> None:
        """Whether sshd can be told."""
        for name in ("systemctl", "pkill"):
            program = self.programs / name
            program.write_text(f"#!/bin/sh\necho {name} $* >> {self.calls}\nexit {int(not well)}\n")
            program.chmod(0o755)

    def take(self, step: str) -> subprocess.CompletedProcess[str]:
        """`prepare` or `rotate`."""
        path = f"{self.programs}:{self.machine.environment['PATH']}"
        program = _PROGRAM.format(agent=str(self.machine.agent), place=str(self.place), step=step)
        return subprocess.run(
            [self.machine.python, "-c", program],
            capture_output=True,
            text=True,
            env={**self.machine.environment, "PATH": path},
            check=False,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            cwd="/",
        )

    def prepare(self) -> list[str]:
        """The public half of the key that was made."""
        done = self.take("prepare")
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["host_key"]).split()

    def files(self) -> dict[str, str]:
        """What lies where sshd has its keys."""
        return {path.name: path.read_text() for path in self.place.parent.iterdir()}

    def public(self) -> list[str]:
        """The public half of what sshd reads."""
        done = subprocess.run(
            ["ssh-keygen", "-y", "-f", self.place], capture_output=True, text=True, check=True
        )
        return done.stdout.split()[:2]


@pytest.fixture(params=["as root", "as a user who may not read the key's public half"])
def host(request: pytest.FixtureRequest, machine: Machine, tmp_path: Path) -> Iterator[Host]:
    if request.param == "as root":
        yield Host(machine, tmp_path)
        return
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if python is None or shutil.which("gcc") is None:
        pytest.skip("needs a Python that anybody may run, and gcc")
    folder = Path(tempfile.mkdtemp())  # pytest's own are closed to others
    try:
        folder.chmod(0o755)
        theirs = Machine(folder)
        theirs.python = python
        yield Host(theirs, folder, user=_NOBODY)
    finally:
        shutil.rmtree(folder)


def test_a_key_is_made_once_and_not_used_at_once(host: Host) -> None:
    """Asked again, it tells of the same one, and sshd keeps its own until then."""
    before = host.files()
    made = host.prepare()
    assert host.prepare() == made
    assert host.public() != made
    assert host.files() == before
    assert not host.calls.read_text()


def test_the_key_is_replaced_and_sshd_told(host: Host) -> None:
    """What was announced lies there, and nobody else can read the private one."""
    made = host.prepare()
    done = host.take("rotate")
    assert done.returncode == 0, done.stderr
    assert host.public() == made
    assert sorted(host.files()) == ["key", "key.pub"]
    assert host.files()["key.pub"].split()[:2] == made
    assert stat.S_IMODE(host.place.stat().st_mode) == 0o600
    assert sorted(path.name for path in host.machine.state.glob("*key*")) == ["host-key.lock", "host-key.pub"]


def test_either_step_may_be_asked_for_again(host: Host) -> None:
    """An answer was lost on its way: the key is still the same, and sshd is not told twice."""
    made = host.prepare()
    for _ in range(2):
        assert host.take("rotate").returncode == 0
        assert host.prepare() == made
    assert host.public() == made
    assert len(host.calls.read_text().splitlines()) == 1


def test_a_machine_from_the_image_of_another_one_makes_its_own(host: Host) -> None:
    """What was left of that one's rotation is not taken for this one's."""
    others = host.prepare()
    host.take("rotate")
    for name in ("key", "key.pub"):
        (host.place.parent / name).unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host.place], check=True)
    made = host.prepare()
    assert made != others
    host.take("rotate")
    assert host.public() == made


@pytest.mark.parametrize("missing", ["sudo", "permission"])
def test_a_user_who_cannot_be_root_is_told_so(host: Host, missing: str) -> None:
    """One sentence, no traceback; the files are as they were."""
    if host.user is None:
        pytest.skip("root needs no sudo")
    sudo = host.programs / "sudo"
    sudo.unlink()
    if missing == "permission":
        sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
        sudo.chmod(0o755)
    before = host.files()
    done = [host.take("prepare"), host.take("rotate")]
    assert all(each.returncode for each in done)
    wanted = "sudo: a password is required" if missing == "permission" else "sudo is missing on the machine"
    assert [each.stderr.strip() for each in done] == [wanted, wanted]
    assert host.files() == before


@pytest.mark.skipif(Path("/run/sshd.pid").exists(), reason="a real sshd would be told")
def test_where_sshd_cannot_be_told_the_old_key_stays(host: Host) -> None:
    """One sentence, and the files are as they were; it may be tried again."""
    before = host.files()
    made = host.prepare()
    host.reloads(well=False)
    for _ in range(2):
        done = host.take("rotate")
        assert done.returncode == 1
        assert "could not be told" in done.stderr
        assert host.files() == before
    host.reloads(well=True)
    assert host.take("rotate").returncode == 0
    assert host.public() == made
