"""Archives: everything that a file system holds survives, and nothing that must not gets out."""

# Raw names need the functions of `os`.
# ruff: noqa: PTH101, PTH102, PTH112, PTH114, PTH115, PTH118, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snakemake_executor_ec2.agent.archive import ArchiveError, Contents, Entry, read_archive, write_archive

_names = st.one_of(
    st.text(min_size=1, max_size=60).map(lambda text: text.encode("utf-8", "replace")),
    st.binary(min_size=1, max_size=120),
).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..") and len(name) < 200
)
_mtimes = st.integers(0, 2**33 * 10**9)
_files = st.tuples(st.just("file"), st.binary(max_size=2000), st.sampled_from([0o600, 0o644, 0o755]), _mtimes)
_links = st.tuples(st.just("link"), _names, st.just(0), _mtimes)
_trees = st.recursive(
    st.one_of(_files, _links),
    lambda children: st.tuples(
        st.just("directory"),
        st.dictionaries(_names, children, max_size=4),
        st.sampled_from([0o700, 0o755, 0o500]),
        _mtimes,
    ),
    max_leaves=8,
)


def _build(path: bytes, node: Any) -> None:
    kind, content, mode, mtime = node
    if kind == "link":
        os.symlink(content, path)
        os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
        return
    if kind == "file":
        with open(path, "wb") as file:
            file.write(content)
    else:
        os.mkdir(path)
        for name, child in content.items():
            _build(os.path.join(path, name), child)
    os.chmod(path, mode)
    os.utime(path, ns=(mtime, mtime))


def _look(path: bytes) -> Any:
    status = os.lstat(path)
    facts = (status.st_mode, status.st_mtime_ns)
    if os.path.islink(path):
        return (*facts, os.readlink(path))
    if os.path.isdir(path):
        return (*facts, {name: _look(os.path.join(path, name)) for name in os.listdir(path)})
    with open(path, "rb") as file:
        return (*facts, file.read())


def _archive(*entries: Entry) -> io.BytesIO:
    stream = io.BytesIO()
    write_archive(stream, entries)
    stream.seek(0)
    return stream


@settings(max_examples=60, deadline=None)
@given(node=_trees)
def test_any_tree_survives_the_round_trip(node: Any) -> None:
    """Contents, modes, nanoseconds, links, empty directories, and names of any bytes."""
    with tempfile.TemporaryDirectory() as folder:
        source = os.fsencode(folder) + b"/source"
        target = os.fsencode(folder) + b"/new/target"
        _build(source, node)
        stream = _archive(Entry(os.fsdecode(source), "/data/x"))
        contents = read_archive(stream, lambda name: os.fsdecode(target) if name == "/data/x" else None)
        assert contents.placed == [os.fsdecode(target)]
        assert _look(target) == _look(source)
        assert os.listdir(os.path.dirname(target)) == [b"target"]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_an_archive_that_is_cut_short_places_nothing(data: st.DataObject) -> None:
    """Wherever it breaks off: no target appears, and no part of one is left."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        (source / "sub").mkdir(parents=True)
        (source / "sub" / "file").write_bytes(os.urandom(3000))
        whole = _archive(Entry(str(source), "/x")).getvalue()
        cut = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(ArchiveError):
            read_archive(io.BytesIO(whole[:cut]), lambda _: str(target / "deep" / "er"))
        assert not list(target.rglob("*er*"))
        assert not list(Path(folder).rglob(".ec2-part-*"))


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 4607), value=st.integers(0, 255))
def test_a_damaged_archive_never_does_worse_than_fail(position: int, value: int) -> None:
    """One byte changed: it is refused, or only that much of the content differs."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        source.write_bytes(bytes(600))
        damaged = bytearray(_archive(Entry(str(source), "/x")).getvalue())
        damaged[position % len(damaged)] = value
        try:
            read_archive(
                io.BytesIO(damaged), lambda name: str(target) if name == "/x" else None, roots=[folder]
            )
        except ArchiveError:
            assert not target.exists()
        assert {path.name for path in Path(folder).iterdir()} <= {"source", "target"}


def test_tar_itself_understands_it(tmp_path: Path) -> None:
    """What is sent can be looked at with the usual tool."""
    (tmp_path / ("a" * 120)).write_text("long")
    (tmp_path / "ünï").write_text("odd")
    stream = _archive(Entry(str(tmp_path), "/data"))
    listed = subprocess.run(["tar", "-t"], input=stream.getvalue(), capture_output=True, check=True)
    assert b"data/" + b"a" * 120 in listed.stdout


def test_entries_within_others_are_written_once(tmp_path: Path) -> None:
    """A directory and a file in it, or the same file twice, are no contradiction."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("1")
    entry = Entry(str(tmp_path / "d"), "/w/d")
    stream = _archive(Entry(str(tmp_path / "d" / "f"), "/w/d/f"), entry, entry)
    assert len(read_archive(stream, lambda _: str(tmp_path / "out")).placed) == 1


def test_a_directory_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """What was in it before is gone, also where it may not be written to."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "new").write_text("new")
    (target / "locked").mkdir(parents=True)
    (target / "locked" / "old").write_text("old")
    (target / "locked").chmod(0o500)
    read_archive(_archive(Entry(str(source), "/x")), lambda _: str(target))
    assert [path.name for path in target.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
def test_anything_replaces_anything(tmp_path: Path, kind: str) -> None:
    """A target that is something else than what arrives is replaced, too; a symlink, not what it leads to."""
    source, target, other = tmp_path / "source", tmp_path / "target", tmp_path / "other"
    source.write_text("new")
    other.write_text("untouched")
    if kind == "file":
        target.write_text("old")
    elif kind == "directory":
        target.mkdir()
        (target / "x").touch()
    else:
        target.symlink_to(other)
    read_archive(_archive(Entry(str(source), "/x")), lambda _: str(target))
    assert target.read_text() == "new"
    assert not target.is_symlink()
    assert other.read_text() == "untouched"


def test_what_place_skips_is_skipped_with_all_that_is_in_it(tmp_path: Path) -> None:
    """None for a directory leaves out the whole of it."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("1")
    (tmp_path / "e").write_text("2")
    asked: list[str] = []

    def place(name: str) -> str | None:
        asked.append(name)
        return None if name.startswith("/d") else str(tmp_path / "out")

    stream = _archive(Entry(str(tmp_path / "d"), "/d"), Entry(str(tmp_path / "e"), "/e"))
    contents = read_archive(stream, place)
    assert contents.placed == [str(tmp_path / "out")]
    assert set(asked) <= {"/d", "/d/f", "/e"}


class _Meddling(io.BytesIO):
    """A stream that does something to a file in the midst of its being written."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        super().__init__()
        self._meddle = meddle
        self._writes = 0

    def write(self, data: Any) -> int:
        self._writes += 1
        if self._writes == 4:
            self._meddle()
        return super().write(data)


@pytest.mark.parametrize("size", [0, 1_500_000, 9_000_000])
def test_a_file_that_changes_while_it_is_read_is_not_believed(tmp_path: Path, size: int) -> None:
    """It may shrink or grow: the stream stays whole, the reader knows, and nothing is placed."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"x" * 5_000_000)
    stream = _Meddling(lambda: os.truncate(source, size))
    write_archive(stream, [Entry(str(source), "/x"), Entry(str(tmp_path / "source"), "/y")])
    stream.seek(0)
    with pytest.raises(ArchiveError, match="/x changed"):
        read_archive(stream, lambda name: str(target) + name.replace("/", "-"))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_sockets_and_pipes_are_left_out_and_named(tmp_path: Path) -> None:
    """What is neither file, directory nor symlink cannot be sent."""
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "pipe")
    contents = read_archive(_archive(Entry(str(tmp_path / "d"), "/d")), lambda _: str(tmp_path / "out"))
    assert contents.skipped == ["/d/pipe"]
    assert list((tmp_path / "out").iterdir()) == []


def test_progress_counts_the_content(tmp_path: Path) -> None:
    """Both sides can tell how far they are."""
    (tmp_path / "f").write_bytes(bytes(3_000_000))
    sent: list[int] = []
    received: list[int] = []
    stream = io.BytesIO()
    size = write_archive(stream, [Entry(str(tmp_path / "f"), "/f")], progress=sent.append)
    stream.seek(0)
    contents = read_archive(stream, lambda _: str(tmp_path / "g"), progress=received.append)
    assert sum(sent) == sum(received) == size == contents.size == 3_000_000
    assert len(sent) >= 3


# --- hostile archives ---------------------------------------------------------------------


def _member(
    name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", mode: int = 0o644
) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(data), mode
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)


def _hostile(*members: bytes) -> io.BytesIO:
    begin = _member(".snakemake-ec2-archive/begin.json", data=json.dumps({}).encode())
    end = _member(".snakemake-ec2-archive/end.json", data=json.dumps({}).encode())
    return io.BytesIO(begin + b"".join(members) + end + bytes(1024))


def _receive(stream: io.BytesIO, folder: Path) -> Contents:
    """As the controller does: what belongs below /work is placed in a folder."""

    def place(name: str) -> str:
        if not name.startswith("/work/"):
            raise ArchiveError(f"{name} was not asked for")
        return str(folder) + name.removeprefix("/work")

    return read_archive(stream, place, roots=[str(folder)])


_DIRECTORY, _LINK = tarfile.DIRTYPE, tarfile.SYMTYPE
_HOSTILE = {
    "not asked for": [_member("etc/passwd", data=b"x")],
    "absolute": [_member("/work/x", data=b"x")],
    "climbing": [_member("work/../../x", data=b"x")],
    "climbing in a directory": [_member("work/d", kind=_DIRECTORY), _member("work/d/../../x", data=b"x")],
    "dot": [_member("work/./x", data=b"x")],
    "empty": [_member("work//x", data=b"x")],
    "device": [_member("work/x", kind=tarfile.CHRTYPE)],
    "pipe": [_member("work/x", kind=tarfile.FIFOTYPE)],
    "hard link": [_member("work/x", kind=tarfile.LNKTYPE, link="/etc/passwd")],
    "link out": [_member("work/x", kind=_LINK, link="/etc/passwd")],
    "relative link out": [_member("work/x", kind=_LINK, link="../../etc/passwd")],
    "link out in a directory": [
        _member("work/d", kind=_DIRECTORY),
        _member("work/d/x", kind=_LINK, link="../../outside"),
    ],
    "link with a detour": [
        _member("work/d", kind=_LINK, link="."),
        _member("work/x", kind=_LINK, link="d/../../outside"),
    ],
    "link to nothing": [_member("work/x", kind=_LINK, link="")],
    "below a link": [_member("work/x", kind=_LINK, link="y"), _member("work/x/z", data=b"x")],
    "below a link in a directory": [
        _member("work/d", kind=_DIRECTORY),
        _member("work/d/x", kind=_LINK, link="y"),
        _member("work/d/x/z", data=b"x"),
    ],
    "below a file": [_member("work/x", data=b"x"), _member("work/x/z", data=b"x")],
    "a link instead of a parent": [_member("work/x/z", data=b"x"), _member("work/x", kind=_LINK, link="y")],
    "twice": [_member("work/x", data=b"1"), _member("work/x", data=b"2")],
    "twice in a directory": [
        _member("work/d", kind=_DIRECTORY),
        _member("work/d/x", data=b"1"),
        _member("work/d/x", data=b"2"),
    ],
    "link with content": [_member("work/x", kind=_LINK, link="y", data=b"1")],
    "after the end": [_member(".snakemake-ec2-archive/end.json", data=b"{}"), _member("work/x", data=b"1")],
}


@pytest.mark.parametrize("members", _HOSTILE.values(), ids=_HOSTILE)
def test_a_hostile_archive_is_refused(tmp_path: Path, members: list[bytes]) -> None:
    """Refused as a whole, with nothing written outside, and nothing left inside."""
    folder = tmp_path / "here"
    folder.mkdir()
    good = _member("work/good", data=b"good")
    with pytest.raises(ArchiveError):
        _receive(_hostile(good, *members), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert not [path for path in folder.rglob("*") if not path.is_dir()]


def test_links_within_what_is_ours_are_fine(tmp_path: Path) -> None:
    """Relative and absolute ones, also up from a subdirectory."""
    stream = _hostile(
        _member("work/d", kind=_DIRECTORY, mode=0o755),
        _member("work/d/up", kind=_LINK, link="../x"),
        _member("work/d/own", kind=_LINK, link="y"),
        _member("work/abs", kind=_LINK, link=f"{tmp_path}/x"),
        _member("work/x", data=b"1"),
    )
    assert len(_receive(stream, tmp_path).placed) == 3
    assert (tmp_path / "d" / "up").read_text() == "1"


def test_an_old_symlink_of_ours_does_not_hide_where_a_new_one_leads(tmp_path: Path) -> None:
    """In a directory that is about to be replaced, what was there before counts for nothing."""
    folder = tmp_path / "here"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "d").mkdir()
    (folder / "d" / "sub").symlink_to(folder / "deep" / "er")
    stream = _hostile(
        _member("work/d", kind=_DIRECTORY),
        _member("work/d/sub", kind=_DIRECTORY),
        _member("work/d/sub/x", kind=_LINK, link="../../../outside"),
    )
    with pytest.raises(ArchiveError, match="leads out"):
        _receive(stream, folder)


def test_set_user_id_is_not_taken_over(tmp_path: Path) -> None:
    """A machine decides about permissions, not about whose they are."""
    _receive(_hostile(_member("work/x", data=b"1", mode=0o6755)), tmp_path)
    assert (tmp_path / "x").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("size", [-1, 2**40])
def test_sizes_that_lie(tmp_path: Path, size: int) -> None:
    """A header that promises too much or less than nothing is no reason to hang or to crash."""
    info = tarfile.TarInfo("work/x")
    info.size = size
    header = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(ArchiveError):
        _receive(_hostile(header), tmp_path)


def test_an_endless_extended_header_is_not_read(tmp_path: Path) -> None:
    """It must not fill the memory."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    with pytest.raises(ArchiveError, match="too large"):
        _receive(_hostile(info.tobuf(tarfile.GNU_FORMAT)), tmp_path)


def test_an_archive_of_somebody_elses(tmp_path: Path) -> None:
    """Without our note at its beginning nothing is placed."""
    stream = io.BytesIO(_member("work/x", data=b"1") + bytes(1024))
    with pytest.raises(ArchiveError, match="no archive of ours"):
        _receive(stream, tmp_path)


def test_a_full_disk_leaves_no_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while writing is the system's own, and what was written is removed."""
    source = tmp_path / "source"
    source.write_bytes(bytes(100))
    stream = _archive(Entry(str(source), "/x"))

    def full(_fd: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        read_archive(stream, lambda _: str(tmp_path / "target"))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.fixture(autouse=True)
def _writable_again(tmp_path: Path) -> Any:
    yield
    for folder, _, _ in os.walk(tmp_path):
        os.chmod(folder, 0o700)
    shutil.rmtree(tmp_path)
