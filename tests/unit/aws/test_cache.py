"""Answers kept on disk between runs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from snakemake_executor_ec2.aws.cache import DiskCache, default_directory
from tests.fakes.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cache(tmp_path: Path, clock: FakeClock) -> DiskCache:
    return DiskCache(tmp_path / "deep" / "cache", clock)


def test_kept_with_its_age(cache: DiskCache, clock: FakeClock) -> None:
    """A document comes back with the time at which it was stored, until it is too old."""
    stored_at = clock.now()
    cache.put("prices", "us-east-1", document={"a": 1})
    clock.advance(99)
    assert cache.get("prices", "us-east-1", max_age_s=100) == ({"a": 1}, stored_at)
    clock.advance(2)
    assert cache.get("prices", "us-east-1", max_age_s=100) is None


def test_keys_do_not_mix(cache: DiskCache) -> None:
    """Keys that look alike as file names are different."""
    cache.put("a", "b/c", document=1)
    assert cache.get("a", "b-c", max_age_s=100) is None
    assert cache.get("a-b", "c", max_age_s=100) is None


def test_private(cache: DiskCache, tmp_path: Path) -> None:
    """Only the user can read what is kept."""
    cache.put("a", document=1)
    (path,) = (tmp_path / "deep" / "cache").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"stored_at": "x", "document": 1}', '{"stored_at": 1}']
)
def test_damaged_files_are_no_answer(cache: DiskCache, tmp_path: Path, text: str) -> None:
    """A file that is cut off or of another making is as good as none."""
    cache.put("a", document=1)
    (path,) = (tmp_path / "deep" / "cache").iterdir()
    path.write_text(text)
    assert cache.get("a", max_age_s=100) is None


def test_a_document_of_the_future_is_no_answer(cache: DiskCache, clock: FakeClock) -> None:
    """A clock that was set back does not make a document live for ever."""
    cache.put("a", document=1)
    clock.advance(-1000)
    assert cache.get("a", max_age_s=100) is None


def test_unwritable_directory(tmp_path: Path, clock: FakeClock) -> None:
    """Where nothing can be stored, nothing is, and the run goes on."""
    (tmp_path / "file").write_text("")
    cache = DiskCache(tmp_path / "file" / "cache", clock)
    cache.put("a", document=1)
    assert cache.get("a", max_age_s=100) is None


def test_no_directory(clock: FakeClock) -> None:
    """Without a directory nothing is kept."""
    cache = DiskCache(None, clock)
    cache.put("a", document=1)
    assert cache.get("a", max_age_s=100) is None


def test_old_files_go(cache: DiskCache, clock: FakeClock, tmp_path: Path) -> None:
    """What nobody asked for in a month is removed."""
    cache.put("old", document=1)
    (path,) = (tmp_path / "deep" / "cache").iterdir()
    os.utime(path, (clock.now(), clock.now()))
    clock.advance(31 * 86_400)
    cache.put("new", document=1)
    assert not path.exists()


def test_default_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is where the user's caches are, or where the user wants it."""
    monkeypatch.delenv("SNAKEMAKE_EC2_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_directory() == Path("/somewhere/snakemake-ec2")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_directory() == Path.home() / ".cache" / "snakemake-ec2"
    monkeypatch.setenv("SNAKEMAKE_EC2_CACHE", "/elsewhere")
    assert default_directory() == Path("/elsewhere")
