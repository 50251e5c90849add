"""Files from one machine to another, over the ssh client that machines have."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_ec2.agent import peers
from snakemake_executor_ec2.agent.bundle import bundle, digest
from snakemake_executor_ec2.agent.peer_terms import Served, serving
from snakemake_executor_ec2.model import KeyPair
from snakemake_executor_ec2.ssh.certificates import authority_line, certify
from snakemake_executor_ec2.ssh.keys import new_key_pair
from tests.sshd import LOOPBACK, Server, asyncssh_server
from tests.unit.agent.machine import Machine

pytestmark = pytest.mark.skipif(
    shutil.which("ssh") is None or not hasattr(os, "memfd_create"), reason="no ssh client, or not Linux"
)
CONTENT = os.urandom(5 << 20)
NAMES = ["1" * 64, "2" * 64, "3" * 64, "4" * 64]


@dataclass
class Pair:
    """A machine that has files, behind an ssh server, and one that wants them."""

    server: Server
    authority: KeyPair
    wants: Machine

    @property
    def cache(self) -> Path:
        return self.wants.state / "cache"

    def holder(self, script: str) -> None:
        """What the holder's agent is, or pretends to be."""
        agent = self.server.home / ".snakemake-ec2" / digest() / "agent.pyz"
        agent.parent.mkdir(parents=True, exist_ok=True)
        agent.write_bytes(script.encode() if script else bundle())

    def place(self, name: str, content: bytes, *, cached: bool = True) -> Path:
        path = self.server.home / (f".snakemake-ec2/cache/{name}" if cached else f"work/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def login(self, names: list[str], **more: Any) -> dict[str, Any]:
        """A request of `fetch` for these files, all of the same content."""
        served = [
            Served(name=name, path=str(self.server.home / "work" / name), size=len(CONTENT)) for name in names
        ]
        key = new_key_pair()
        terms: dict[str, Any] = {
            "user": self.server.user,
            "command": serving(served),
            "source": LOOPBACK,
            "since_s": time.time() - 60,
            "until_s": time.time() + 60,
        }
        return {
            "address": LOOPBACK,
            "port": self.server.port,
            "user": self.server.user,
            "host_keys": [self.server.host_key],
            "key": key.private,
            "certificate": certify(self.authority, key.public, **{**terms, **more}),
            "files": [[name, len(CONTENT), hashlib.sha256(CONTENT).hexdigest()] for name in names],
        }


@pytest.fixture
def pair(tmp_path: Path, machine: Machine) -> Iterator[Pair]:
    authority = new_key_pair()
    with asyncssh_server(tmp_path / "holder", also=authority_line(authority.public)) as server:
        made = Pair(server=server, authority=authority, wants=machine)
        made.holder("")
        yield made


def test_what_is_right_is_taken(pair: Pair) -> None:
    """From its cache or its job's tree; what has other content, or is a link, is not, whatever it says."""
    pair.place(NAMES[0], CONTENT)
    pair.place(NAMES[1], b"x" + CONTENT[1:])
    pair.place(NAMES[2], CONTENT, cached=False)
    (pair.server.home / "work" / NAMES[3]).symlink_to(pair.place("elsewhere", CONTENT))
    answer = pair.wants.ask("fetch", request=pair.login(NAMES))
    assert answer.said == {
        "there": [NAMES[0], NAMES[2]],
        "missing": [NAMES[3]],
        "wrong": [NAMES[1]],
        "why": "",
        "reached": True,
    }
    assert {each.name: each.read_bytes() for each in pair.cache.iterdir()} == {
        NAMES[0]: CONTENT,
        NAMES[2]: CONTENT,
    }


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            "import os, peer; os.write(1, peer + b'+' + b'x' * 4000000)",
            "the connection to the peer has ended",
        ),
        ("import os, peer\nwhile 1: os.write(1, b'x' * 1000)", "does not answer as an agent does"),
        ("import os, peer; os.write(1, peer + b'?')", "does not send what was asked for"),
    ],
    ids=["ends in mid-transfer", "talks without end", "says something else"],
)
def test_a_peer_that_fails(pair: Pair, script: str, why: str) -> None:
    """Nothing of what it sent is left."""
    pair.holder(script.replace("import os, peer", r"import os; peer = b'\n--- files of a peer ---\n'"))
    answer = pair.wants.ask("fetch", request=pair.login(NAMES[:1]))
    assert answer.said["there"] == []
    assert why in answer.said["why"]
    assert answer.said["reached"] is ("agent" not in why)
    assert not list(pair.cache.iterdir())


def test_a_peer_does_not_answer_for_a_slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the time counts in which it is waited for."""
    monkeypatch.setattr(peers, "_WINDOW_S", 0.1)
    read, write = os.pipe()
    stream = peers._Stream(read)
    for _ in range(3):
        os.write(write, b"x")
        time.sleep(0.1)  # while what came before is written
        assert stream.read_some(1) == b"x"
    with pytest.raises(peers._Broken, match="too slow"):
        stream.read_some(1)
    os.close(write)
    os.close(read)


@pytest.mark.parametrize(
    "terms", ["late", "elsewhere", "another user", "another host key", "another authority"]
)
def test_a_login_that_is_refused(pair: Pair, terms: str) -> None:
    """After its time, from another address, for another user; and by a machine that is another one."""
    pair.place(NAMES[0], CONTENT)
    changed: dict[str, dict[str, Any]] = {
        "late": {"until_s": time.time() - 1},
        "elsewhere": {"source": "10.0.0.1"},
        "another user": {"user": "x"},
    }
    if terms == "another authority":
        pair.authority = new_key_pair()
    request = pair.login(NAMES[:1], **changed.get(terms, {}))
    if terms == "another host key":
        request["host_keys"] = [new_key_pair().public]
    answer = pair.wants.ask("fetch", request=request)
    assert answer.said["there"] == []
    assert answer.said["why"]


def test_the_key_does_nothing_else(pair: Pair, tmp_path: Path) -> None:
    """Its holder gets these files, whatever is asked for."""
    pair.place(NAMES[0], CONTENT)
    request = pair.login(NAMES[:1])
    for name, text in (("key", request["key"]), ("key-cert.pub", request["certificate"] + "\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    options = [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        f"UserKnownHostsFile={tmp_path}/known",
        "-F",
        "/dev/null",
    ]
    command = ["ssh", *options, "-p", str(pair.server.port), "-i", str(tmp_path / "key")]
    done = subprocess.run(
        [*command, f"{pair.server.user}@{LOOPBACK}", "cat /etc/passwd"], capture_output=True, check=False
    )
    assert done.stdout.endswith(b"+" + CONTENT)
    assert b"root:" not in done.stdout.replace(CONTENT, b"")


def test_a_fetch_whose_answer_was_lost_ends(pair: Pair) -> None:
    """With the next one. Its key is nowhere on the disk, in no command line."""
    pair.holder("import time; time.sleep(60)")
    lost = threading.Thread(target=pair.wants.ask, args=("fetch",), kwargs={"request": pair.login(NAMES[:1])})
    with suppress(Exception):
        lost.start()
    deadline = time.monotonic() + 20
    while not (commands := _commands(str(pair.server.port))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not any("PRIVATE KEY" in each for each in commands)
    found = subprocess.run(["grep", "-rl", "PRIVATE KEY", pair.wants.home], capture_output=True, check=False)
    assert found.stdout == b""
    assert pair.wants.ask("fetch", request={"files": []}).exit_code == 0
    lost.join(20)
    assert not lost.is_alive()
    while _commands(str(pair.server.port)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _commands(port: str) -> list[str]:
    """Command lines of ssh clients that go to a port."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if words[0].endswith("ssh") and port in words:
                found.append(" ".join(words))
    return found
