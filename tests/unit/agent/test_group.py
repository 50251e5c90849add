"""The commands of a group's rules, one after another or side by side, as Snakemake runs them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.agent.machine import Machine
from tests.unit.agent.test_direct import PLAIN


def _member(command: str, *outputs: str, after: tuple[int, ...] = (), **more: Any) -> dict[str, Any]:
    directories = more.pop("directories", [])
    logs = more.pop("logs", [])
    request = {**PLAIN, "command": command, "made": outputs, "directories": directories, "threads": 1, **more}
    return {
        "label": f"rule {outputs[0] if outputs else 'x'}",
        "request": request,
        "outputs": outputs,
        "logs": logs,
        "after": after,
    }


def _run(machine: Machine, *members: dict[str, Any], cores: int = 1, temporary: Any = ()) -> dict[str, Any]:
    told = {"members": members, "cores": cores, "temporary": temporary}
    machine.start("", direct=told)
    return machine.finish()


def test_each_runs_when_what_it_reads_is_there(machine: Machine) -> None:
    """In the order of their dependencies, whatever their numbers; folders, touch() and logs as for others."""
    last = _member("cat a b/x > c; test -e t; test -e b/.snakemake_timestamp", "c", after=(1, 2))
    first = _member("echo 1 > a", "a", "t", touched=["t"])
    middle = _member("mkdir b; cat a > b/x", "b", after=(1,), directories=["b"], logs=["b.log"])
    ended = _run(machine, last, first, middle, cores=2)
    assert ended["exit_code"] == 0, machine.output()
    assert (machine.home / "c").read_text() == "1\n1\n"
    assert (machine.home / "b.log").read_text() == ""


def test_no_more_at_a_time_than_cores(machine: Machine) -> None:
    """Threads count; who wants more than there are gets all of them."""
    watch = "mkdir lock || {{ echo two >> both; }}; sleep 0.2; rmdir lock; echo > {0}"
    members = [
        _member(watch.format(name), name, threads=threads) for name, threads in (("a", 2), ("b", 9), ("c", 1))
    ]
    assert _run(machine, *members, cores=2)["exit_code"] == 0
    assert not (machine.home / "both").exists()


def test_they_run_side_by_side_where_there_are_cores(machine: Machine) -> None:
    """Each waits for the other: one after another they would wait for ever."""
    wait = "touch {0}; until test -e {1}; do sleep 0.02; done"
    ended = _run(machine, _member(wait.format("a", "b"), "a"), _member(wait.format("b", "a"), "b"), cores=2)
    assert ended["exit_code"] == 0


def test_after_a_failure_nothing_is_begun(machine: Machine) -> None:
    """Who runs may end; the exit status is that of who failed, and the log names it."""
    failing = _member("sleep 0.2; exit 5", "a")
    beside = _member("sleep 0.5; echo > b", "b")
    ended = _run(
        machine, failing, beside, _member("echo > c", "c"), _member("echo > d", "d", after=(0,)), cores=2
    )
    assert ended["exit_code"] == 5
    assert b"rule a failed with exit status 5" in machine.output()
    assert (machine.home / "b").exists()
    assert not (machine.home / "c").exists()
    assert not (machine.home / "d").exists()


def test_a_signal_stays_one(machine: Machine) -> None:
    """Killed by the kernel for its memory, for instance."""
    assert _run(machine, _member("kill -KILL $$", "a"))["exit_code"] == -9
    assert b"rule a failed with signal 9" in machine.output()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("true", b"rule a succeeded, but did not make a"),
        ("mkdir a", b"rule a succeeded, but a is a folder and not declared with directory()"),
    ],
)
def test_what_the_next_job_needs_is_looked_for(machine: Machine, command: str, said: bytes) -> None:
    """As Snakemake does between the jobs; nobody else could."""
    ended = _run(machine, _member(command, "a"), _member("echo > b", "b", after=(0,)))
    assert ended["exit_code"] == 1
    assert said in machine.output()
    assert not (machine.home / "b").exists()


def test_temporary_files_go_when_the_last_reader_has_ended(machine: Machine) -> None:
    """And not before."""
    make = _member("echo > a; mkdir d; echo > d/x", "a", "d", directories=["d"])
    readers = [_member(f"cat a d/x > {name}", name, after=(0,)) for name in ("b", "c")]
    last = _member("test ! -e a -a ! -e d; echo > e", "e", after=(1, 2))
    ended = _run(machine, make, *readers, last, temporary=[["a", [1, 2]], ["d", [1, 2]]])
    assert ended["exit_code"] == 0, machine.output()
    assert not (machine.home / "a").exists()
    assert (machine.home / "e").exists()
