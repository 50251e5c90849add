"""`follow`: from where it was, with a pulse, and not for longer than somebody listens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.unit.agent.machine import Machine


def _follow(machine: Machine, *options: str, key: str = "job") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        machine.command("follow", key, *options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=machine.environment,
    )


def _rest(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    assert process.stdout
    with process, process.stdout as stream:
        return [json.loads(line) for line in stream]


def _text(lines: list[dict[str, Any]]) -> str:
    return "".join(line.get("output", "") for line in lines)


def test_events_and_output_in_order(machine: Machine) -> None:
    """The first event first, the last one last, every line with where to go on."""
    machine.start("echo one; sleep 0.5; echo two")
    lines = _rest(_follow(machine))
    assert lines[0]["event"]["type"] == "started"
    assert lines[-1]["event"]["type"] == "finished"
    assert _text(lines) == "one\ntwo\n"
    size = (machine.state / "jobs" / "job" / "events.jsonl").stat().st_size
    assert lines[-1]["at"] == [size, 8]


def test_every_line_is_a_place_to_go_on_from(machine: Machine) -> None:
    """Whatever was read last, the rest is neither more nor less than what was not."""
    machine.start(
        "for n in 1 2 3; do echo $n; sleep 0.3; done; printf '\\303'; sleep 0.4; printf '\\244\\377'"
    )
    machine.finish()
    live = _rest(_follow(machine))
    data = [line.get("output", "").encode("utf-8", "surrogateescape") for line in live]
    assert b"".join(data) == b"1\n2\n3\n\xc3\xa4\xff"
    for number, line in enumerate(live[:-1]):
        events, output = line["at"]
        rest = _rest(_follow(machine, "--events", str(events), "--output", str(output)))
        assert _text(rest) == _text(live[number + 1 :])
        assert [one["event"] for one in rest if "event" in one] == [
            one["event"] for one in live[number + 1 :] if "event" in one
        ]


def test_much_output(machine: Machine) -> None:
    """It comes in pieces, all of it, and before the end."""
    machine.start("head -c 3000000 /dev/zero | tr '\\0' x")
    machine.finish()
    lines = _rest(_follow(machine))
    assert len(_text(lines)) == 3_000_000
    assert lines[-1]["event"]["type"] == "finished"


def test_a_newline_is_answered_and_renews_the_lease(machine: Machine) -> None:
    """So that the controller can tell a dead connection from a quiet job."""
    machine.start("sleep 30", lease_s=50)
    process = _follow(machine)
    assert process.stdin
    assert process.stdout
    assert b"started" in process.stdout.readline()
    time.sleep(2)
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["pulse"] is True
    assert machine.ask("status").said["lease_left_s"] > 48.2
    machine.end()
    assert _rest(process)[-1]["event"]["type"] == "finished"


def test_it_ends_with_its_standard_input(machine: Machine) -> None:
    """sshd closes it when the connection is gone; the job does not mind."""
    machine.start("sleep 30")
    process = _follow(machine)
    assert process.stdin
    process.stdin.close()
    assert process.wait(5) == 0
    assert machine.ask("status", "job").said["state"] == "running"
    machine.end()
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    process.stderr.close()


def test_it_ends_where_no_newline_comes(machine: Machine) -> None:
    """A half-open connection must not keep processes for days."""
    machine.start("sleep 30")
    began = time.monotonic()
    lines = _rest(_follow(machine, "--patience", "0.5"))
    assert time.monotonic() - began < 5
    assert len(lines) == 1
    machine.end()


def test_it_ends_where_nobody_listens(machine: Machine) -> None:
    """A closed standard output is no traceback."""
    machine.start("while sleep 0.05; do echo on; done")
    process = _follow(machine)
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr
    with process.stderr as stream:
        assert stream.read() == b""
    assert process.wait(5) == 1
    assert process.stdin
    process.stdin.close()
    machine.end()


def test_a_killed_supervisor_is_told(machine: Machine) -> None:
    """Of a machine that is well, it is the job's own end; of one that was booted since, nothing is known."""
    for key, boot in (("well", None), ("booted", "another")):
        machine.start("echo printed; sleep 30", key=key)
        if boot:
            (machine.state / "jobs" / key / "boot").write_text(boot)
        process = _follow(machine, key=key)
        for pid, line in machine.processes():
            if "agent.pyz supervisor" in line or "sleep" in line:
                os.kill(pid, signal.SIGKILL)
        last = _rest(process)[-1]
        if boot:
            assert "lost" in last
        else:
            assert (last["event"]["type"], last["event"]["exit_code"]) == ("finished", -9)


def test_a_job_that_is_not_there(machine: Machine) -> None:
    """One sentence."""
    answer = machine.ask("follow", "job")
    assert answer.exit_code == 1
    assert answer.stderr == "there is no job job on this machine\n"


def test_it_costs_next_to_nothing(machine: Machine) -> None:
    """A job that only runs keeps neither its supervisor nor its follower busy."""
    machine.start("sleep 12")
    process = _follow(machine)
    try:
        time.sleep(0.6)
        before = _cpu_seconds(machine)
        deadline = time.monotonic() + 6  # what starts is busy, the longer the busier the computer is
        while (now := _cpu_seconds(machine)) != before and time.monotonic() < deadline:
            before = now
            time.sleep(0.5)
        time.sleep(2)
        used = {line: seconds - before.get(line, 0) for line, seconds in _cpu_seconds(machine).items()}
        assert len(used) >= 2
        assert all(seconds <= 0.06 for seconds in used.values()), used
    finally:
        machine.end()
        _rest(process)


def _cpu_seconds(machine: Machine) -> dict[str, float]:
    seconds = {}
    for pid, line in machine.processes():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        seconds[f"{pid} {line}"] = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return seconds
