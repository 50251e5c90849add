"""How fast files go to a machine and come back, beside `scp`: `python -m benchmarks.staging`.

One large file (`--mib`) and many small ones (`--files` of 4 KiB), to OpenSSH's sshd on this computer and
back, by turns; `scp -r` over a connection that stands (ControlMaster) is the measure, as ours is a
connection that stands. Loopback has no delay, so small files cost scp nothing but work; on a real network
each of them also costs it a round trip.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import sizes
from snakemake_executor_ec2.agent.archive import Entry
from snakemake_executor_ec2.agent.client import Agent
from snakemake_executor_ec2.ssh.connector import SshConnector
from tests.sshd import LOOPBACK, Server, find_sshd, openssh


def main() -> None:
    """Print seconds and ratios, medians of some rounds."""
    options = sizes(__doc__, rounds=(5, 1), mib=(512, 8), files=(5000, 100))
    if find_sshd() is None or shutil.which("scp") is None:
        sys.exit("sshd and scp are needed: apt-get install openssh-server openssh-client")
    with TemporaryDirectory() as name, openssh(Path(name, "server")) as server:
        folder = Path(name)
        large, small = folder / "large", folder / "small"
        large.mkdir()
        (large / "data").write_bytes(os.urandom(options.mib << 20))
        small.mkdir()
        for number in range(options.files):
            (small / f"{number}.txt").write_bytes(os.urandom(4096))
        with _Scp(server, folder) as scp, _Ours(server) as ours:
            for source in (large, small):
                _compare(source, folder, ours, scp, options.rounds)


def _compare(source: Path, folder: Path, ours: _Ours, scp: _Scp, rounds: int) -> None:
    taken: dict[str, list[float]] = {}
    for number in range(rounds):
        there, back = folder / f"there-{number}", folder / f"back-{number}"
        for way in (ours, scp):
            taken.setdefault(f"{way.name} up", []).append(_timed(way.send, source, there))
            taken.setdefault(f"{way.name} down", []).append(_timed(way.fetch, there, back))
            _same(source, back)
            shutil.rmtree(there)
            shutil.rmtree(back)
    size = sum(each.stat().st_size for each in source.iterdir())
    for direction in ("up", "down"):
        mine, scps = (statistics.median(taken[f"{name} {direction}"]) for name in ("ours", "scp"))
        print(
            f"{source.name} ({size >> 20} MiB), {direction}: ours {mine:.2f} s, scp {scps:.2f} s; "
            f"ratio {mine / scps:.2f}"
        )


class _Ours:
    """The agent's way: one tar stream over one connection."""

    name = "ours"

    def __init__(self, server: Server) -> None:
        connector = SshConnector(user=server.user, login_keys=[server.login], port=server.port)
        self._host = connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=10)
        self._agent = Agent(self._host)

    def __enter__(self) -> _Ours:
        self._agent.install()
        return self

    def __exit__(self, *_: object) -> None:
        self._host.close()

    def send(self, source: Path, there: Path) -> None:
        self._agent.unpack([Entry(path=str(source), name=str(there))])

    def fetch(self, there: Path, back: Path) -> None:
        self._agent.pack(
            [str(there)], lambda _: str(back), must=[str(there)], judge=lambda _target, text, _end: text
        )


class _Scp:
    """`scp -r` over a connection that stands already."""

    name = "scp"

    def __init__(self, server: Server, folder: Path) -> None:
        key, known = folder / "login", folder / "known_hosts"
        key.touch(mode=0o600)
        key.write_text(server.login.private)
        known.write_text(f"[{LOOPBACK}]:{server.port} {server.host_key}\n")
        self._options = [
            *("-o", f"IdentityFile={key}", "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={known}"),
            *("-o", f"ControlPath={folder}/wire", "-o", f"Port={server.port}", "-o", "BatchMode=yes"),
        ]
        self._there = f"{server.user}@{LOOPBACK}"

    def __enter__(self) -> _Scp:
        subprocess.run(["ssh", *self._options, "-fNM", self._there], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ssh", *self._options, "-O", "exit", self._there], check=True, capture_output=True)

    def send(self, source: Path, there: Path) -> None:
        self._copy(str(source), f"{self._there}:{there}")

    def fetch(self, there: Path, back: Path) -> None:
        self._copy(f"{self._there}:{there}", str(back))

    def _copy(self, source: str, target: str) -> None:
        subprocess.run(["scp", "-rpq", *self._options, source, target], check=True)


def _timed(copy: Callable[[Path, Path], None], source: Path, target: Path) -> float:
    began = time.perf_counter()
    copy(source, target)
    return time.perf_counter() - began


def _same(one: Path, other: Path) -> None:
    names = sorted(each.name for each in one.iterdir())
    if names != sorted(each.name for each in other.iterdir()):
        sys.exit("not all files came back")
    if any((one / name).read_bytes() != (other / name).read_bytes() for name in names[:50]):
        sys.exit("what came back is not what was sent")


if __name__ == "__main__":
    main()
