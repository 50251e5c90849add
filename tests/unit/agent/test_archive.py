"""Archives: everything that a file system holds survives, and nothing that must not gets out."""

# Raw names need the functions of `os`.
# ruff: noqa: PTH101, PTH102, PTH112, PTH114, PTH115, PTH118, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snakemake_executor_ec2.agent import frames, parts
from snakemake_executor_ec2.agent.archive import ArchiveError, Entry, read_archive, write_archive

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


def archive(*entries: Entry) -> io.BytesIO:
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
        stream = archive(Entry(os.fsdecode(source), "/data/x"))
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
        whole = archive(Entry(str(source), "/x")).getvalue()
        cut = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(ArchiveError):
            read_archive(io.BytesIO(whole[:cut]), lambda _: str(target / "deep" / "er"))
        assert not list(target.rglob("*er*"))
        assert not list(Path(folder).rglob(".ec2-part-*"))


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_flipped_bit_is_found(place: float, flip: int) -> None:
    """One byte changed, wherever it is: the archive is refused, and nothing is left of it."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        source.mkdir()
        (source / "small").write_bytes(bytes(600))
        (source / "large").write_bytes(os.urandom(200_000))
        damaged = bytearray(archive(Entry(str(source), "/x")).getvalue())
        damaged[int(place * len(damaged))] ^= flip
        with pytest.raises(ArchiveError):
            read_archive(io.BytesIO(damaged), lambda name: str(target) if name == "/x" else None)
        assert [path.name for path in Path(folder).iterdir()] == ["source"]


def test_entries_within_others_are_written_once(tmp_path: Path) -> None:
    """A directory and a file in it, or the same file twice, are no contradiction."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("1")
    entry = Entry(str(tmp_path / "d"), "/w/d")
    stream = archive(Entry(str(tmp_path / "d" / "f"), "/w/d/f"), entry, entry)
    assert len(read_archive(stream, lambda _: str(tmp_path / "out")).placed) == 1


def test_a_directory_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """What was in it before is gone, also where it may not be written to."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "new").write_text("new")
    (target / "locked").mkdir(parents=True)
    (target / "locked" / "old").write_text("old")
    (target / "locked").chmod(0o500)
    read_archive(archive(Entry(str(source), "/x")), lambda _: str(target))
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
    read_archive(archive(Entry(str(source), "/x")), lambda _: str(target))
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

    stream = archive(Entry(str(tmp_path / "d"), "/d"), Entry(str(tmp_path / "e"), "/e"))
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
    contents = read_archive(archive(Entry(str(tmp_path / "d"), "/d")), lambda _: str(tmp_path / "out"))
    assert contents.skipped == ["/d/pipe"]
    assert list((tmp_path / "out").iterdir()) == []


def test_names_of_any_length_and_number_fit_into_the_frames(tmp_path: Path) -> None:
    """A frame's head is limited, and JSON needs up to twelve bytes for a character: fewer files share it."""
    source = tmp_path / "d"
    for depth in range(8):
        source = source / (str(depth) + "\N{SNAKE}" * 60)
    source.mkdir(parents=True)
    for number in range(1500):
        (source / f"{number}").write_bytes(b"%d" % number)
    for number in range(500):
        (source / f"link {number}").symlink_to("\N{SNAKE}" * 200)
    read_archive(archive(Entry(str(tmp_path / "d"), "/d")), lambda _: str(tmp_path / "out"))
    arrived = tmp_path / "out" / source.relative_to(tmp_path / "d")
    assert [(arrived / str(number)).read_bytes() for number in range(1500)] == [
        b"%d" % number for number in range(1500)
    ]
    assert (arrived / "link 499").readlink() == Path("\N{SNAKE}" * 200)


def test_more_that_is_left_out_than_can_be_named(tmp_path: Path) -> None:
    """The last note names the first ones."""
    (tmp_path / "d").mkdir()
    for number in range(2000):
        os.mkfifo(tmp_path / "d" / f"{number:04}{chr(128013) * 50}")
    contents = read_archive(archive(Entry(str(tmp_path / "d"), "/d")), lambda _: str(tmp_path / "out"))
    assert 100 < len(contents.skipped) < 2000
    assert contents.skipped[0].startswith("/d/0000")


@pytest.mark.parametrize(("sizes", "least", "most"), [([3_000_000], 3, 9), ([*range(300)], 1, 9)])
def test_progress_counts_the_content(tmp_path: Path, sizes: list[int], least: int, most: int) -> None:
    """Both sides can tell how far they are, in large files, and in small ones not with each."""
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}").write_bytes(bytes(size))
    sent: list[int] = []
    received: list[int] = []
    stream = io.BytesIO()
    size = write_archive(stream, [Entry(str(tmp_path), "/d")], progress=sent.append)
    stream.seek(0)
    contents = read_archive(stream, lambda _: str(tmp_path / "out"), progress=received.append)
    assert sum(sent) == sum(received) == size == contents.size == sum(sizes)
    assert least <= len(sent) == len(received) <= most


class _Line(io.BytesIO):
    """A line that takes its time, by a clock of its own."""

    def __init__(self, bytes_per_s: float) -> None:
        super().__init__()
        self.now = 0.0
        self._bytes_per_s = bytes_per_s

    def write(self, data: Any) -> int:
        self.now += len(data) / self._bytes_per_s
        return super().write(data)


@pytest.mark.parametrize(
    ("bytes_per_s", "is_text", "least", "most"),
    [(1e6, True, 0.0, 0.5), (1e9, True, 0.8, 1.01), (1e6, False, 1.0, 1.01), (1e9, False, 1.0, 1.01)],
)
def test_what_shrinks_is_compressed_on_a_slow_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bytes_per_s: float,
    is_text: bool,
    least: float,
    most: float,
) -> None:
    """Text goes over it in less than half of its bytes; a fast line does not wait for that, after its first
    few MiB; what does not shrink is sent as it is. In any case it arrives as it was."""
    size = 48 << 20
    text = b"".join(b"chr%d\t%d\t.\tA\tC\n" % (number % 22, number * 7919) for number in range(60_000))
    content = (text * (size // len(text) + 1))[:size] if is_text else os.urandom(size)
    (tmp_path / "source").write_bytes(content)
    line = _Line(bytes_per_s)
    monkeypatch.setattr(frames, "monotonic", lambda: line.now)
    write_archive(line, [Entry(str(tmp_path / "source"), "/x")])
    monkeypatch.undo()
    assert least * size < line.tell() < most * size
    line.seek(0)
    read_archive(line, lambda _: str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == content


def _with_holes(path: Path) -> None:
    with path.open("wb") as file:
        file.seek(40 << 20)
        file.write(b"in the middle")
        file.truncate(6 << 30)


def test_holes_stay_holes(tmp_path: Path) -> None:
    """6 GB of nothing are next to nothing on the line and on the disk."""
    source, target = tmp_path / "source", tmp_path / "target"
    _with_holes(source)
    stream = archive(Entry(str(source), "/x"))
    assert len(stream.getvalue()) < 1 << 20
    contents = read_archive(stream, lambda _: str(target))
    assert contents.size < 1 << 20
    assert target.stat().st_size == 6 << 30
    assert target.stat().st_blocks * 512 < 1 << 20
    with target.open("rb") as file:
        file.seek(40 << 20)
        assert file.read(16) == b"in the middle\0\0\0"


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=8), tail=st.integers(0, 5000))
def test_any_holes_survive(pieces: list[tuple[int, bool]], tail: int) -> None:
    """Wherever they are: the content is the same."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        with source.open("wb") as file:
            for blocks, is_data in pieces:
                if is_data:
                    file.write(b"x" * blocks * 4096)
                else:
                    file.seek(blocks * 4096, os.SEEK_CUR)
            file.truncate(file.tell() + tail)
        read_archive(archive(Entry(str(source), "/x")), lambda _: str(target))
        assert target.read_bytes() == source.read_bytes()


def test_parts_of_the_dead_are_removed(tmp_path: Path) -> None:
    """What a process that was killed left half written goes when something lands beside it; those of the
    living, of other computers and of others' making stay."""
    dead = subprocess.run(
        [sys.executable, "-c", f"from {parts.__name__} import new_part; print(new_part({str(tmp_path)!r}))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    alive = Path(parts.new_part(str(tmp_path)))
    computer = alive.name.split("-")[3]
    others = [Path(dead.replace(computer, "0" * 12)), tmp_path / ".ec2-part-0123456789abcdef", alive]
    for path in others:
        path.touch()
    Path(dead).mkdir()
    (Path(dead) / "file").touch()
    (tmp_path / "source").touch()
    read_archive(archive(Entry(str(tmp_path / "source"), "/x")), lambda _: str(tmp_path / "target"))
    assert not Path(dead).exists()
    assert all(path.exists() for path in others)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_is_ours_is_read_whatever_its_mode(tmp_path: Path) -> None:
    """A folder of mode 000 comes as that, with all that is in it, and is left as it was."""
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "closed").mkdir(parents=True)
    (source / "closed" / "file").write_text("1")
    (source / "closed" / "file").chmod(0o200)
    (source / "closed").chmod(0)
    stream = io.BytesIO()
    write_archive(stream, [Entry(str(source), "/x")], open_up=True)
    stream.seek(0)
    read_archive(stream, lambda _: str(target))
    for folder in (source, target):
        assert (folder / "closed").stat().st_mode & 0o777 == 0
        (folder / "closed").chmod(0o700)
        assert (folder / "closed" / "file").stat().st_mode & 0o777 == 0o200


@pytest.fixture(autouse=True)
def _writable_again(tmp_path: Path) -> Any:
    yield
    for folder, _, _ in os.walk(tmp_path):
        os.chmod(folder, 0o700)
    shutil.rmtree(tmp_path)
