"""Short commands over one channel: each as if it had been run alone, and each alone if that channel ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from snakemake_executor_ec2.agent import talking
from snakemake_executor_ec2.agent.client import Agent
from snakemake_executor_ec2.errors import PreparationError, StagingError
from tests.fakes.remote_host import FakeMachine, FakeRemoteHost


@pytest.fixture
def host(tmp_path: Path) -> FakeRemoteHost:
    (tmp_path / "home").mkdir()
    return FakeRemoteHost(FakeMachine(home=tmp_path / "home", host_key="key"))


def alone(host: FakeRemoteHost) -> list[str]:
    """The commands that were run by themselves."""
    return [each.rpartition('agent.pyz" ')[2].split()[0] for each in host.machine.commands[1:]]


def test_commands_share_a_channel_and_nothing_else(host: FakeRemoteHost, tmp_path: Path) -> None:
    """Answers, errors and what they do are those of commands that are run alone."""
    agent, work = Agent(host), tmp_path / "work"
    mask = os.umask(0o022)
    try:
        agent.settle()
    finally:
        os.umask(mask)
    assert agent.guard(None)
    assert agent.new_host_key().startswith("ssh-ed25519 ")
    assert agent.stand_ins([], [], [], 0) is False  # which sets its own umask
    (answer,) = agent.workdir([str(work)])
    assert answer.ok
    assert work.stat().st_mode & 0o777 == 0o755
    (refused,) = agent.workdir([str(tmp_path / "home")])
    assert refused.reason == "it exists there and is not empty"
    with pytest.raises(StagingError, match="the list of files is damaged"):
        agent.stand_ins([b"no list"], [], [], 0)
    agent.renew()
    assert alone(host) == []
    (file,) = (tmp_path / "home").glob(".snakemake-ec2/*/agent.pyz")
    assert file.stat().st_mode & 0o777 == 0o600

    before = file.stat()
    agent.settle()
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    talking.end(host)


def test_what_may_have_a_long_answer_is_asked_alone(host: FakeRemoteHost, tmp_path: Path) -> None:
    """A line of the channel is limited; what is asked about many files may have a longer answer, and its
    machine is not to be taken for one that talks without end."""
    agent = Agent(host)
    agent.settle()
    agent.take({str(tmp_path / "a"): "name"}, 1)
    assert alone(host) == []
    agent.take({str(tmp_path / f"{number:0200}"): "name" for number in range(3000)}, 1)
    assert alone(host) == ["take"]
    talking.end(host)


def test_what_it_cannot_install_is_told(host: FakeRemoteHost, tmp_path: Path) -> None:
    """As without the channel; nothing is asked over it then."""
    (tmp_path / "home/.snakemake-ec2").write_text("in the way")
    with pytest.raises(PreparationError, match=r"The agent could not be installed .*Not a directory"):
        Agent(host).settle()
    assert host not in talking._TALKS


def test_commands_are_run_alone_if_the_channel_ends(host: FakeRemoteHost, tmp_path: Path) -> None:
    """Killed between two requests, or with one."""
    agent = Agent(host)
    agent.settle()
    agent.renew()
    os.kill(_talks(tmp_path), signal.SIGKILL)
    agent.renew()
    agent.renew()
    assert alone(host) == ["renew", "renew"]


def test_nobody_waits_for_the_channel(host: FakeRemoteHost) -> None:
    """A lease is renewed while something else is asked for."""
    agent = Agent(host)
    agent.settle()
    talk = talking._TALKS[host]
    with talk._lock:
        agent.renew()
    agent.renew()
    assert alone(host) == ["renew"]
    talking.end(host)


def test_no_process_stays(host: FakeRemoteHost, tmp_path: Path) -> None:
    """When nothing more is asked: a job has its machine for itself."""
    Agent(host).settle()
    process = _talks(tmp_path)
    talking.end(host)
    deadline = time.monotonic() + 20
    while _is_there(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_there(process)


def test_threads_ask_at_once(host: FakeRemoteHost) -> None:
    """Each gets its own answer."""
    agent, found = Agent(host), list[float | None]()
    agent.settle()
    threads = [threading.Thread(target=lambda: found.append(agent.guard(None))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([each for each in found if each]) == 4
    talking.end(host)


def _talks(tmp_path: Path) -> int:
    """The process that reads requests for this test's machine."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            home = f"HOME={tmp_path / 'home'}".encode()
            if words[-2:-1] == [b"talk"] and home in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError("nobody talks")


def _is_there(process: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
