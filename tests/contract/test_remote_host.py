"""What every RemoteHost must do: the paramiko adapter, on two real servers, and the fake."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from snakemake_executor_ec2.agent.archive import Entry
from snakemake_executor_ec2.agent.client import Agent, JobStart
from snakemake_executor_ec2.agent.protocol import Finished, Output, Position, Started
from snakemake_executor_ec2.errors import ConnectError, ConnectionLost, HostKeyMismatch, StagingError
from snakemake_executor_ec2.ports import RemoteHost
from snakemake_executor_ec2.ssh import transport
from snakemake_executor_ec2.ssh.connector import SshConnector
from snakemake_executor_ec2.ssh.keys import fingerprint, new_key_pair
from tests.fakes.remote_host import FakeMachine, FakeRemoteHost
from tests.sshd import LOOPBACK, Server, Wire, asyncssh_server, find_sshd, openssh

_SILENCE_S = 1.0
_SERVERS = {"openssh": openssh, "asyncssh": asyncssh_server}


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A machine, and a connection to it that can be broken."""

    home: Path
    host: RemoteHost
    connect: Callable[[], RemoteHost]
    cut: Callable[[], None]
    freeze: Callable[[], None]


@pytest.fixture(params=["openssh", "asyncssh", "fake"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    with contextlib.ExitStack() as stack:
        if request.param == "fake":
            made = _fake_rig(tmp_path)
        else:
            made = _ssh_rig(stack, _serve(stack, request.param, tmp_path / "server"))
        yield made
        made.host.close()
    _assert_nothing_left(made.home)


@pytest.fixture(params=["openssh", "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with contextlib.ExitStack() as stack:
        yield _serve(stack, request.param, tmp_path / "server")


def _serve(stack: contextlib.ExitStack, kind: str, folder: Path) -> Server:
    if kind == "openssh" and find_sshd() is None:
        pytest.skip("OpenSSH's sshd is not installed (package openssh-server)")
    return stack.enter_context(_SERVERS[kind](folder))


def _fake_rig(folder: Path) -> Rig:
    home = folder / "home"
    home.mkdir()
    machine = FakeMachine(home=home, host_key="ssh-ed25519 AAAA")

    def connect() -> FakeRemoteHost:
        return FakeRemoteHost(machine, silence_s=_SILENCE_S)

    host = connect()
    return Rig(home=home, host=host, connect=connect, cut=host.cut, freeze=host.freeze)


def _ssh_rig(stack: contextlib.ExitStack, server: Server) -> Rig:
    wire = stack.enter_context(Wire(server.port))
    connector = SshConnector(
        user=server.user, login_keys=[server.login], port=wire.port, silence_s=_SILENCE_S
    )

    def connect() -> RemoteHost:
        return connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=10)

    return Rig(home=server.home, host=connect(), connect=connect, cut=wire.cut, freeze=wire.freeze)


def _assert_nothing_left(home: Path) -> None:
    """No process of the machine's may outlive its test."""
    deadline = time.monotonic() + 5
    while (left := _processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def _processes_of(home: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"HOME={home}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


# --- commands -----------------------------------------------------------------------------


def test_run_tells_exit_code_and_both_streams(rig: Rig) -> None:
    """A command that fails is no error of the connection's."""
    done = rig.host.run("echo out; echo err >&2; exit 3")
    assert (done.exit_code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_streams_are_binary_safe(rig: Rig) -> None:
    """Every byte value arrives as it was sent, more of them than any buffer holds."""
    data = bytes(range(256)) * 20_000
    assert rig.host.run("cat", stdin=data).stdout == data


@pytest.mark.parametrize("number", [1, 9, 15])
def test_a_signal_is_a_negative_exit_code(rig: Rig, number: int) -> None:
    """A command that was killed says by what."""
    assert rig.host.run(f"kill -{number} $$; sleep 5").exit_code == -number


def test_much_standard_error_blocks_nothing(rig: Rig) -> None:
    """Nobody has to read standard error for standard output to arrive."""
    command = "head -c 6000000 /dev/zero >&2; head -c 3000000 /dev/zero"
    assert len(rig.host.run(command).stdout) == 3_000_000
    assert rig.host.download(command, lambda stream: len(stream.read())) == 3_000_000
    assert rig.host.upload(f"{command}; cat >/dev/null", lambda _: None).exit_code == 0


def test_a_command_that_takes_too_long_is_given_up(rig: Rig) -> None:
    """`timeout_s` holds for the output and for the end."""
    for command in ("sleep 2", "exec >&- 2>&-; sleep 2"):
        host = rig.connect()
        with pytest.raises(ConnectionLost):
            host.run(command, timeout_s=0.3)
        host.close()


def test_several_commands_at_once(rig: Rig) -> None:
    """Threads share a connection."""
    results: dict[int, bytes] = {}

    def run(number: int) -> None:
        results[number] = rig.host.run(f"sleep 0.2; echo {number}").stdout

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"{number}\n".encode() for number in range(6)}


# --- transfers ----------------------------------------------------------------------------


def test_a_large_file_goes_up_and_comes_down(rig: Rig) -> None:
    """100 MB survive the round trip."""
    piece = os.urandom(1_000_000)
    sent = hashlib.sha256()

    def write(stream: BinaryIO) -> None:
        for _ in range(100):
            stream.write(piece)
            sent.update(piece)

    def read(stream: BinaryIO) -> str:
        received = hashlib.sha256()
        while data := stream.read(1 << 20):
            received.update(data)
        return received.hexdigest()

    assert rig.host.upload('cat > "$HOME/big"', write).exit_code == 0
    assert rig.host.download('cat "$HOME/big"', read) == sent.hexdigest()


def test_upload_to_a_command_that_stops_reading(rig: Rig) -> None:
    """The writer sees BrokenPipeError, the caller how the command ended."""
    seen: list[type[BaseException]] = []

    def write(stream: BinaryIO) -> None:
        try:
            for _ in range(1000):
                stream.write(bytes(100_000))
        except BrokenPipeError as error:
            seen.append(type(error))
            raise

    done = rig.host.upload("head -c 10 >/dev/null; echo full >&2; exit 4", write)
    assert (done.exit_code, done.stderr) == (4, b"full\n")
    assert seen == [BrokenPipeError]


def test_upload_passes_the_writers_own_error_on(rig: Rig) -> None:
    """An error of the caller's is the caller's."""

    def write(stream: BinaryIO) -> None:
        stream.write(b"begun")
        raise KeyError("mine")

    with pytest.raises(KeyError):
        rig.host.upload("cat >/dev/null", write)
    assert rig.host.run("echo well").stdout == b"well\n"


def test_download_of_a_command_that_fails(rig: Rig) -> None:
    """Its last words are the error, also where the reader has stumbled over the cut first."""

    def read(stream: BinaryIO) -> None:
        if len(stream.read()) < 10:
            raise ValueError("cut short")

    with pytest.raises(StagingError, match="no such thing"):
        rig.host.download("echo part; echo no such thing >&2; exit 1", read)


def test_download_passes_the_readers_own_error_on(rig: Rig) -> None:
    """A reader that refuses what comes need not wait for the rest."""

    def read(stream: BinaryIO) -> None:
        stream.read(10)
        raise KeyError("mine")

    with pytest.raises(KeyError):
        rig.host.download("cat /dev/zero", read)
    assert rig.host.run("echo well").stdout == b"well\n"


def test_download_sends_standard_input(rig: Rig) -> None:
    """What to fetch is told on standard input."""
    assert rig.host.download("tr a-z A-Z", lambda stream: stream.read(), stdin=b"abc") == b"ABC"


# --- lines --------------------------------------------------------------------------------


def test_lines_come_as_they_are_printed(rig: Rig) -> None:
    """A line is there before the command has ended, and the last one needs no newline."""
    lines = rig.host.lines("echo one; sleep 0.5; printf 'two\\n\\nthree'")
    assert next(lines) == b"one"
    first = time.monotonic()
    assert list(lines) == [b"two", b"", b"three"]
    assert time.monotonic() - first > 0.3


def test_lines_sends_heartbeats(rig: Rig) -> None:
    """A command that reads its standard input hears a newline now and then."""
    lines = rig.host.lines("read a && read b && echo two beats", heartbeat_s=0.1)
    assert list(lines) == [b"two beats"]


def test_lines_gives_a_silent_command_up(rig: Rig) -> None:
    """Silence on a connection that should pulse means that it is lost."""
    began = time.monotonic()
    with pytest.raises(ConnectionLost):
        list(rig.host.lines("echo one; read -r _", silence_s=0.4))
    assert time.monotonic() - began < 2.5


def test_lines_are_not_lost_to_a_slow_reader(rig: Rig) -> None:
    """Whoever takes the lines may take longer than the silence that is suffered."""
    lines = rig.host.lines("for n in 1 2 3; do echo $n; sleep 0.1; done", silence_s=0.4)
    seen = []
    for line in lines:
        seen.append(line)
        time.sleep(0.5)
    assert seen == [b"1", b"2", b"3"]


def test_lines_of_a_command_that_fails(rig: Rig) -> None:
    """Its last words are the error, after the lines that it printed."""
    lines = rig.host.lines("echo one; echo broken >&2; exit 2")
    assert next(lines) == b"one"
    with pytest.raises(StagingError, match="broken"):
        next(lines)


# --- connections that break ---------------------------------------------------------------


def _run(host: RemoteHost) -> None:
    host.run("while sleep 0.2; do echo on; done")


def _upload(host: RemoteHost) -> None:
    def write(stream: BinaryIO) -> None:
        while True:
            stream.write(bytes(1 << 20))

    host.upload("cat >/dev/null", write)


def _download(host: RemoteHost) -> None:
    def read(stream: BinaryIO) -> None:
        while stream.read(1 << 20):
            pass

    host.download("cat /dev/zero", read)


def _lines(host: RemoteHost) -> None:
    for _ in host.lines("while read -r _; do echo pulse; done", heartbeat_s=0.1):
        pass


@pytest.mark.parametrize("call", [_run, _upload, _download, _lines])
def test_a_cut_connection_is_lost_at_once(rig: Rig, call: Callable[[RemoteHost], None]) -> None:
    """Whatever is under way ends with ConnectionLost."""
    timer = threading.Timer(0.3, rig.cut)
    timer.start()
    began = time.monotonic()
    with pytest.raises(ConnectionLost):
        call(rig.host)
    assert 0.2 < time.monotonic() - began < 2.5
    timer.join()


@pytest.mark.parametrize("call", [_run, _upload, _download, _lines])
def test_a_half_open_connection_is_noticed(rig: Rig, call: Callable[[RemoteHost], None]) -> None:
    """A connection over which nothing comes any more, although it is asked, is lost after a while."""
    timer = threading.Timer(0.2, rig.freeze)
    timer.start()
    began = time.monotonic()
    with pytest.raises(ConnectionLost):
        call(rig.host)
    assert 0.8 < time.monotonic() - began < 4.5
    timer.join()


@pytest.mark.parametrize("call", [_run, _upload, _download, _lines])
def test_close_ends_what_other_threads_wait_for(rig: Rig, call: Callable[[RemoteHost], None]) -> None:
    """`close` may be called from any thread."""
    timer = threading.Timer(0.2, rig.host.close)
    timer.start()
    with pytest.raises(ConnectionLost):
        call(rig.host)
    timer.join()
    with pytest.raises(ConnectionLost):
        rig.host.run("echo again")


def test_a_quiet_connection_lives(rig: Rig) -> None:
    """A command that prints nothing for long is no lost connection."""
    assert rig.host.run(f"sleep {1.3 * _SILENCE_S}; echo there").stdout == b"there\n"


# --- the agent, over a real connection ----------------------------------------------------


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
    agent.unpack([Entry(path=str(here), name=str(there / "in"))])
    back = tmp_path / "back"
    fetched = agent.pack([str(there / "in")], lambda _: str(back), must=[str(there / "in")], roots=[back])

    assert set(fetched.kinds.values()) == {"directory"}
    assert sorted(os.listdir(back)) == sorted([*names, "empty", "link"])  # noqa: PTH208 - raw names
    for name in names:
        assert (back / name).read_bytes() == name.encode("utf-8", "surrogateescape")
        assert (back / name).stat().st_mode & 0o777 == 0o640
        assert (back / name).stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert (back / "link").readlink() == Path("plain")


def test_a_job_outlives_the_connection_and_is_followed_on(rig: Rig) -> None:
    """After a cut, following goes on where it was, and nothing is told twice or left out."""
    agent = Agent(rig.host)
    agent.install()
    job = JobStart(
        key="job-1",
        command='echo "$SECRET"; for n in 1 2 3 4 5; do echo $n; sleep 0.2; done; exit 7',
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
        server = _serve(stack, "openssh", tmp_path / "server")
        connector = SshConnector(user=server.user, login_keys=[server.login], port=server.port)
        host = connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=5)
        for _ in range(20):
            assert len(host.run("head -c 1048000 /dev/zero").stdout) == 1_048_000
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
