"""Who is told that a run has ended, and what."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.plugin import notify as notifying
from snakemake_executor_ec2.plugin.notify import Ended, Notices, Receiver, notify, receiver
from tests.receiver import SECRET, receiving

ENDED = Ended(
    run="20261127-1", folder="weather", outcome="success", jobs_done=3, jobs_failed=0, cost_usd=0.25
)
DOCUMENT = {
    "run": "20261127-1",
    "folder": "weather",
    "outcome": "success",
    "jobs_done": 3,
    "jobs_failed": 0,
    "cost_usd": 0.25,
    "text": "Snakemake in weather: success; 3 jobs done, 0 failed; $0.2500 on EC2",
}
COPY = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"


def told(to: Receiver) -> tuple[bool, list[str], list[float]]:
    """Whether it worked, the warnings, and how long was waited between tries."""
    warnings: list[str] = []
    pauses: list[float] = []
    return notify(to, ENDED, warnings.append, pauses.append), warnings, pauses


@pytest.mark.parametrize(
    "option", ["no-such-program now", f"{sys.executable} no_such.py", "sh -e no_such.sh"]
)
def test_a_command_that_is_not_there_is_refused(option: str) -> None:
    """Before anything is launched; at the end nobody would hear of it. Unless it is another computer's."""
    with pytest.raises(ConfigurationError, match=r"there is no (program|file) no.such"):
        Notices(option, print)
    Notices(option, print, here=False)
    Notices(f"{sys.executable} {__file__} --as no_such.txt", print)


def test_a_secret_before_a_program_is_not_repeated() -> None:
    """No shell reads the command, so that it is taken for a program."""
    with pytest.raises(ConfigurationError, match="there is no program TOKEN=… on") as error:
        Notices(f"TOKEN={SECRET} curl", print)
    assert SECRET not in str(error.value)
    assert SECRET not in "".join(told(Receiver(command=(f"TOKEN={SECRET}", "curl")))[1])


@pytest.mark.parametrize(
    "option",
    [
        "sh -c 'cd /; ./no_such.sh'",
        f"sh -c 'TOKEN={SECRET} {'x' * 300}.sh'",
        f"{sys.executable} -c 'print(1)' no_such.py",
        "env X=1 there.sh",
        f"sh {__file__} no_such.sh",
    ],
)
def test_what_may_be_no_script_of_this_computer_is_not_refused(option: str) -> None:
    """Code, an argument, a file elsewhere."""
    Notices(option, print)


def test_a_url_gets_the_document() -> None:
    """By POST, as JSON, once."""
    with receiving() as (url, got):
        assert told(Receiver(url=url))[:2] == (True, [])
    assert got == [(f"/{SECRET}", DOCUMENT)]


def test_a_server_that_is_busy_is_asked_again() -> None:
    """Until it takes it."""
    with receiving(answers=(503, 429, 200)) as (url, got):
        well, warnings, pauses = told(Receiver(url=url))
    assert (well, warnings, len(got)) == (True, [], 3)
    assert pauses == [0.0, 1.0, 3.0]


@pytest.mark.parametrize(("status", "tries"), [(500, 3), (404, 1), (302, 1)])
def test_a_server_that_refuses_is_told_of(status: int, tries: int) -> None:
    """Once, without the URL; a redirection is not followed, because nothing would be sent there."""
    with receiving(answers=(status,)) as (url, got):
        well, (warning,), _ = told(Receiver(url=url))
    assert not well
    assert f"answered with status {status}" in warning
    assert SECRET not in warning
    assert len(got) == tries
    assert "GET" not in [each[0] for each in got]


def test_a_server_that_is_not_there_is_told_of() -> None:
    """After a few tries, without the URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/{SECRET}"
        well, (warning,), pauses = told(Receiver(url=url))
    assert not well
    assert "cannot be reached (Connection refused)" in warning
    assert SECRET not in warning
    assert len(pauses) == 3


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """For long."""
    monkeypatch.setattr(notifying, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        well, (warning,), _ = told(Receiver(url=f"http://127.0.0.1:{silent.getsockname()[1]}/{SECRET}"))
    assert not well
    assert "does not answer" in warning
    assert SECRET not in warning


def test_a_command_gets_the_document(tmp_path: Path) -> None:
    """On its standard input; no shell reads it, so that what a shell would expand stays as it is."""
    file = tmp_path / "got $HOME; *"
    found = receiver(f"""{sys.executable} -c "{COPY}" '{file}'""")
    assert found is not None
    assert told(found)[:2] == (True, [])
    assert json.loads(file.read_text()) == DOCUMENT


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/no/such/program token-1", "program cannot be run: No such file or directory"),
        (f"{sys.executable} -c 'raise SystemExit(4)' token-1", "ended with status 4"),
        ("sleep 60 token-1 2", "took longer than 0 s"),
    ],
)
def test_a_command_that_fails_is_told_of(
    command: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its name: its arguments may be secrets."""
    sleeps = tmp_path / "sleep"
    sleeps.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    sleeps.chmod(0o755)
    if command.startswith("sleep"):
        monkeypatch.setattr(notifying, "COMMAND_S", 0.3)
        command = f"{sleeps} token-1"
    found = receiver(command)
    assert found is not None
    well, (warning,), _ = told(found)
    assert not well
    assert words in warning
    assert "token-1" not in warning


@pytest.mark.parametrize(
    "text",
    [
        f"https:///{SECRET}",
        f"https://me:{SECRET}@example.org/",
        f"https://example.org/{SECRET} x",
        f"https://example.org:x/{SECRET}",
        f"ftp://example.org/{SECRET}",
        f"mail '{SECRET}",
    ],
)
def test_what_cannot_be_told_is_refused(text: str) -> None:
    """Without what was said: it may be a secret."""
    with pytest.raises(ConfigurationError, match="--ec2-notify") as error:
        receiver(text)
    assert SECRET not in str(error.value)


def test_nobody_is_told_without_the_option() -> None:
    """Nor if it is empty."""
    assert receiver(None) is None
    assert receiver(" ") is None


def test_a_receiver_does_not_show_what_it_is() -> None:
    """In a traceback, for instance."""
    assert SECRET not in repr([receiver(f"https://example.org/{SECRET}"), receiver(f"tell {SECRET}")])


def test_an_unknown_cost_is_no_number() -> None:
    """It is said instead."""
    unknown = Ended(run=None, folder="f", outcome="failure", jobs_done=0, jobs_failed=1, cost_usd=None)
    assert unknown.document()["cost_usd"] is None
    assert "an unknown cost" in unknown.document()["text"]
