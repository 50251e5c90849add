"""Transfers that break off: they go on where they were, and never mix what does not belong together."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snakemake_executor_ec2.agent.archive import ArchiveError, Entry, read_archive, write_archive
from snakemake_executor_ec2.agent.extract import remove
from snakemake_executor_ec2.agent.stash import Stash

_CUTS = (0.1, 0.5, 0.9)


class _Transfer:
    """From a folder `source` to another one `target`, over a line that breaks."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.source, self.target = folder, folder / "source", folder / "target"
        self.source.mkdir()
        self.stash = Stash()
        self.sent = 0

    def fill(self, **sizes: int) -> None:
        """Make files, and let some time pass: what has just been written is not sure to stay as it is."""
        for name, size in sizes.items():
            (self.source / name).write_bytes(os.urandom(size))
        time.sleep(0.06)

    def attempt(self, share: float = 1.0) -> int:
        """Send what is missing, up to a share of it; the bytes that were sent."""
        stream = io.BytesIO()
        write_archive(stream, [Entry(str(self.source), "/x")], have=self.stash.have())
        data = stream.getvalue()[: int(share * stream.tell())]
        self.sent += len(data)
        read_archive(io.BytesIO(data), lambda _: str(self.target), stash=self.stash)
        return len(data)

    def broken(self, share: float) -> None:
        with pytest.raises(ArchiveError):
            self.attempt(share)
        assert not self.target.exists()

    def is_whole(self) -> bool:
        """Whether all is there, and nothing else."""
        self.stash.discard(remove)
        names = sorted(path.name for path in self.folder.iterdir())
        return names == ["source", "target"] and _contents(self.source) == _contents(self.target)


def _contents(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in folder.rglob("*"):
        status = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, content)
    return found


@pytest.fixture
def transfer(tmp_path: Path) -> _Transfer:
    return _Transfer(tmp_path)


@pytest.mark.parametrize("sizes", [{"large": 30 << 20}, {f"f{n}": 4096 for n in range(2000)}])
def test_a_transfer_that_is_cut_three_times_is_sent_once(transfer: _Transfer, sizes: dict[str, int]) -> None:
    """At 10, 50 and 90 % of what is missing each time: at most a tenth more than its bytes in all."""
    transfer.fill(**sizes)
    stream = io.BytesIO()
    write_archive(stream, [Entry(str(transfer.source), "/x")])
    for share in _CUTS:
        transfer.broken(share)
    transfer.attempt()
    assert transfer.sent < 1.1 * stream.tell()
    assert transfer.is_whole()


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 5000, 200_000, 3_000_000]), min_size=1, max_size=6),
    cuts=st.lists(st.floats(0, 0.999), max_size=4),
)
def test_wherever_it_is_cut(sizes: list[int], cuts: list[float]) -> None:
    """Small files, large ones and folders: what arrives is what was sent, modes and times included."""
    with tempfile.TemporaryDirectory() as name:
        transfer = _Transfer(Path(name))
        (transfer.source / "sub").mkdir()
        transfer.fill(**{f"sub/{number}": size for number, size in enumerate(sizes)})
        (transfer.source / "sub" / "0").chmod(0o400)
        time.sleep(0.06)
        for cut in cuts:
            transfer.broken(cut)
        transfer.attempt()
        assert transfer.is_whole()


def test_holes_are_no_reason_to_begin_again(transfer: _Transfer) -> None:
    """What has arrived is counted by where it is in the file."""
    with (transfer.source / "large").open("wb") as file:
        for _ in range(5):
            file.write(os.urandom(2 << 20))
            file.seek(50 << 20, os.SEEK_CUR)
        file.truncate(300 << 20)
    transfer.fill()
    transfer.broken(0.5)
    assert transfer.attempt() < 7 << 20
    assert (transfer.target / "large").stat().st_blocks * 512 < 12 << 20
    with (transfer.source / "large").open("rb") as one, (transfer.target / "large").open("rb") as other:
        while data := one.read(1 << 24):
            assert other.read(1 << 24) == data


def _rewrite(path: Path) -> None:
    status = path.stat()
    path.write_bytes(os.urandom(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as cunning as one can be


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(os.urandom(path.stat().st_size))
    other.replace(path)


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize("change", [_rewrite, _replace, _grow])
def test_a_file_that_changed_meanwhile_is_sent_anew(
    transfer: _Transfer, change: Callable[[Path], None]
) -> None:
    """Whatever its size and its modification time say: the new content comes whole, that of others once."""
    transfer.fill(a=3 << 20, b=6 << 20)
    transfer.broken(0.9)
    change(transfer.source / "b")
    transfer.fill()
    assert 6 << 20 < transfer.attempt() < 7 << 20
    assert transfer.is_whole()


def test_what_was_touched_where_it_arrived_is_sent_anew(transfer: _Transfer) -> None:
    """A bit that flips in what waits for the rest is found."""
    transfer.fill(a=3 << 20, b=6 << 20)
    transfer.broken(0.9)
    (part,) = transfer.folder.glob(".ec2-part-*/a")
    content = bytearray(part.read_bytes())
    content[1 << 20] ^= 1
    with part.open("r+b") as file:
        file.write(content)
    assert 3 << 20 < transfer.attempt() < 6 << 20
    assert transfer.is_whole()


def test_a_file_that_has_just_changed_is_not_resumed(transfer: _Transfer) -> None:
    """It could change again, and its times would not tell."""
    transfer.fill(a=3 << 20)
    with (transfer.source / "a").open("ab") as file:
        file.write(b"more")
    transfer.broken(0.9)
    assert transfer.stash.have() == {}


def test_what_is_not_fetched_after_all_is_removed(transfer: _Transfer) -> None:
    """A transfer that is given up leaves nothing."""
    transfer.fill(a=3 << 20)
    transfer.broken(0.9)
    transfer.broken(0.5)
    transfer.stash.discard(remove)
    assert [path.name for path in transfer.folder.iterdir()] == ["source"]
