"""How the stand-ins for system programs read their arguments."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.local.machine import shims


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("1h", 3600),
        ("90", 90),
        ("1h 30min", 5400),
        ("2d", 172800),
        ("1.5s", 1.5),
        ("5min20s", 320),
    ],
)
def test_time_spans(text: str, seconds: float) -> None:
    """Spans are read as systemd.time(7) has them."""
    assert shims._seconds(text) == seconds


@pytest.mark.parametrize("text", ["soon", "", "5parsecs", "-5", "1h;"])
def test_nonsense_is_no_time_span(text: str) -> None:
    """What systemd refuses is refused."""
    with pytest.raises(ValueError, match="Failed to parse timer value"):
        shims._seconds(text)


def test_options_end_where_the_command_begins() -> None:
    """systemd-run's options in each of their forms; the command's own are left alone."""
    words = ["--no-block", "--unit=u", "-p", "A=1", "-EB=2", "--on-active", "5", "--", "sh", "-c", "x"]
    options, command = shims._split_run(words)
    assert command == ["sh", "-c", "x"]
    assert options == {
        "--no-block": [],
        "--unit": ["u"],
        "--property": ["A=1"],
        "--setenv": ["B=2"],
        "--on-active": ["5"],
    }
