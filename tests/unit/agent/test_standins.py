"""What was not sent is there by name, size and time, cannot be read, and never comes back."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_ec2.agent.archive import Contents, read_archive
from snakemake_executor_ec2.staging.view import Viewer
from tests.unit.agent.machine import Answer, Machine


class Twin:
    """A folder here, and the one on the machine that is to look like it."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.here = folder / "here"
        self.there = folder / "there"
        self.here.mkdir()
        assert machine.ask("workdir", request={"paths": [str(self.there)]}).exit_code == 0

    def put(self, *names: str, content: str = "content") -> None:
        for name in names:
            path = self.here / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def show(self, *own: str, shift_ns: int = 0, limit: int = 1000) -> dict[str, Any]:
        lists = Viewer([self.here], limit=limit).look().encoded()
        request = {
            "roots": [[str(self.there), str(self.here)]],
            "own": [str(self.there / name) for name in own],
            "shift_ns": shift_ns,
            "lists": [len(packed) for packed in lists],
        }
        done = subprocess.run(
            self.machine.command("stand-ins"),
            input=b"".join([json.dumps(request).encode(), b"\n", *lists]),
            capture_output=True,
            env=self.machine.environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    def run(self, command: str) -> tuple[int, str]:
        """Run a job in the folder on the machine."""
        key = f"job{len(list(self.machine.home.glob('.snakemake-ec2/jobs/*')))}"
        self.machine.start(f"cd {self.there} && {command}", key=key)
        return self.machine.finish(key)["exit_code"], self.machine.output(key).decode()

    def pack(self, *must: str) -> Contents:
        request = {"paths": [], "must": [str(self.there / name) for name in must]}
        done = subprocess.run(
            self.machine.command("pack"),
            input=json.dumps(request).encode(),
            capture_output=True,
            env=self.machine.environment,
            check=True,
        )
        return read_archive(io.BytesIO(done.stdout), lambda _: None)


@pytest.fixture
def twin(machine: Machine, tmp_path: Path) -> Twin:
    return Twin(machine, tmp_path)


def looks(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Size, time and kind of everything below a folder."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files, "."):
            path = Path(parent, name)
            status = path.lstat()
            kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
            size, time = (status.st_size, status.st_mtime_ns) if kind != "link" else (0, 0)
            found[os.path.relpath(path, folder)] = (0 if kind == "folder" else size, time, kind)
    return found


def test_everything_is_there_and_nothing_can_be_read(twin: Twin) -> None:
    """Kinds, sizes and times are right, of folders too; no job reads a byte, not even one of root's."""
    twin.put("data/a.txt", "data/deep/b.txt", "c.txt", "empty.txt")
    (twin.here / "nothing").mkdir()
    (twin.here / "link").symlink_to("data/a.txt")
    (twin.here / "empty.txt").write_text("")
    os.utime(twin.here / "data", ns=(1, 1_500_000_000_000_000_007))
    assert twin.show() == {"made": 4, "readable": False}
    assert looks(twin.there) == looks(twin.here)
    for read in ("cat data/a.txt", "cat data/deep/*.txt", "cat link", "cp c.txt d.txt", "tar cf x.tar data"):
        status, told = twin.run(read)
        assert (status != 0, "Permission denied" in told) == (True, True), read
    assert twin.run("test -s data/a.txt && ls data/*.txt && stat -c %s c.txt") == (0, "data/a.txt\n7\n")
    if os.geteuid() == 0:  # an ordinary user without sudo owns the stand-ins, and may open them
        status, told = twin.run("chmod u+r c.txt && cat c.txt")
        assert (status, "not permitted" in told) == (1, True)


def test_what_was_sent_stays_and_a_second_call_changes_nothing(twin: Twin) -> None:
    """A connection may break after the command was carried out: it is called again."""
    twin.put("data/sent.txt", "data/not.txt")
    (twin.there / "data").mkdir()
    (twin.there / "data" / "sent.txt").write_text("sent")
    twin.show()
    (twin.machine.state / "stand-ins").unlink()
    twin.show()
    assert (twin.there / "data" / "sent.txt").read_text() == "sent"
    assert twin.run("cat data/sent.txt")[0] == 0
    assert twin.run("mkdir out && mv data/not.txt out")[0] == 0
    assert twin.pack("out").begin["paths"][str(twin.there / "out")]["kind"] == "stand-in"


def test_a_jobs_own_outputs_are_free(twin: Twin) -> None:
    """Files and folders that it is to make have no stand-ins, and their folders can be written to."""
    twin.put("out/a.txt", "out/b.txt", "made/old/c.txt", "logs/a.log")
    twin.show("out/a.txt", "made", "logs/a.log")
    assert list((twin.there / "out").iterdir()) == [twin.there / "out" / "b.txt"]
    assert not (twin.there / "made").exists()
    assert not list((twin.there / "logs").iterdir())
    assert twin.run("echo new > out/a.txt && mkdir made && echo > made/x && cat out/a.txt") == (0, "new\n")


def test_a_job_may_write_in_the_place_of_a_stand_in(twin: Twin) -> None:
    """Tools overwrite what lies about (`Rplots.pdf`); that it cannot be read stays true."""
    twin.put("Rplots.pdf", "gone.txt", "new.txt")
    twin.show()
    assert twin.run("echo plot > Rplots.pdf; rm gone.txt; echo 1 > n; mv n new.txt; cat new.txt") == (
        0,
        "1\n",
    )
    assert twin.run("cat Rplots.pdf")[0] == 1
    assert twin.run("mkdir out; mv new.txt out/; cp out/new.txt out/more.txt")[0] == 0
    assert twin.pack("out").begin["paths"][str(twin.there / "out")]["kind"] == "directory"


@pytest.mark.parametrize(
    "steal",
    ["mv data/a.txt out/", "mv data out/", "echo >> data/a.txt; mv data/a.txt out"],
)
def test_no_stand_in_comes_back(twin: Twin, steal: str) -> None:
    """Moved, linked or written into: what was never sent is no result."""
    twin.put("data/a.txt")
    twin.show("out")
    assert twin.run(f"mkdir out; echo 1 > out/good.txt; {steal}")[0] == 0
    contents = twin.pack("out")
    assert contents.begin["paths"][str(twin.there / "out")]["kind"] == "stand-in"
    assert contents.size == 0


def test_folders_without_content_are_empty_and_closed_ones_are_closed(twin: Twin) -> None:
    """A hidden folder is there, as an empty one; what is beyond the limit cannot even be listed."""
    twin.put(".git/HEAD", "open/a", *(f"many/{number}" for number in range(20)))
    (twin.here / "many" / "sub").mkdir()
    twin.show(limit=10)
    assert twin.run("ls -A .git open") == (0, ".git:\n\nopen:\na\n")
    status, told = twin.run("cat many/*")
    assert (status, "many" in told) == (1, True)
    assert twin.run("ls many")[0] != 0


def test_a_link_to_a_folder_that_has_been_filled_is_filled_too(twin: Twin) -> None:
    """What was sent by way of a link has made a folder of it: the rest of it is there as well."""
    twin.put("run3/a.txt", "run3/b.txt")
    (twin.here / "latest").symlink_to("run3")
    (twin.there / "latest").mkdir()
    (twin.there / "latest" / "a.txt").write_text("sent")
    twin.show()
    assert twin.run("ls latest run3 && cat latest/a.txt")[1].split() == (
        ["latest:", "a.txt", "b.txt", "run3:", "a.txt", "b.txt", "sent"]
    )


def test_times_are_shifted_and_links_are_led_to_the_other_place(twin: Twin) -> None:
    """For clocks that differ, and for a working directory that could not be had."""
    twin.put("a.txt")
    (twin.here / "absolute").symlink_to(twin.here / "a.txt")
    twin.show(shift_ns=3_600_000_000_000)
    here, there = (folder / "a.txt" for folder in (twin.here, twin.there))
    assert there.stat().st_mtime_ns - here.stat().st_mtime_ns == 3_600_000_000_000
    assert (twin.there / "absolute").readlink() == there


def test_a_damaged_list_is_refused(twin: Twin) -> None:
    """In one sentence."""
    done = subprocess.run(
        twin.machine.command("stand-ins"),
        input=b'{"roots": [], "own": [], "shift_ns": 0, "lists": [3]}\nxyz',
        capture_output=True,
        env=twin.machine.environment,
        check=False,
    )
    answer = Answer(exit_code=done.returncode, said={}, stderr=done.stderr.decode())
    assert (answer.exit_code, answer.stderr.count("\n")) == (1, 1)
    assert "the list of files is damaged" in answer.stderr
