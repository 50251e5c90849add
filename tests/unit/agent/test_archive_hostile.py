"""Archives from a machine that is up to no good."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_ec2.agent import extract
from snakemake_executor_ec2.agent.archive import ArchiveError, Contents, Entry, Refused, read_archive
from snakemake_executor_ec2.agent.frames import BEGIN, DATA, END, ITEMS, MAGIC, FrameWriter
from snakemake_executor_ec2.staging.links import LinkRules
from snakemake_executor_ec2.staging.paths import PathMap
from tests.unit.agent.test_archive import archive


def frame(kind: int, head: Any, body: bytes = b"") -> bytes:
    """One frame, as a writer makes it."""
    stream = io.BytesIO()
    FrameWriter(stream).write(kind, head, body)
    return stream.getvalue()[len(MAGIC) :]


def member(name: str, kind: str = "f", *, link: str = "", data: bytes = b"", mode: int = 0o644) -> bytes:
    """One file (f), directory (d) or symlink (l) in a frame of its own."""
    more: dict[str, list[Any]] = {"f": [len(data), ""], "l": [link]}
    return frame(ITEMS, [[kind, name, mode, 0, *more.get(kind, [])]], data)


def hostile(*frames: bytes) -> io.BytesIO:
    """An archive of such frames."""
    return io.BytesIO(MAGIC + frame(BEGIN, {}) + b"".join(frames) + frame(END, {}))


def _receive(stream: io.BytesIO, folder: Path) -> Contents:
    """As the controller does: what belongs below /work is placed in a folder."""

    def place(name: str) -> str:
        if not name.startswith("/work/"):
            raise ArchiveError(f"{name} was not asked for")
        return str(folder) + name.removeprefix("/work")

    names = ("d", "x", "abs", "good", "other")
    rules = LinkRules(
        paths=PathMap(here=folder, there=Path("/work")),
        made=[folder / name for name in names],
        inputs=[folder / "in", folder.parent / "far" / "in"],
        sources=[folder.parent / "flow" / "tool"],
        home=folder.parent / "home",
    )
    return read_archive(stream, place, judge=rules.judge)


_HOSTILE = {
    "not asked for": [member("etc/passwd", data=b"x")],
    "absolute": [member("/work/x", data=b"x")],
    "climbing": [member("work/../../x", data=b"x")],
    "climbing in a directory": [member("work/d", "d"), member("work/d/../../x", data=b"x")],
    "dot": [member("work/./x", data=b"x")],
    "empty": [member("work//x", data=b"x")],
    "device": [member("work/x", "c")],
    "no kind": [frame(ITEMS, [[]])],
    "key that is none": [frame(ITEMS, [["f", "work/x", 0, 0, 0, "0" * 100_000]])],
    "no list": [frame(ITEMS, ["work/x"])],
    "kind that is none": [frame(ITEMS, [[["d"], "work/x", 0, 0]])],
    "text for a number": [frame(ITEMS, [["d", "work/x", "0", 0]])],
    "fraction for a number": [frame(ITEMS, [["d", "work/x", 0.5, 0]])],
    "huge time": [frame(ITEMS, [["d", "work/x", 0, 1 << 70]])],
    "name that is no text": [member("work/\ud800")],
    "file that goes on from nothing": [frame(ITEMS, [["F", "work/x", 0, 0, 9, "key", 4, 5]])],
    "more than was said": [frame(ITEMS, [["F", "work/x", 0, 0, 9, "", 0, 2]]), frame(DATA, 0, b"123")],
    "less than was said": [frame(ITEMS, [["F", "work/x", 0, 0, 9, "", 0, 4]]), frame(DATA, 0, b"123")],
    "beyond the end": [frame(ITEMS, [["F", "work/x", 0, 0, 2, "", 0, 9]]), frame(DATA, 0, b"123")],
    "backwards": [
        frame(ITEMS, [["F", "work/x", 0, 0, 9, "", 0, 4]]),
        frame(DATA, 4, b"12"),
        frame(DATA, 0, b"12"),
    ],
    "data of no file": [frame(DATA, 0, b"123")],
    "content of no file": [frame(ITEMS, [], b"123")],
    "nowhere": [frame(ITEMS, [["F", "work/x", 0, 0, 9, "", 0, 4]]), frame(DATA, -1, b"12")],
    "link into a hidden folder": [member("work/x", "l", link=".git/hooks/pre-commit")],
    "link to the journal": [member("work/x", "l", link="/work/.snakemake/ec2/journal.sqlite")],
    "link into a hidden folder, by a detour": [
        member("work/d", "d"),
        member("work/d/x", "l", link="../..//here/./.snakemake/ec2/journal.sqlite"),
    ],
    "link into a hidden folder of somebody's": [member("work/x", "l", link="/home/u/.ssh/id")],
    "link onto code": [member("work/x", "l", link="Snakefile")],
    "link onto a profile": [member("work/x", "l", link="profiles/default/config")],
    "links that are harmful together": [
        member("work/d", "d"),
        member("work/d/up", "l", link="../.."),
        member("work/x", "l", link="d/up/home/.bashrc"),
    ],
    "links that are harmful together, in the other order": [
        member("work/d", "d"),
        member("work/d/a", "l", link="up/home/.bashrc"),
        member("work/d/up", "l", link="../.."),
    ],
    "link to source code elsewhere": [member("work/x", "l", link="../flow/tool")],
    "link to a folder that would be written into": [member("work/x", "l", link="..")],
    "link to nothing": [member("work/x", "l", link="")],
    "below a link": [member("work/x", "l", link="y"), member("work/x/z", data=b"x")],
    "below a link in a directory": [
        member("work/d", "d"),
        member("work/d/x", "l", link="y"),
        member("work/d/x/z", data=b"x"),
    ],
    "below a file": [member("work/x", data=b"x"), member("work/x/z", data=b"x")],
    "a link instead of a parent": [member("work/x/z", data=b"x"), member("work/x", "l", link="y")],
    "a link instead of a folder with members": [
        member("work/d", "d"),
        member("work/d/x/z", data=b"x"),
        member("work/d/x", "l", link="y"),
        member("work/d/x/y", data=b"x"),
    ],
    "a folder after its members": [
        member("work/d", "d"),
        member("work/d/x/z", data=b"x"),
        member("work/d/x", "d"),
    ],
    "an entry after its members": [member("work/x/z", data=b"x"), member("work/x", "d")],
    "twice": [member("work/x", data=b"1"), member("work/x", data=b"2")],
    "twice in a directory": [
        member("work/d", "d"),
        member("work/d/x", data=b"1"),
        member("work/d/x", data=b"2"),
    ],
    "link with content": [member("work/x", "l", link="y", data=b"1")],
    "begins twice": [frame(BEGIN, {}), member("work/x", data=b"1")],
    "end that is none": [frame(END, [])],
    "changed is no list": [frame(END, {"changed": 5})],
    "frame of no kind": [frame(9, {})],
}


@pytest.mark.parametrize("members", _HOSTILE.values(), ids=_HOSTILE)
def test_a_hostile_archive_is_refused(tmp_path: Path, members: list[bytes]) -> None:
    """Refused as a whole, with nothing written outside, and nothing left inside."""
    folder = tmp_path / "here"
    folder.mkdir()
    good = member("work/good", data=b"good")
    with pytest.raises(ArchiveError):
        _receive(hostile(good, *members), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert not [path for path in folder.rglob("*") if not path.is_dir()]


def test_members_may_come_in_any_order_of_their_folders(tmp_path: Path) -> None:
    """Told of or not, a folder's members are in it, however often others come between."""
    names = ["d/a/1", "d/b/1", "d/a/2", "d/1", "d/told/1", "d/a/b/1", "d/a/3", "d/told/2", "d/b/2"]
    members = [member(f"work/{name}", data=name.encode()) for name in names]
    folders = [member("work/d", "d", mode=0o755), member("work/d/told", "d", mode=0o755)]
    placed = _receive(hostile(*folders, *members, member("work/other", data=b"other")), tmp_path).placed
    assert placed == [str(tmp_path / "d"), str(tmp_path / "other")]
    found = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {tmp_path / name: name for name in [*names, "other"]}


def test_links_that_do_no_harm_come_as_they_are(tmp_path: Path) -> None:
    """To what the job makes or reads, to system folders, to nothing, in a circle; nothing is followed."""
    folder = tmp_path / "here"
    folder.mkdir()
    harmless = {
        "d/up": "../x", "d/own": "y", "d/python": "/usr/bin/python3", "d/nothing": "/nowhere/at/all",
        "d/round": "round", "abs": f"{folder}/x", "other": f"{tmp_path}/far/in",
    }  # fmt: skip
    members = [member(f"work/{name}", "l", link=text) for name, text in harmless.items()]
    stream = hostile(member("work/d", "d", mode=0o755), *members, member("work/x", data=b"1"))
    assert len(_receive(stream, folder).placed) == 4
    assert {name: str((folder / name).readlink()) for name in harmless} == harmless
    assert (folder / "d" / "up").read_text() == "1"


def test_a_link_into_the_machines_working_directory_leads_into_ours(tmp_path: Path) -> None:
    """Where the working directory has another path there, absolute links are translated."""
    _receive(hostile(member("work/x", data=b"1"), member("work/abs", "l", link="/work/x")), tmp_path)
    assert (tmp_path / "abs").read_text() == "1"


def test_an_old_symlink_of_ours_does_not_hide_where_a_new_one_leads(tmp_path: Path) -> None:
    """In a directory that is about to be replaced, what was there before counts for nothing."""
    folder = tmp_path / "here"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "d").mkdir()
    (folder / "d" / "sub").symlink_to(folder / "deep" / "er")
    stream = hostile(
        member("work/d", "d"),
        member("work/d/sub", "d"),
        member("work/d/sub/x", "l", link="../../.git/config"),
    )
    with pytest.raises(Refused, match=r"\.git/config"):
        _receive(stream, folder)


def test_a_very_long_name_is_refused_at_once(tmp_path: Path) -> None:
    """Of a million folders within each other: no time is spent on them."""
    with pytest.raises(ArchiveError, match="too long"):
        _receive(hostile(member("work/d" + "/d" * 100_000, data=b"1")), tmp_path)


def test_set_user_id_is_not_taken_over(tmp_path: Path) -> None:
    """A machine decides about permissions, not about whose they are."""
    _receive(hostile(member("work/x", data=b"1", mode=0o6755)), tmp_path)
    assert (tmp_path / "x").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("size", [-1, 4, 2**40, 2**70])
def test_sizes_that_lie(tmp_path: Path, size: int) -> None:
    """An item that promises too much or less than nothing is no reason to hang or to crash."""
    with pytest.raises(ArchiveError):
        _receive(hostile(frame(ITEMS, [["f", "work/x", 0, 0, size, ""]], b"123")), tmp_path)
    with pytest.raises(ArchiveError):
        _receive(
            hostile(frame(ITEMS, [["F", "work/x", 0, 0, 9, "", 0, size]]), frame(DATA, 0, b"1")), tmp_path
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lengths", [(2**31, 0), (0, 2**31), (5 << 20, 0), (0, 2 << 20)])
def test_a_frame_that_is_too_large_is_not_read(tmp_path: Path, lengths: tuple[int, int]) -> None:
    """It must not fill the memory."""
    header = struct.pack(">BBIII", ITEMS, 0, *lengths, 0)
    with pytest.raises(ArchiveError, match="larger"):
        _receive(hostile(header), tmp_path)


@pytest.mark.parametrize("kind", [BEGIN, ITEMS, DATA, END])
def test_a_frame_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, kind: int) -> None:
    """A kilobyte may be a gigabyte of zeros."""
    for packed, head, body in (
        (1, zlib.compress(bytes(8 << 20)), b""),
        (3, b"", zlib.compress(bytes(8 << 20))),
    ):
        whole = head or zlib.compress(b"[]")
        start = struct.pack(">BBIII", kind, packed, len(whole), len(body), 0)
        check = zlib.crc32(body, zlib.crc32(whole, zlib.crc32(start)))
        data = start[:-4] + struct.pack(">I", check) + whole + body
        with pytest.raises(ArchiveError, match="larger"):
            _receive(hostile(data), tmp_path)


def test_a_beginning_is_no_longer_than_was_asked_for(tmp_path: Path) -> None:
    """Who asks for many files says how much may be told of them; the end has nothing to tell of each."""
    long = {"paths": {f"/work/{number}": {"kind": "file"} for number in range(100_000)}}
    stream = MAGIC + frame(BEGIN, long) + frame(END, {})
    with pytest.raises(ArchiveError, match="larger"):
        read_archive(io.BytesIO(stream), lambda _: None)
    assert read_archive(io.BytesIO(stream), lambda _: None, begin_bytes=8 << 20).begin == long
    stream = MAGIC + frame(BEGIN, {}) + frame(END, long)
    with pytest.raises(ArchiveError, match="larger"):
        read_archive(io.BytesIO(stream), lambda _: None, begin_bytes=8 << 20)


@pytest.mark.parametrize("deep", [False, True])
def test_names_come_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, deep: bool) -> None:
    """They are kept until all has arrived, with the folders on the way to each: no memory is filled so."""
    monkeypatch.setattr(extract, "_MOST_NAMES", 20_000)
    names = [f"work/d/{number}" + ("/a" * 60 if deep else "a" * 120) for number in range(200)]
    with pytest.raises(Refused, match="names of more than"):
        _receive(hostile(member("work/d", "d"), *map(member, names)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_archive_of_somebody_elses(tmp_path: Path) -> None:
    """Without our note at its beginning nothing is placed."""
    stream = io.BytesIO(member("work/x", data=b"1") + bytes(1024))  # our note is missing
    with pytest.raises(ArchiveError, match="no archive of ours"):
        _receive(stream, tmp_path)


def test_a_full_disk_leaves_no_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while writing is the system's own, and what was written is removed."""
    source = tmp_path / "source"
    source.write_bytes(bytes(100))
    stream = archive(Entry(str(source), "/x"))

    def full(_fd: int, _data: object, _at: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        read_archive(stream, lambda _: str(tmp_path / "target"))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
