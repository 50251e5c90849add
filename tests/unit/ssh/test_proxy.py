"""`--ec2-ssh-proxy`: what is taken for a command, and what becomes of its program."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snakemake_executor_ec2.errors import ConfigurationError, ConnectError, ConnectionLost
from snakemake_executor_ec2.local.jump import COMMAND
from snakemake_executor_ec2.ssh import connector as connector_module
from snakemake_executor_ec2.ssh.connector import SshConnector
from snakemake_executor_ec2.ssh.keys import new_key_pair
from snakemake_executor_ec2.ssh.proxy import ProxyCommand, proxy_command
from tests.sshd import LOOPBACK, Server, asyncssh_server

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB1aVzDOzF9tHbsv5XIG8V3sN8Q7UJEjTXEFfsnRzBqk"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ssh -W %h:%p bastion", ["ssh", "-W", "10.0.0.7:22", "bastion"]),
        ("exec ssh -W '[%h]:%p' -l %r gate", ["ssh", "-W", "[10.0.0.7]:22", "-l", "ann", "gate"]),
        (
            "aws ec2-instance-connect open-tunnel --instance-id %n",
            ["aws", "ec2-instance-connect", "open-tunnel", "--instance-id", "i-1"],
        ),
        ("sh -c 'nc %h %p | tee 100%%'", ["sh", "-c", "nc 10.0.0.7 22 | tee 100%"]),
    ],
)
def test_placeholders_are_filled_within_their_arguments(text: str, words: list[str]) -> None:
    """Whatever a value holds: no shell reads it."""
    proxy = proxy_command(text)
    assert proxy is not None
    assert proxy.filled(address="10.0.0.7", name="i-1", port=22, user="ann") == words
    (argument,) = ProxyCommand(("%h",)).filled(address="a b; %n", name="i-1", port=22, user="ann")
    assert argument == "a b; %n"


@pytest.mark.parametrize("text", [None, "", " ", "none"])
def test_no_proxy(text: str | None) -> None:
    """As in ssh's configuration, `none` overrules what a profile says."""
    assert proxy_command(text) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ssh -W %x", "no placeholder %x"),
        ("ssh 100%", "no placeholder %"),
        ("ssh 'bastion", "No closing quotation"),
        ("exec", "names no program"),
        ("ssh -W %h:%p gate 2>/dev/null", "sh -c"),
        ("ssh -W %h:%p gate | cat", "sh -c"),
        ("ssh -W %h:%p $GATE", "sh -c"),
        ("aws ssm start-session --target %h", "%n here"),
        ("aws ec2-instance-connect open-tunnel --instance-id=%h", "%n here"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, told: str) -> None:
    """Before a machine waits for it, with the option's name."""
    with pytest.raises(ConfigurationError, match="--ec2-ssh-proxy") as refused:
        proxy_command(text)
    assert told in str(refused.value)


def test_programs_that_are_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also the one that AWS's own program calls."""
    (tmp_path / "aws").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="no program 'gate'"):
        ProxyCommand(("gate",)).require_programs()
    ProxyCommand(("aws", "ec2-instance-connect")).require_programs()
    with pytest.raises(ConfigurationError, match="session-manager-plugin"):
        ProxyCommand(("aws", "ssm")).require_programs()


# --- its program ----------------------------------------------------------------------------


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Is in the environment of all programs of the test, none of which may outlive it."""
    monkeypatch.setenv("TEST_OF_PROXY", str(tmp_path))
    yield f"TEST_OF_PROXY={tmp_path}"
    _assert_none_left(f"TEST_OF_PROXY={tmp_path}")


def _assert_none_left(mark: str) -> None:
    deadline = time.monotonic() + 10
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def _marked(mark: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{mark}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
    return found


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch, mark: str) -> Callable[..., str]:
    """Connects through a shell script; what it fails with."""
    monkeypatch.setattr(connector_module, "ATTEMPT_S", 0.1)

    def fail(script: str, *, timeout_s: float = 10.0) -> str:
        proxy = proxy_command(f"sh -c {shlex.quote(script)}")
        connector = SshConnector(user="ann", login_keys=[new_key_pair()], proxy=proxy)
        with pytest.raises(ConnectError) as failed:
            connector.connect("10.0.0.7", name="i-1", host_keys=[HOST_KEY], timeout_s=timeout_s)
        return failed.value.message

    return fail


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (
            "echo 'An error occurred (TargetNotConnected)' >&2; exit 254",
            "exit status 254; it said: An error occurred (TargetNotConnected).",
        ),
        ("printf 'a\\n\\n\\033[1mb\\n' >&2; exit 1", "it said: a; [1mb."),
        ("kill -9 $$", "ended by signal 9; it said nothing."),
        ("echo wrong door", "exit status 0; it said: wrong door."),
        ("exec 0<&- 1>&-; sleep 60", "it closed the connection; it said nothing"),
    ],
)
def test_a_program_that_gives_no_connection(attempt: Callable[..., str], script: str, told: str) -> None:
    """One sentence says which machine, how the program ended, and what it has said."""
    said = attempt(script)
    assert told in said
    assert said.startswith("The proxy command `sh -c ")
    assert "did not reach i-1" in said
    assert "\n" not in said


def test_a_program_that_hangs(attempt: Callable[..., str]) -> None:
    """It is given up in time, with all that it has started, though it may ignore signals."""
    began = time.monotonic()
    said = attempt("trap '' TERM; echo waiting for Godot >&2; sleep 60 & sleep 61 & wait", timeout_s=0.5)
    assert time.monotonic() - began < 10
    assert "is running, and no ssh server answered; it said: waiting for Godot" in said


def test_a_program_that_says_much(attempt: Callable[..., str]) -> None:
    """It never stands still because nobody listens; the end of what it says is kept."""
    said = attempt("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 3")
    assert "exit status 3" in said
    assert "the end" in said
    assert len(said) < 1000


def test_a_program_that_is_not_there() -> None:
    """It may have gone since the run began."""
    gone = ProxyCommand(("/no/such/program",))
    connector = SshConnector(user="ann", login_keys=[new_key_pair()], proxy=gone)
    with pytest.raises(ConnectError, match="cannot be started"):
        connector.connect("10.0.0.7", host_keys=[HOST_KEY], timeout_s=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with asyncssh_server(tmp_path_factory.mktemp("sshd")) as made:
        yield made


def test_a_program_that_greets(server: Server, mark: str) -> None:
    """AWS's says a line about its session before the server's first words come, however much later."""
    script = f"echo; echo 'Starting session with SessionId: ann-1'; sleep 2.5; exec {shlex.join(COMMAND)}"
    connector = SshConnector(
        user=server.user,
        login_keys=[server.login],
        port=server.port,
        proxy=ProxyCommand(("sh", "-c", script)),
    )
    host = connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=10)
    assert host.run("echo $((6 * 7))").stdout == b"42\n"
    host.close()


def test_a_program_that_ends_in_between(server: Server, mark: str) -> None:
    """It is a lost connection, which `machines/connection.py` makes again."""
    script = f"exec 3<&0; {shlex.join(COMMAND)} <&3 & sleep 1; kill $!"
    proxy = ProxyCommand(("bash", "-c", script))
    connector = SshConnector(user=server.user, login_keys=[server.login], port=server.port, proxy=proxy)
    host = connector.connect(LOOPBACK, host_keys=[server.host_key], timeout_s=10)
    with pytest.raises(ConnectionLost):
        host.run("sleep 30")
    host.close()


def test_nothing_outlives_an_interpreter_that_ends(mark: str) -> None:
    """Neither an orderly end without `close`, nor one that leaves no time for anything."""
    code = (
        "import os, sys\nfrom snakemake_executor_ec2.ssh.proxy import open_proxy\n"
        "kept = open_proxy(['sh', '-c', sys.argv[1]], 'i-1', 5)\n"
        "kept.settimeout(None)\nprint(kept.program.said())\nif sys.argv[2:]: os._exit(0)\n"
    )
    for script, *how in (("trap '' TERM; sleep 60 & wait",), ("exec cat", "killed")):
        subprocess.run([sys.executable, "-c", code, script, *how], check=True, timeout=30)
        _assert_none_left(mark)
