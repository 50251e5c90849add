"""A rule's own command on the machine, with what Snakemake does around it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_ec2.agent.direct import PLACEHOLDER, Command
from snakemake_executor_ec2.agent.state import AgentError
from tests.unit.agent.machine import Machine

PLAIN: dict[str, Any] = {
    "command": "true",
    "executable": "bash",
    "threads": 3,
    "tmpdir": None,
    "made": [],
    "directories": [],
    "kept": [],
    "touched": [],
}


def test_exit_codes_and_signals_are_the_commands_own(machine: Machine) -> None:
    """Not Snakemake's 1; and what the command prints is all that its log holds."""
    for key, command, exit_code in (("a", "echo said; exit 7", 7), ("b", "kill -9 $$", -9)):
        machine.start("", key=key, direct={**PLAIN, "command": command})
        assert machine.finish(key)["exit_code"] == exit_code
    assert machine.output("a") == b"said\n"


def test_a_command_that_runs_snakemake_itself_is_not_misread(machine: Machine) -> None:
    """What it prints in Snakemake's words does not become its exit code."""
    command = (
        "echo \"CalledProcessError in file x:\"; echo 'Command y returned non-zero exit status 4.'; exit 1"
    )
    machine.start("", direct={**PLAIN, "command": command})
    assert machine.finish()["exit_code"] == 1


def test_folders_are_made_and_old_outputs_are_gone(tmp_path: Path) -> None:
    """Folders of outputs and logs, not the directory outputs themselves; what is updated stays."""
    for name in ("old.txt", "kept.txt"):
        (tmp_path / name).write_text("old")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "x").write_text("old")
    (tmp_path / "link.txt").symlink_to("kept.txt")
    made = ["old.txt", "kept.txt", "dir", "link.txt", "a/b/c.txt", "logs/x.log", "deep/dir"]
    Command(
        {**PLAIN, "made": made, "directories": ["dir", "deep/dir"], "kept": ["kept.txt"]},
        str(tmp_path),
        os.environ,
    )
    assert not os.path.lexists(tmp_path / "old.txt")
    assert not os.path.lexists(tmp_path / "link.txt")
    assert (tmp_path / "kept.txt").read_text() == "old"
    assert not (tmp_path / "dir").exists()
    assert (tmp_path / "a" / "b").is_dir()
    assert (tmp_path / "logs").is_dir()
    assert (tmp_path / "deep").is_dir()
    assert not (tmp_path / "deep" / "dir").exists()


def test_the_machines_tmpdir_stands_in_the_command_and_the_environment(tmp_path: Path) -> None:
    """As Python's `tempfile` finds it in the job's environment; and it is made if the rule names one."""
    own = tmp_path / "own"
    own.mkdir()
    told = {**PLAIN, "command": f"echo {PLACEHOLDER}/x"}
    ready = Command(told, str(tmp_path), {**os.environ, "TMPDIR": str(own)})
    assert ready.arguments[-1] == f"echo {own}/x"
    assert ready.environment["TMP"] == ready.environment["TEMPDIR"] == str(own)
    assert ready.environment["OMP_NUM_THREADS"] == "3"
    other = tmp_path / "other"
    assert Command({**told, "tmpdir": str(other)}, str(tmp_path), os.environ).environment["TEMP"] == str(
        other
    )
    assert other.is_dir()


def test_a_tmpdir_that_would_need_quotes_is_refused(tmp_path: Path) -> None:
    """The command was formatted for one that needs none."""
    odd = tmp_path / "with blank"
    odd.mkdir()
    with pytest.raises(AgentError, match="would have to quote"):
        Command(PLAIN, str(tmp_path), {**os.environ, "TMPDIR": str(odd)})


def test_touch_makes_files_and_marks_folders(tmp_path: Path) -> None:
    """`touch()` outputs are there after a job that made none."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "there").write_text("x")
    command = Command({**PLAIN, "touched": ["new", "there", "dir"]}, str(tmp_path), os.environ)
    assert command.ended(1) == ""
    assert not (tmp_path / "new").exists()
    assert command.ended(0) == ""
    assert (tmp_path / "new").read_text() == ""
    assert (tmp_path / "there").read_text() == "x"
    assert (tmp_path / "dir" / ".snakemake_timestamp").exists()


def test_a_shell_that_is_not_there_is_named(tmp_path: Path) -> None:
    """`shell_exec` of a rule."""
    with pytest.raises(AgentError, match="fish-of-nobody"):
        Command({**PLAIN, "executable": "fish-of-nobody"}, str(tmp_path), os.environ)


def test_what_cannot_be_written_afterwards_fails_the_job(machine: Machine, tmp_path: Path) -> None:
    """A folder that the command removed, a full disk: it is told in the job's log, with an exit status."""
    gone = tmp_path / "gone"
    machine.start("", direct={**PLAIN, "command": f"mkdir {gone}", "touched": [str(gone / "x" / "y")]})
    assert machine.finish()["exit_code"] == 1
    assert b"gone/x/y could not be written after the command: No such file" in machine.output()


def test_a_benchmark_is_there_only_after_success(machine: Machine, tmp_path: Path) -> None:
    """With the command's own time, and in a folder of its own."""
    for key, command in (("good", "sleep 0.3"), ("bad", "sleep 0.3; exit 3")):
        told = {**PLAIN, "command": command, "made": [f"{key}/b.tsv"], "benchmark": f"{key}/b.tsv"}
        machine.start("", key=key, direct=told)
        machine.finish(key)
    header, values = (machine.home / "good" / "b.tsv").read_text().splitlines()
    assert header.split("\t")[:2] == ["s", "h:m:s"]
    assert 0.3 <= float(values.split("\t")[0]) < 10
    assert not (machine.home / "bad" / "b.tsv").exists()
