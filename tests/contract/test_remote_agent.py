"""The agent over a real connection, and whom a connection is made with."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path

import paramiko
import pytest
from paramiko.common import cMSG_CHANNEL_EOF

from snakemake_executor_ec2.agent import client
from snakemake_executor_ec2.agent.archive import Entry
from snakemake_executor_ec2.agent.client import Agent, JobStart
from snakemake_executor_ec2.agent.protocol import Finished, Output, Position, Started
from snakemake_executor_ec2.agent.transfer import Download, Upload
from snakemake_executor_ec2.errors import ConnectError, ConnectionLost, HostKeyMismatch, PreparationError
from snakemake_executor_ec2.ssh import transport
from snakemake_executor_ec2.ssh.connector import SshConnector
from snakemake_executor_ec2.ssh.keys import fingerprint, new_key_pair
from tests.contract.rigs import Rig, serve
from tests.sshd import LOOPBACK, Server

# --- the agent, over a real connection ----------------------------------------------------


def test_an_agent_that_is_there_is_not_written_again(rig: Rig) -> None:
    """There may be no room for it any more, and what the machine has made is still to be fetched."""
    agent = Agent(rig.host)
    agent.install()
    (file,) = rig.home.glob(".snakemake-ec2/*/agent.pyz")
    before = file.stat()
    agent.install()
    assert file.stat() == before
    assert agent.status("job-1").state == "unknown"


def test_odd_files_go_up_and_come_down(rig: Rig, tmp_path: Path) -> None:
    """Names, contents, modes and modification times survive the way to the machine and back."""
    agent = Agent(rig.host)
    agent.install()
    here, there = tmp_path / "here", rig.home / "work"
    names = ["plain", "with space", "new\nline", "quote'\"$(x)", "ünïcode", os.fsdecode(b"bytes\xff\xfe")]
    here.mkdir()
    (here / "empty").mkdir()
    for name in names:
        (here / name).write_bytes(name.encode("utf-8", "surrogateescape"))
        (here / name).chmod(0o640)
        os.utime(here / name, ns=(1_700_000_000_123_456_789, 1_700_000_000_123_456_789))
    (here / "link").symlink_to("plain")

    assert all(answer.ok for answer in agent.workdir([str(there)]))
    Upload([Entry(path=str(here), name=str(there / "in"))]).over(rig.host)
    back = tmp_path / "back"
    with Download(
        [], lambda _: str(back), must=[str(there / "in")], judge=lambda _target, text, _end: text
    ) as download:
        fetched = download.over(rig.host)

    assert set(fetched.kinds.values()) == {"directory"}
    assert sorted(os.listdir(back)) == sorted([*names, "empty", "link"])  # noqa: PTH208 - raw names
    for name in names:
        assert (back / name).read_bytes() == name.encode("utf-8", "surrogateescape")
        assert (back / name).stat().st_mode & 0o777 == 0o640
        assert (back / name).stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert (back / "link").readlink() == Path("plain")


def test_an_image_with_an_old_python(rig: Rig) -> None:
    """Which version it is and which is needed, rather than what that version makes of our sources."""
    check = client._IS_NEW_ENOUGH.replace("(3, 9)", "(4, 0)")

    done = rig.host.run(f'python3 -c "{check}"')

    assert done.exit_code
    assert b"its python3 is 3." in done.stderr


def test_an_old_python_is_told_where_the_agent_would_stay(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sentence, and nothing is installed."""
    monkeypatch.setattr(client, "_SETTLE", client._SETTLE.replace("(3, 9)", "(4, 0)"))
    with pytest.raises(PreparationError, match=r"its python3 is 3\.\d+, and 3\.9 or newer is needed"):
        Agent(rig.host).settle()
    assert not list(rig.home.glob(".snakemake-ec2"))


def test_a_shell_that_greets_spoils_nothing(server: Server, tmp_path: Path) -> None:
    """What startup files print before a command, line or not, gets into no answer and no file."""
    (server.home / ".bashrc").write_text("echo 'Welcome {user}'; seq 3000; printf 'no line {'")
    connector = SshConnector(user=server.user, login_keys=[server.login], port=server.port)
    host = connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=5)
    if b"Welcome" not in host.run("true").stdout:
        host.close()
        pytest.skip("bash reads no startup files for this server's commands")
    agent = Agent(host)
    agent.install()
    agent.guard(None)
    source = server.home / "out"
    source.write_text("made there")
    with Download(
        [str(source)], lambda _: str(tmp_path / "here"), judge=lambda _target, text, _end: text
    ) as download:
        fetched = download.over(host)
    job = JobStart(key="job-1", command="echo said", cwd=str(server.home), label="rule talk")

    assert agent.start(job).state == "running"
    events = [line.event for line in agent.follow("job-1", heartbeat_s=0.2)]
    host.close()

    assert fetched.kinds == {str(source): "file"}
    assert (tmp_path / "here").read_text() == "made there"
    assert b"".join(event.data for event in events if isinstance(event, Output)).endswith(b"said\n")


def test_a_job_outlives_the_connection_and_is_followed_on(rig: Rig) -> None:
    """After a cut, following goes on where it was, and nothing is told twice or left out."""
    agent = Agent(rig.host)
    agent.install()
    job = JobStart(
        key="job-1",
        command='echo "$SECRET"; for n in 1 2 3 4 5; do echo $n; sleep 0.2; done; sleep 1; exit 7',
        cwd=str(rig.home),
        label="rule count",
        env={"SECRET": "hush"},
    )
    assert agent.start(job).state == "running"
    said = b""
    position = Position()
    started = False
    lines = agent.follow("job-1", heartbeat_s=0.2)
    while b"2" not in said:
        line = next(lines)
        position = line.at
        started = started or isinstance(line.event, Started)
        if isinstance(line.event, Output):
            said += line.event.data
    rig.cut()
    with pytest.raises(ConnectionLost):  # after what had arrived already, which is told again later
        list(lines)

    host = rig.connect()
    agent = Agent(host)
    assert agent.start(job).state in ("running", "finished")
    finished = None
    for line in agent.follow("job-1", position, heartbeat_s=0.2):
        if isinstance(line.event, Output):
            said += line.event.data
        if isinstance(line.event, Finished):
            finished = line.event
    assert started
    assert said == b"hush\n1\n2\n3\n4\n5\n"
    assert finished is not None
    assert finished.result.exit_code == 7
    assert agent.start(job).last == finished
    assert not any(b"hush" in file.read_bytes() for file in _files(rig.home) if file.name != "output.log")
    host.close()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# --- whom we talk to (ssh only) -----------------------------------------------------------


def test_another_host_key_gets_nothing(server: Server) -> None:
    """Neither a login nor any data is sent to a server whose key is not pinned."""
    pinned = new_key_pair().public
    connector = SshConnector(user=server.user, login_keys=[server.login], port=server.port)
    with pytest.raises(HostKeyMismatch) as caught:
        connector.connect(LOOPBACK, host_keys=[pinned], timeout_s=5)
    for word in (LOOPBACK, fingerprint(pinned), fingerprint(server.host_key)):
        assert word in str(caught.value)
    time.sleep(0.2)
    assert server.logins_tried() == []


def test_any_of_the_pinned_keys_will_do(server: Server) -> None:
    """While a host key is renewed there are two."""
    connector = SshConnector(user=server.user, login_keys=[server.login], port=server.port)
    keys = [new_key_pair().public, server.host_key + " and a comment"]
    host = connector.connect(LOOPBACK, host_keys=keys, timeout_s=5)
    assert host.run("echo in").stdout == b"in\n"
    host.close()
    assert server.logins_tried()


def test_a_login_key_that_is_not_wanted(server: Server) -> None:
    """Being refused is a ConnectError that names the user; the next key is tried first."""
    connector = SshConnector(user=server.user, login_keys=[new_key_pair()], port=server.port)
    with pytest.raises(ConnectError, match=server.user):
        connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=5)
    connector = SshConnector(user=server.user, login_keys=[new_key_pair(), server.login], port=server.port)
    connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=5).close()


def test_new_keys_are_agreed_on_while_data_flows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that is closed in the midst of a key exchange does not end the connection."""
    monkeypatch.setattr(transport, "_REKEY_BYTES", 1 << 20)
    with contextlib.ExitStack() as stack:
        server = serve(stack, "openssh", tmp_path / "server")
        connector = SshConnector(user=server.user, login_keys=[server.login], port=server.port)
        host = connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=5)
        for _ in range(20):
            assert len(host.run("head -c 1048000 /dev/zero").stdout) == 1_048_000
        host.close()


def test_nothing_is_sent_after_a_channel_s_close(tmp_path: Path) -> None:
    """The end of input that another thread was about to send would end the connection, all of it."""
    with contextlib.ExitStack() as stack:
        server = serve(stack, "openssh", tmp_path / "server")
        connector = SshConnector(user=server.user, login_keys=[server.login], port=server.port)
        host = connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=5)
        channel = host._transport.open_session(timeout=10)
        channel.exec_command(b"true")
        assert channel.recv_exit_status() == 0
        channel.close()
        late = paramiko.Message()
        late.add_byte(cMSG_CHANNEL_EOF)
        late.add_int(channel.remote_chanid)
        time.sleep(0.5)  # the server has closed its side
        channel.transport._send_user_message(late)  # type: ignore[union-attr]
        assert host.run("echo on").stdout == b"on\n"
        host.close()


def test_nobody_there_or_nobody_who_speaks_ssh(unused_port: int) -> None:
    """A closed port and a mute server are ConnectErrors, within the time given."""
    key = new_key_pair()
    connector = SshConnector(user="somebody", login_keys=[key], port=unused_port)
    with pytest.raises(ConnectError):
        connector.connect(LOOPBACK, host_keys=[key.public], timeout_s=1)
    with socket.create_server((LOOPBACK, unused_port)):
        began = time.monotonic()
        with pytest.raises(ConnectError):
            connector.connect(LOOPBACK, host_keys=[key.public], timeout_s=0.5)
        assert time.monotonic() - began < 3


@pytest.fixture
def unused_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])
