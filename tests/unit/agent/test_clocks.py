"""Two clocks: how far they are apart, and what that does to the times of files."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from snakemake_executor_ec2.agent.archive import Entry, read_archive, write_archive
from snakemake_executor_ec2.timing import ahead_s


@pytest.mark.parametrize(
    ("there", "ahead"),
    [(1000.5, 0.0), (1001.4, 0.0), (999.1, 0.0), (1600.5, 600.0), (400.5, -600.0), (None, 0.0)],
)
def test_only_what_cannot_be_the_way_s_length_counts(there: float | None, ahead: float) -> None:
    """A machine that answers in a second is off by more than the answer may have taken, or not at all."""
    assert ahead_s(1000.0, there, 1001.0) == ahead


@pytest.mark.parametrize("shift_ns", [600 * 10**9 + 1, -600 * 10**9 - 1])
def test_times_are_shifted_there_and_back(tmp_path: Path, shift_ns: int) -> None:
    """Every time is shifted by the same, also before 1970, and is what it was when it has come back."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, time_ns in (("old", 5), ("new", 1_700_000_000_123_456_789)):
        (tree / name).write_text(name)
        os.utime(tree / name, ns=(time_ns, time_ns))
    (tree / "link").symlink_to("old")
    before = _times(tree)

    _send(tree, tmp_path / "there", written=shift_ns, read=0)
    _send(tmp_path / "there", tmp_path / "back", written=0, read=-shift_ns)

    assert _times(tmp_path / "there") == {name: time_ns + shift_ns for name, time_ns in before.items()}
    assert _times(tmp_path / "back") == before


def _send(tree: Path, to: Path, *, written: int, read: int) -> None:
    stream = io.BytesIO()
    write_archive(stream, [Entry(str(tree), "/tree")], shift_ns=written)
    stream.seek(0)
    read_archive(stream, lambda _: str(to), shift_ns=read)


def _times(tree: Path) -> dict[str, int]:
    return {path.name: path.lstat().st_mtime_ns for path in tree.iterdir()} | {"": tree.lstat().st_mtime_ns}
