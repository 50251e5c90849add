"""What is told of transfers and waits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from snakemake_executor_ec2.machines.counting import InParts, Transfers
from snakemake_executor_ec2.model import Transfer
from snakemake_executor_ec2.records.live import Live, read
from snakemake_executor_ec2.report.transfers import Told, Waits, told_if_slow
from tests.fakes.clock import FakeClock

MB = 10**6


def told_of(seconds_a_mb: float, sent_mb: int, tmp_path: Path, *, known: bool = True) -> list[str]:
    """What a user hears of a file that is sent so slowly, megabyte by megabyte."""
    clock, told = FakeClock(), list[str]()
    (tmp_path / "runs").mkdir(exist_ok=True)
    live = Live(tmp_path, "r")
    transfers = Transfers(clock=clock, tell=told.append, live=live)
    with transfers.going("k", "to", "sending 1 file") as progress:
        for sent in range(sent_mb):
            progress((sent + 1) * MB, sent_mb * MB if known else 0)
            clock.sleep(seconds_a_mb)
    live._written = 0.0
    live.moves("other", None)
    assert read(tmp_path, "r") == ({}, {})
    return told


def test_a_short_transfer_is_not_told(tmp_path: Path) -> None:
    """Five seconds are no event."""
    assert told_of(0.1, 49, tmp_path) == []


def test_a_long_one_is_told_every_ten_seconds(tmp_path: Path) -> None:
    """Bytes, of how many, how fast, and what is left."""
    told = told_of(0.5, 60, tmp_path)
    assert len(told) == 3
    assert told[0] == "sending 1 file: 11 MB of 60 MB, 2.2 MB/s, 22 s left"
    assert told[-1].startswith("sending 1 file: 51 MB of 60 MB")


def test_one_of_unknown_length_says_how_far_it_is(tmp_path: Path) -> None:
    """Without a word on what is left."""
    assert told_of(0.5, 20, tmp_path, known=False) == ["sending 1 file: 11 MB so far, 2.2 MB/s"]


def test_a_fetch_in_parts_says_what_is_left_of_the_whole() -> None:
    """Results of a whole run come home in many transfers: bytes, rate and what is left are of all of them."""
    clock, told = FakeClock(), list[str]()
    whole = Told(what="fetching 3 files", now=clock.monotonic, tell=told.append, show=lambda *_: None)
    parts = InParts(clock=clock, tell=told.append, live=None, told=whole, total=60 * MB)
    for _ in range(3):
        with parts.going("away", "from", "fetching 1 file") as progress:
            for sent in range(20):
                progress((sent + 1) * MB, 20 * MB)
                clock.sleep(0.5)
    assert len(told) == 3
    assert told[0] == "fetching 3 files: 11 MB of 60 MB, 2.2 MB/s, 22 s left"
    assert told[-1].startswith("fetching 3 files: 51 MB of 60 MB")


def test_what_happens_once_is_told_only_if_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """And once."""
    told = list[str]()
    with told_if_slow(told.append, "asking"):
        pass
    monkeypatch.setattr("snakemake_executor_ec2.report.transfers.SLOW_S", 0.0)
    with told_if_slow(told.append, "asking"):
        time.sleep(0.2)
    assert told == ["asking"]


def test_only_long_waits_are_named() -> None:
    """In the line that says that the job runs."""
    quick = Transfer(files=1, bytes=10, seconds=0.3)
    slow = Transfer(files=1, bytes=1_200_000_000, seconds=12.0)
    assert Waits(boot_s=2.0, software_s=1.0, sent=quick).told() == ""
    assert (
        Waits(boot_s=34.0, software_s=41.0, sent=slow).told()
        == " (after boot 34 s, software 41 s, inputs of 1.2 GB 12 s)"
    )
