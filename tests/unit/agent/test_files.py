"""`workdir`, `unpack`, `pack`: never into a tree that the agent did not make."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path

import pytest

from snakemake_executor_ec2.agent.archive import Contents, Entry, read_archive, write_archive
from tests.unit.agent.machine import Answer, Machine


def _workdir(machine: Machine, *paths: Path, parents: tuple[Path, ...] = ()) -> list[tuple[bool, str]]:
    request = {"paths": [str(path) for path in paths], "parents": [str(path) for path in parents]}
    answer = machine.ask("workdir", request=request)
    assert answer.exit_code == 0
    return [(one["ok"], one["reason"]) for one in answer.said["answers"]]


def _unpack(machine: Machine, *entries: Entry) -> Answer:
    stream = io.BytesIO()
    write_archive(stream, entries)
    done = subprocess.run(
        machine.command("unpack"),
        input=stream.getvalue(),
        capture_output=True,
        env=machine.environment,
        check=False,
    )
    said = json.loads(done.stdout) if done.stdout else {}
    return Answer(exit_code=done.returncode, said=said, stderr=done.stderr.decode())


def _pack(machine: Machine, folder: Path, **request: list[str]) -> Contents:
    done = subprocess.run(
        machine.command("pack"),
        input=json.dumps(request).encode(),
        capture_output=True,
        env=machine.environment,
        check=True,
    )
    return read_archive(io.BytesIO(done.stdout), lambda name: str(folder) + name)


def _sudo_is(machine: Machine, folder: Path, script: str) -> None:
    """A sudo that notes its calls in a file and does as told."""
    program = folder / "bin" / "sudo"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "sudo $*" >> {folder}/calls\n{script}\n')
    program.chmod(0o755)
    machine.environment["PATH"] = f"{program.parent}:{machine.environment['PATH']}"


def test_a_directory_is_made_and_stays_ours(machine: Machine, tmp_path: Path) -> None:
    """What the agent made may be used again, full or not."""
    path = tmp_path / "a" / "b"
    assert _workdir(machine, path) == [(True, "")]
    (path / "file").touch()
    assert _workdir(machine, path, path / "below") == [(True, ""), (True, "")]


def test_an_empty_directory_may_be_taken(machine: Machine, tmp_path: Path) -> None:
    """Nobody misses an empty directory, and it is ours from then on."""
    (tmp_path / "empty").mkdir()
    assert _workdir(machine, tmp_path / "empty") == [(True, "")]
    (tmp_path / "empty" / "file").touch()
    assert _workdir(machine, tmp_path / "empty") == [(True, "")]


def test_a_tree_of_somebody_elses_is_left_alone(machine: Machine, tmp_path: Path) -> None:
    """It is not empty and not ours: the answer says so, and nothing is touched."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert _workdir(machine, tmp_path / "full") == [(False, "it exists there and is not empty")]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_in_the_way(machine: Machine, tmp_path: Path, name: str) -> None:
    """A path that leads through a file cannot be made."""
    (tmp_path / "file").touch()
    [(ok, reason)] = _workdir(machine, tmp_path / name)
    assert not ok
    assert reason


def test_a_relative_path_is_refused(machine: Machine) -> None:
    """There is no directory that it could be relative to."""
    assert _workdir(machine, Path("here")) == [(False, "it is not an absolute path")]


def test_parents_of_single_files_may_hold_other_things(machine: Machine, tmp_path: Path) -> None:
    """A staged file may lie in a directory of somebody else's; a missing one is made."""
    (tmp_path / "file").touch()
    assert _workdir(machine, parents=(tmp_path, tmp_path / "new")) == [(True, ""), (True, "")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_without_permission_and_without_sudo(machine: Machine) -> None:
    """The reason is the system's own."""
    machine.environment["PATH"] = "/nowhere"
    [(ok, reason)] = _workdir(machine, Path("/not-ours"))
    assert not ok
    assert reason == "Permission denied"


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no sudo")
def test_sudo_makes_what_we_may_not_and_gives_us_that_only(machine: Machine, tmp_path: Path) -> None:
    """Only the directories that are new change their owner."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    _sudo_is(machine, tmp_path, f'chmod u+w {closed}; shift; exec "$@"')
    assert _workdir(machine, closed / "a" / "b") == [(True, "")]
    owner = f"{os.getuid()}:{os.getgid()}"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"sudo -n mkdir -p -- {closed}/a/b",
        f"sudo -n chown -h {owner} -- {closed}/a {closed}/a/b",
    ]


def test_unpack_puts_files_at_absolute_paths(machine: Machine, tmp_path: Path) -> None:
    """Parents are made, and the answer counts."""
    (tmp_path / "here").write_text("content")
    target = tmp_path / "there" / "deep" / "file"
    answer = _unpack(machine, Entry(str(tmp_path / "here"), str(target)))
    assert answer.said == {"placed": 1, "bytes": 7}
    assert target.read_text() == "content"


def test_unpack_replaces_what_it_put_there_only(machine: Machine, tmp_path: Path) -> None:
    """A file of the machine's own is never overwritten; one that came with us is."""
    (tmp_path / "new").write_text("new")
    (tmp_path / "theirs").write_text("theirs")
    refused = _unpack(machine, Entry(str(tmp_path / "new"), str(tmp_path / "theirs")))
    assert refused.exit_code == 1
    assert "not ours" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (tmp_path / "theirs").read_text() == "theirs"
    for _ in range(2):
        assert _unpack(machine, Entry(str(tmp_path / "new"), str(tmp_path / "ours"))).exit_code == 0


def test_unpack_replaces_anything_in_our_own_directories(machine: Machine, tmp_path: Path) -> None:
    """What a job has made there may be replaced by the next one's inputs."""
    _workdir(machine, tmp_path / "work")
    (tmp_path / "work" / "file").write_text("a job's")
    (tmp_path / "new").write_text("new")
    entry = Entry(str(tmp_path / "new"), str(tmp_path / "work" / "file"))
    assert _unpack(machine, entry).exit_code == 0
    assert (tmp_path / "work" / "file").read_text() == "new"


def test_an_unpack_that_hangs_holds_nobody_up(machine: Machine, tmp_path: Path) -> None:
    """A connection that is half open may keep one waiting for hours; the next one does not mind."""
    (tmp_path / "new").write_text("new")
    hanging = subprocess.Popen(
        machine.command("unpack"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=machine.environment,
    )
    with hanging:
        assert _unpack(machine, Entry(str(tmp_path / "new"), str(tmp_path / "to"))).exit_code == 0
        assert hanging.poll() is None


def test_unpack_of_half_an_archive(machine: Machine) -> None:
    """One sentence, no traceback."""
    done = subprocess.run(
        machine.command("unpack"), input=b"x" * 700, capture_output=True, env=machine.environment, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1


def test_pack_says_what_every_path_is(machine: Machine, tmp_path: Path) -> None:
    """Files, directories and symlinks come; what is missing or something else is named."""
    there = tmp_path / "there"
    (there / "dir" / "sub").mkdir(parents=True)
    (there / "dir" / "sub" / "file").write_text("12345")
    (there / "link").symlink_to("nowhere")
    (there / "dir" / "link").symlink_to("sub")
    (there / "dir" / "nowhere").symlink_to("not/there")
    os.mkfifo(there / "pipe")
    names = ["dir", "link", "pipe", "missing", "dir/sub/file/below"]
    contents = _pack(machine, tmp_path / "back", paths=[str(there / name) for name in names])
    kinds = {Path(path).name: about["kind"] for path, about in contents.begin["paths"].items()}
    assert kinds == {
        "dir": "directory", "link": "symlink", "pipe": "pipe", "missing": "missing", "below": "missing",
    }  # fmt: skip
    assert contents.begin["paths"][str(there / "dir")]["bytes"] == 5
    assert (tmp_path / f"back{there}/dir/sub/file").read_text() == "12345"
    assert (tmp_path / f"back{there}/link").readlink() == Path("nowhere")


def test_pack_without_all_that_it_must_have_sends_nothing(machine: Machine, tmp_path: Path) -> None:
    """There is no point in 100 GB of outputs when the job is a failure for want of one."""
    (tmp_path / "there").write_text("1")
    contents = _pack(machine, tmp_path / "back", must=[str(tmp_path / "there"), str(tmp_path / "missing")])
    assert contents.placed == []
    assert {about["kind"] for about in contents.begin["paths"].values()} == {"file", "missing"}


def test_pack_of_what_is_ours_and_closed(machine: Machine, tmp_path: Path) -> None:
    """A job may take away its own permission to read: that is no reason not to bring its results home."""
    (tmp_path / "secret").touch(mode=0o000)
    contents = _pack(machine, tmp_path / "back", must=[str(tmp_path / "secret")])
    assert len(contents.placed) == 1
    assert (tmp_path / f"back{tmp_path}/secret").stat().st_mode & 0o777 == 0


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o500])
def test_pack_of_a_folder_of_ours_that_is_closed(machine: Machine, tmp_path: Path, mode: int) -> None:
    """So with a folder within a result, whether it can be listed, entered, or neither."""
    closed = tmp_path / "tree" / "closed"
    closed.mkdir(parents=True)
    (closed / "file").write_text("1")
    closed.chmod(mode)
    _sudo_is(machine, tmp_path, "exit 1")
    try:
        contents = _pack(machine, tmp_path / "back", must=[str(tmp_path / "tree")])
        back = tmp_path / f"back{closed}"
        assert [back.stat().st_mode & 0o777, closed.stat().st_mode & 0o777] == [mode, mode]
        back.chmod(0o700)
        assert (back / "file").read_text() == "1"
        assert contents.begin["paths"][str(tmp_path / "tree")]["kind"] == "directory"
    finally:
        closed.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_pack_takes_over_what_sudo_has_left_to_root(machine: Machine, tmp_path: Path) -> None:
    """Only what cannot be read changes its owner, and comes with the rest."""
    for name in ("ours", "tree/root's"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "tree" / "root's").chmod(0o000)
    _sudo_is(machine, tmp_path, f"chmod u+r {tmp_path}/tree/*")
    contents = _pack(machine, tmp_path / "back", paths=[str(tmp_path / "ours"), str(tmp_path / "tree")])
    assert len(contents.placed) == 2
    assert (tmp_path / "calls").read_text() == (
        f"sudo -n chown -R -h {os.getuid()}:{os.getgid()} -- {tmp_path}/tree\n"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_pack_opens_a_folder_of_ours_that_sudo_has_closed(machine: Machine, tmp_path: Path) -> None:
    """An output below it is fetched; a folder that is not ours is left as it is, and the refusal told."""
    ours, others = tmp_path / "ours", tmp_path / "others"
    assert _workdir(machine, ours) == [(True, "")]
    for closed in (ours / "closed", others / "closed"):
        closed.mkdir(parents=True)
        (closed / "file").write_text("1")
        closed.chmod(0o000)
    _sudo_is(machine, tmp_path, f"chmod u+rwx {ours}/closed")
    contents = _pack(machine, tmp_path / "back", must=[str(ours / "closed/file")])
    assert len(contents.placed) == 1
    answer = machine.ask("pack", request={"must": [str(others / "closed/file")]})
    assert answer.exit_code == 1
    assert "Permission denied" in answer.stderr
    (others / "closed").chmod(0o700)
    assert (tmp_path / "calls").read_text().count("sudo") == 1
