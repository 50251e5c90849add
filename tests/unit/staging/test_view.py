"""Which names a machine is told of, and what a job costs after the first."""

from __future__ import annotations

import itertools
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_ec2.agent.standins import _folders
from snakemake_executor_ec2.staging import view as view_module
from snakemake_executor_ec2.staging.view import View, Viewer


def told(view: View) -> dict[str, list[Any]]:
    """What a machine makes of a view, by folder: as a line tells it, with names in order."""
    found: dict[str, list[Any]] = {}
    for path, (mtime_ns, closed, files, links, folders) in _folders(view.encoded()).items():
        names = sorted(files)
        times = [mtime_ns, *(files[name][1] for name in names)]
        steps = [after - before for before, after in itertools.pairwise(times)]
        sizes = [files[name][0] for name in names]
        ways = [*map(list, sorted(links.items()))]
        found[path] = [path, mtime_ns, int(closed), names, sizes, steps, ways, sorted(folders)]
    return found


def names(view: View, folder: Path) -> list[str]:
    """Files, links and folders that a machine finds in a folder."""
    _, _, _, files, _, _, links, folders = told(view)[str(folder)]
    return sorted([*files, *(name for name, _ in links), *folders])


def put(*paths: Path, content: str = "") -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def settled(folder: Path) -> None:
    """Let folders look as if they had not changed for a while."""
    for parent, _, _ in os.walk(folder):
        os.utime(parent, (1_000_000_000, 1_000_000_000))


def test_names_sizes_and_times_are_told(tmp_path: Path) -> None:
    """To the nanosecond; of empty folders, and of names of any bytes as well."""
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n."))
    put(tmp_path / "a.txt", tmp_path / "sub" / "b.txt", odd, content="four")
    (tmp_path / "empty").mkdir()
    os.utime(tmp_path / "a.txt", ns=(5, 1_234_567_890_123_456_789))
    os.utime(tmp_path / "sub", ns=(5, 1_234_567_890_000_000_001))
    view = Viewer([tmp_path]).look()
    path, mtime_ns, closed, files, sizes, steps, _, folders = told(view)[str(tmp_path)]
    assert (path, closed, folders) == (str(tmp_path), 0, ["empty", "sub"])
    assert files == ["a.txt", odd.name]
    assert sizes == [4, 4]
    assert mtime_ns + steps[0] == 1_234_567_890_123_456_789
    assert told(view)[str(tmp_path / "sub")][1] == 1_234_567_890_000_000_001
    assert names(view, tmp_path / "empty") == []


def test_hidden_folders_are_told_of_as_empty_unless_somebody_looks(tmp_path: Path) -> None:
    """What is in `.venv` concerns no job; what a Snakefile has listed does."""
    put(tmp_path / ".venv" / "lib" / "x", tmp_path / ".data" / "sub" / "y", tmp_path / ".snakemake" / "z")
    view = Viewer([tmp_path], looked_into=lambda: [tmp_path / ".data" / "sub"]).look()
    assert names(view, tmp_path) == [".data", ".venv"]
    assert str(tmp_path / ".venv") not in told(view)
    assert names(view, tmp_path / ".data" / "sub") == ["y"]


def test_a_link_is_one_only_if_the_machine_has_what_it_leads_to(tmp_path: Path) -> None:
    """Into the folder it stays; out of it, or into what is not told, what it leads to takes its place."""
    work, outside = tmp_path / "work", tmp_path / "outside"
    put(work / "real" / "a", work / ".git" / "annex" / "key", outside / "deep" / "b", content="12345")
    (work / "inside").symlink_to("real")
    (work / "annexed").symlink_to(".git/annex/key")
    (work / "out").symlink_to(outside)
    (work / "file").symlink_to(outside / "deep" / "b")
    (work / "nowhere").symlink_to("gone")
    (work / "up").symlink_to(tmp_path)
    (outside / "back").symlink_to(work)
    view = Viewer([work]).look()
    _, _, _, files, sizes, _, links, folders = told(view)[str(work)]
    assert dict(zip(files, sizes, strict=True)) == {"annexed": 5, "file": 5}
    assert links == [["inside", "real"], ["nowhere", "gone"]]
    assert folders == [".git", "out", "real", "up"]
    assert names(view, work / "out" / "deep") == ["b"]
    assert str(work / "up") not in told(view)


def test_a_job_costs_what_has_changed(tmp_path: Path) -> None:
    """Made, deleted and (after a while) changed in place: each is told, and little is sent for it."""
    for number in range(2000):
        put(tmp_path / f"data{number % 20}" / f"sample-{number}.txt")
    settled(tmp_path)
    viewer = Viewer([tmp_path])
    first = viewer.look()
    assert viewer.look().changed() == []
    put(tmp_path / "data7" / "new.txt")
    (tmp_path / "data8" / "sample-8.txt").unlink()
    second = viewer.look()
    assert "new.txt" in names(second, tmp_path / "data7")
    assert "sample-8.txt" not in names(second, tmp_path / "data8")
    assert {folder.path for folder in second.changed()} == {str(tmp_path / f"data{n}") for n in (7, 8)}
    assert second.encoded()[0] is first.encoded()[0]
    assert len(second.encoded()[1]) < len(first.encoded()[0]) / 4
    put(tmp_path / "data1" / "sample-1.txt", content="longer")
    viewer._read_again_at = 0.0
    assert 6 in told(viewer.look())[str(tmp_path / "data1")][4]


def test_a_folder_that_is_closed_stays_so_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in it is not known any more: it is not taken for what is new in it."""
    monkeypatch.setattr(view_module, "_READ_AGAIN_COSTS", 1e9)
    monkeypatch.setattr(view_module, "_MANY", 0)
    monkeypatch.setattr(view_module, "_FRESH_NS", 0)
    put(*(tmp_path / "many" / str(number) for number in range(50)))
    viewer = Viewer([tmp_path], limit=10)
    for number in range(3):
        assert viewer.look().closed == (str(tmp_path / "many"),)
        viewer._read_again_at = time.monotonic() + 1000
        time.sleep(0.02)
        put(tmp_path / "many" / f"new{number}")


@pytest.mark.parametrize("only_names", [False, True])
def test_what_changes_is_told_as_it_is(
    tmp_path: Path, only_names: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is made, deleted, replaced or becomes something else: a machine has what a new look has, also
    while the sizes and times of files that keep names and inodes are not read again."""
    monkeypatch.setattr(view_module, "_READ_AGAIN_COSTS", 1e9)
    monkeypatch.setattr(view_module, "_MANY", 20 if only_names else 1000)
    monkeypatch.setattr(view_module, "_FRESH_NS", 0)
    dice = random.Random(7)  # noqa: S311 - it decides nothing
    put(*(tmp_path / "results" / f"{number}" for number in range(300)), tmp_path / "few" / "x")
    for number in range(300, 340):
        (tmp_path / "results" / f"{number}").symlink_to("1")
        (tmp_path / "results" / f"{number + 40}").mkdir()
    viewer = Viewer([tmp_path])
    viewer.look()
    viewer._read_again_at = time.monotonic() + 1000
    for step in range(60):
        for _ in range(dice.randrange(4)):
            path = tmp_path / dice.choice(["results", "few", "few/deep"]) / str(dice.randrange(400))
            kind = dice.choice(["file", "file", "file", "link", "folder", "gone"])
            new = tmp_path / f"new{step}"  # a file in its place has another inode
            if path.is_symlink() or path.is_file():
                path.rename(new)
            elif path.is_dir():
                path.rmdir()
            if kind == "file":
                put(path, content="x" * dice.randrange(100))
            elif kind == "link":
                path.parent.mkdir(exist_ok=True)
                path.symlink_to(dice.choice(["1", "nowhere"]))
            elif kind == "folder":
                path.mkdir(parents=True)
            new.unlink(missing_ok=True)
        time.sleep(0.02)  # a folder's time has steps
        view = viewer.look()
        expected, found = told(Viewer([tmp_path]).look()), told(view)
        assert {path: found[path] for path in expected} == expected
    assert len(view.encoded()) == 2


def test_a_job_costs_little_also_if_all_results_are_in_one_folder(tmp_path: Path) -> None:
    """What is sent for it are its names, and the whole list is not made again for each."""
    put(*(tmp_path / "results" / f"result-{number}.txt" for number in range(3000)))
    viewer = Viewer([tmp_path])
    first = viewer.look()
    for number in range(50):
        put(tmp_path / "results" / f"new-{number}.txt")
        view = viewer.look()
        assert view.encoded()[0] is first.encoded()[0]
        assert len(view.encoded()[1]) < 2000
        assert len(names(view, tmp_path / "results")) == 3001 + number


def test_a_file_that_keeps_its_inode_is_looked_at_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And at once as long as it has changed so shortly ago that it may change again."""
    monkeypatch.setattr(view_module, "_READ_AGAIN_COSTS", 1e9)
    monkeypatch.setattr(view_module, "_MANY", 0)
    put(tmp_path / "a.txt")
    viewer = Viewer([tmp_path])
    viewer.look()
    viewer._read_again_at = time.monotonic() + 1000

    def size_of_a() -> object:
        put(tmp_path / f"{time.monotonic_ns()}")
        _, _, _, files, sizes, *_ = told(viewer.look())[str(tmp_path)]
        return sizes[files.index("a.txt")]

    put(tmp_path / "a.txt", content="at once")
    assert size_of_a() == 7
    monkeypatch.setattr(view_module, "_FRESH_NS", 0)
    assert size_of_a() == 7
    put(tmp_path / "a.txt", content="later")
    assert size_of_a() == 7
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + 61)
    assert size_of_a() == 5


def test_beyond_the_limit_folders_are_closed(tmp_path: Path) -> None:
    """The rest is told; what is not is named, so that it can be said."""
    put(*(tmp_path / "many" / str(number) for number in range(50)), tmp_path / "few" / "x" / "y")
    view = Viewer([tmp_path], limit=10).look()
    assert view.closed == (str(tmp_path / "many"),)
    assert told(view)[str(tmp_path / "many")][2] == 1
    assert names(view, tmp_path / "few" / "x") == ["y"]
    assert Viewer([tmp_path], limit=1000).look().closed == ()


def test_a_folder_within_another_is_told_once(tmp_path: Path) -> None:
    """A workflow's own folder may well hold the working directory."""
    put(tmp_path / "run" / "a", tmp_path / "scripts" / "b")
    view = Viewer([tmp_path / "run", tmp_path]).look()
    assert sorted(told(view)) == [str(tmp_path), str(tmp_path / "run"), str(tmp_path / "scripts")]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_goes_while_it_is_looked_at_is_not_told(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs end while others are planned."""
    put(tmp_path / "a" / "b")
    real = os.stat

    def stat(path: str, **more: bool) -> os.stat_result:
        if str(path).endswith("/a"):
            raise FileNotFoundError(path)
        return real(path, **more)

    if what == "folder":
        monkeypatch.setattr(os, "stat", stat)
    else:
        (tmp_path / "a" / "c").symlink_to("b")
        (tmp_path / "a" / "b").unlink()
    view = Viewer([tmp_path]).look()
    assert names(view, tmp_path) == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_not_beyond_the_limit(tmp_path: Path) -> None:
    """It is closed on the machine as on this computer, and nobody is told to move files elsewhere."""
    closed = tmp_path / "closed"
    put(closed / "a.txt")
    closed.chmod(0)
    view = Viewer([tmp_path]).look()
    closed.chmod(0o700)
    assert view.closed == ()
    assert told(view)[str(closed)][2] == 1
