"""One job on the machine: it runs once, is watched, and is told of."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.machine import Machine


@pytest.mark.parametrize(
    ("command", "exit_code", "failure"),
    [
        ("true", 0, None),
        ("exit 3", 3, "exit"),
        ("kill -9 $$", -9, "signal"),
        ("bash -c 'kill -9 $$'; exit $?", 137, "signal"),
        ("echo 'No space left on device' >&2; exit 1", 1, "disk full"),
    ],
)
def test_how_a_job_ends(machine: Machine, command: str, exit_code: int, failure: str | None) -> None:
    """The exit code, negative for a signal, and what kind of failure it was."""
    assert machine.start(command).said["state"] == "running"
    event = machine.finish()
    assert (event["type"], event["exit_code"], event["failure"]) == ("finished", exit_code, failure)
    assert machine.events()[0]["type"] == "started"


def test_output_is_kept_as_it_was_printed(machine: Machine) -> None:
    """Standard output and error together, any bytes; standard input is empty."""
    machine.start(r"printf 'a\xff\n'; printf 'b\n' >&2; cat; pwd")
    machine.finish()
    assert machine.output() == b"a\xff\nb\n" + os.fsencode(machine.home) + b"\n"


def test_the_environment_reaches_the_job_and_nothing_else(machine: Machine) -> None:
    """Values are on no disk and in no command line, and programs are found in `path_prepend`."""
    tools = machine.home / "tools"
    tools.mkdir()
    (tools / "mytool").write_text('#!/bin/sh\necho "tool $SECRET" | rev\n')
    (tools / "mytool").chmod(0o755)
    machine.start("mytool; sleep 1", env={"SECRET": "topsecret"}, path_prepend=[str(tools)])
    lines = [line for _, line in machine.processes()]
    machine.finish()
    assert machine.output() == b"tercespot loot\n"
    assert any(line.endswith("agent.pyz supervisor rule a") for line in lines)
    assert not any("topsecret" in line for line in lines)
    files = [path for path in machine.state.rglob("*") if path.is_file()]
    assert files
    assert not any(b"topsecret" in path.read_bytes() for path in files)


def test_a_job_is_started_once(machine: Machine) -> None:
    """Asking again, while it runs or after it, starts nothing and says how it is."""
    assert machine.start("echo once; until [ -e go ]; do sleep 0.05; done").said["already"] is False
    again = machine.start("echo twice")
    assert (again.said["already"], again.said["state"]) == (True, "running")
    (machine.home / "go").touch()
    event = machine.finish()
    after = machine.start("echo thrice")
    assert (after.said["already"], after.said["state"], after.said["event"]) == (True, "finished", event)
    assert machine.output() == b"once\n"


def test_several_jobs_at_once(machine: Machine) -> None:
    """Keys keep them apart."""
    for key in ("one", "two"):
        machine.start(f"echo {key}", key=key)
    for key in ("one", "two"):
        machine.finish(key)
        assert machine.output(key) == f"{key}\n".encode()


@pytest.mark.parametrize("key", ["", "../x", ".x", "a/b", "a\nb"])
def test_a_key_that_is_no_folders_name(machine: Machine, key: str) -> None:
    """It is refused in one sentence."""
    answer = machine.start("true", key=key)
    assert answer.exit_code == 1
    assert "cannot be a job's key" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_job_that_cannot_be_started(machine: Machine) -> None:
    """Without its working directory it fails at once, and may be started later."""
    answer = machine.start("true", cwd="/not/there")
    assert answer.exit_code == 1
    assert "/not/there" in answer.stderr
    assert machine.start("true").said["state"] == "running"
    machine.finish()


def test_a_command_longer_than_an_argument_may_be(machine: Machine) -> None:
    """Snakemake lists every target of a group job."""
    machine.start(f"echo {'x' * 300_000} | wc -c")
    machine.finish()
    assert machine.output() == b"300001\n"


def test_a_job_over_its_runtime_is_ended(machine: Machine) -> None:
    """With all of its processes, and told as such."""
    machine.start("sleep 60 & sleep 60", runtime_s=0.5)
    event = machine.finish()
    assert event["failure"] == "over runtime"
    assert event["exit_code"] == -15
    assert 0.4 < event["seconds"] < 3
    assert not machine.wait_for_silence()


def test_what_a_job_leaves_in_the_background_ends_with_it(machine: Machine) -> None:
    """Nothing changes the outputs after the end."""
    machine.start("sleep 60 & echo done")
    machine.finish()
    assert not machine.wait_for_silence()


def test_a_machine_that_shuts_down_is_no_failure_of_the_job(machine: Machine) -> None:
    """The system's SIGTERM reaches the job and the supervisor: the job was interrupted."""
    machine.start("sleep 60")
    pids = [pid for pid, line in machine.processes() if "agent.pyz supervisor" in line or line == "sleep 60"]
    assert len(pids) == 2
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # the supervisor may have passed it on already
            os.kill(pid, signal.SIGTERM)
    assert machine.finish()["type"] == "interrupted"
    assert machine.ask("status", "job").said["state"] == "interrupted"


@pytest.mark.parametrize("by", ["the job", "somebody"])
def test_a_killed_supervisor_is_the_jobs_own_failure(machine: Machine, by: str) -> None:
    """`kill -9 -1` in a job kills its supervisor: another machine would see the same. What the job has left
    running ends, and it is not started again."""
    machine.start("echo $$; kill -9 $PPID; sleep 60 & sleep 60" if by == "the job" else "sleep 60")
    for pid, line in machine.processes():
        if by == "somebody" and "agent.pyz supervisor" in line:
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (said := machine.ask("status", "job").said)["state"] == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert said["state"] == "finished"
    assert (said["event"]["exit_code"], said["event"]["failure"]) == (-9, "signal")
    assert "kill -9 -1" in said["event"]["evidence"]
    assert machine.start("echo again").said["already"] is True
    assert not machine.wait_for_silence()


def test_a_machine_that_was_booted_since(machine: Machine) -> None:
    """Its jobs are lost, and no failures."""
    machine.start("sleep 60")
    (machine.state / "jobs" / "job" / "boot").write_text("another")
    for pid, _ in machine.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while machine.ask("status", "job").said["state"] == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert machine.ask("status", "job").said["state"] == "lost"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
@pytest.mark.parametrize(
    "daemon",
    [
        "setsid bash -c 'WRITE' &",
        "(setsid bash -c '(WRITE) & exit' &) ; sleep 0.2",
        "nohup bash -c 'WRITE' > /dev/null 2>&1 & disown; sleep 0.1",
        "trap '' TERM HUP; (WRITE) &",
    ],
)
def test_a_daemon_ends_with_its_job(machine: Machine, daemon: str) -> None:
    """In a session of its own, forked twice, deaf to signals: once the end is told nothing writes on."""
    machine.start(daemon.replace("WRITE", "while :; do date +%N >> grows; done"))
    machine.finish()
    (machine.home / "grows").write_text("")
    time.sleep(0.1)
    assert (machine.home / "grows").read_text() == ""
    assert not machine.wait_for_silence()


@pytest.mark.parametrize("variable", ["SSH_CLIENT", "SSH2_CLIENT"])
def test_the_profile_of_a_login_is_not_read_by_a_job(machine: Machine, variable: str) -> None:
    """The login's shell has read it, before the agent; bash would do it again for what ssh began."""
    machine.environment.update({variable: "192.0.2.1 50000 22", "SHLVL": "0", "SSH_TTY": "/dev/pts/0"})
    (machine.home / ".bashrc").write_text("umask 077; echo welcome; PATH=/nowhere")
    machine.start("umask; env | grep ^SSH || echo none")
    machine.finish()
    assert machine.output() == b"0022\nnone\n"


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o022])
def test_a_job_has_this_computers_umask(machine: Machine, umask: int) -> None:
    """What is private here is private there, and comes home so."""
    machine.start("umask; touch file; mkdir folder", umask=umask)
    machine.finish()
    assert machine.output() == b"%04o\n" % umask
    assert (machine.home / "file").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (machine.home / "folder").stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_usage_is_measured(machine: Machine) -> None:
    """Peak memory of the tree, CPU seconds of all that ran, growth of the disk."""
    program = (
        "import os, time; keep = bytearray(200 << 20); open('big', 'wb').write(keep); "
        "end = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"
        "while not os.path.exists('seen'): time.sleep(0.02)"  # samples are rarer where many processes run
    )
    machine.start(f'{machine.python} -c "{program}" & wait')
    deadline = time.monotonic() + 30
    while not (sampled := _sampled(machine, mem_mib=200)) and time.monotonic() < deadline:
        time.sleep(0.05)
    (machine.home / "seen").touch()
    event = machine.finish()
    assert sampled
    assert event["exit_code"] == 0
    assert 200 <= event["peak_mem_mib"] < 320
    assert 0.45 < event["cpu_seconds"] < 3
    assert event["peak_disk_mib"] >= 150


def _sampled(machine: Machine, *, mem_mib: int) -> bool:
    return any(event["type"] == "sample" and event["mem_mib"] >= mem_mib for event in machine.events())


def test_the_kernel_is_to_take_the_job_first(machine: Machine) -> None:
    """Out of memory, it is the job that dies, not ssh nor the supervisor."""
    machine.start("cat /proc/self/oom_score_adj")
    machine.finish()
    if Path("/proc/self/oom_score_adj").exists():
        assert machine.output() == b"500\n"


class _Metadata(BaseHTTPRequestHandler):
    asked: list[str]

    def do_PUT(self) -> None:
        assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(b"token-1")

    def do_GET(self) -> None:
        assert self.headers["X-aws-ec2-metadata-token"] == "token-1"
        self.asked.append(self.path)
        self._answer(json.dumps({"action": "terminate", "time": "2026-11-22T10:00:00Z"}).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def metadata() -> Iterator[tuple[str, list[str]]]:
    _Metadata.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Metadata) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", _Metadata.asked
        server.shutdown()
        thread.join()


def test_a_spot_notice_is_told(machine: Machine, metadata: tuple[str, list[str]]) -> None:
    """As soon as the metadata service has it, and once."""
    machine.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = metadata[0]
    machine.start("sleep 30")
    deadline = time.monotonic() + 20
    notices: list[dict[str, Any]] = []
    while not notices and time.monotonic() < deadline:
        time.sleep(0.1)
        with contextlib.suppress(FileNotFoundError):
            notices = [event for event in machine.events() if event["type"] == "spot_notice"]
    assert [(notice["action"], notice["time"]) for notice in notices] == [
        ("terminate", "2026-11-22T10:00:00Z")
    ]
    assert metadata[1] == ["/latest/meta-data/spot/instance-action"]
    machine.end()


@pytest.mark.root
def test_a_full_disk_does_not_silence_the_supervisor(machine: Machine, tmp_path: Path) -> None:
    """A job that fills the disk that the events are on is told as such."""
    small = machine.home / ".snakemake-ec2"
    small.mkdir(exist_ok=True)
    mounted = os.geteuid() == 0 and os.system(f"mount -t tmpfs -o size=2m tmpfs {small} 2>/dev/null") == 0  # noqa: S605
    if not mounted:
        pytest.skip("a small file system cannot be mounted here")
    try:
        machine.start(f"cat /dev/zero > {small}/fill; exit 1", cwd=str(small))
        event = machine.finish()
        assert event["failure"] == "disk full"
    finally:
        machine.wait_for_silence()
        os.system(f"umount {small}")  # noqa: S605
