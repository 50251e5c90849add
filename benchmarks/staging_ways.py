"""The ways that `benchmarks.staging` compares: ours, and those of OpenSSH, rsync and tar."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import TracebackType

from snakemake_executor_ec2.agent.archive import Entry
from snakemake_executor_ec2.agent.client import Agent
from snakemake_executor_ec2.agent.transfer import Download, Upload
from snakemake_executor_ec2.ssh.connector import SshConnector
from tests.sshd import LOOPBACK, Server


class Ours:
    """The agent's way, over one connection that stands."""

    name = "ours"

    def __init__(self, server: Server, port: int) -> None:
        connector = SshConnector(user=server.user, login_keys=[server.login], port=port)
        self.host = connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=10)

    def __enter__(self) -> Ours:
        Agent(self.host).install()
        return self

    def __exit__(self, *_: object) -> None:
        self.host.close()

    def send(self, source: Path, there: Path) -> None:
        """Send a folder; `there` does not exist."""
        Upload([Entry(path=str(source), name=str(there))]).over(self.host)

    def fetch(self, there: Path, back: Path) -> None:
        """Fetch a folder; `back` does not exist."""
        with Download(
            [], lambda _: str(back), must=[str(there)], judge=lambda _target, text, _end: text
        ) as download:
            download.over(self.host)


class Openssh:
    """A connection of OpenSSH's client that stands (ControlMaster), as ours does."""

    def __init__(self, server: Server, port: int, folder: Path) -> None:
        key, known = folder / f"login-{port}", folder / f"known-{port}"
        key.touch(mode=0o600)
        key.write_text(server.login.private)
        known.write_text(f"[{LOOPBACK}]:{port} {server.host_key}\n")
        self.options = [
            *("-o", f"IdentityFile={key}", "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={known}"),
            *("-o", f"ControlPath={folder}/wire-{port}", "-o", f"Port={port}", "-o", "BatchMode=yes"),
        ]
        self.there = f"{server.user}@{LOOPBACK}"

    def __enter__(self) -> Openssh:
        subprocess.run(["ssh", *self.options, "-fNM", self.there], check=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["ssh", *self.options, "-O", "exit", self.there], check=True, capture_output=True)


class Scp:
    """`scp -r`."""

    name = "scp -r"

    def __init__(self, line: Openssh) -> None:
        self._line = line

    def send(self, source: Path, there: Path) -> None:
        """See `Ours`."""
        self._copy(str(source), f"{self._line.there}:{there}")

    def fetch(self, there: Path, back: Path) -> None:
        """See `Ours`."""
        self._copy(f"{self._line.there}:{there}", str(back))

    def _copy(self, source: str, target: str) -> None:
        subprocess.run(["scp", "-rpq", *self._line.options, source, target], check=True)


class Rsync:
    """`rsync -a`."""

    name = "rsync -a"

    def __init__(self, line: Openssh) -> None:
        self._line = line

    def send(self, source: Path, there: Path) -> None:
        """See `Ours`."""
        self._copy(f"{source}/", f"{self._line.there}:{there}/")

    def fetch(self, there: Path, back: Path) -> None:
        """See `Ours`."""
        self._copy(f"{self._line.there}:{there}/", f"{back}/")

    def _copy(self, source: str, target: str) -> None:
        subprocess.run(
            ["rsync", "-a", "-e", " ".join(["ssh", *self._line.options]), source, target], check=True
        )


class Tar:
    """`tar | ssh`."""

    name = "tar | ssh"

    def __init__(self, line: Openssh) -> None:
        self._line = line

    def send(self, source: Path, there: Path) -> None:
        """See `Ours`."""
        self._pipe(["tar", "-C", str(source), "-c", "."], self._ssh(f"mkdir {there} && tar -C {there} -x"))

    def fetch(self, there: Path, back: Path) -> None:
        """See `Ours`."""
        back.mkdir()
        self._pipe(self._ssh(f"tar -C {there} -c ."), ["tar", "-C", str(back), "-x"])

    def _ssh(self, command: str) -> list[str]:
        return ["ssh", *self._line.options, self._line.there, command]

    @staticmethod
    def _pipe(source: list[str], sink: list[str]) -> None:
        with subprocess.Popen(source, stdout=subprocess.PIPE) as first:
            subprocess.run(sink, stdin=first.stdout, check=True)
        if first.returncode:
            raise subprocess.CalledProcessError(first.returncode, source)


Way = Ours | Scp | Rsync | Tar


def others(line: Openssh) -> list[Way]:
    """All ways but ours that this computer has."""
    return [Scp(line), *([Rsync(line)] if shutil.which("rsync") else []), Tar(line)]
