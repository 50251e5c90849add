"""What the user's terminal is shown holds nothing that would command it."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.plugin.broken_pipe import plain, unbroken


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07 \x1b[2J", "\\x1b]0;title\\x07 \\x1b[2J"),
        ("50 %\r60 %", "50 %\\x0d60 %"),
        ("\x9b31m", "\\x9b31m"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("\udcff", "\\udcff"),
        ("ünï\tcode\n", "ünï\tcode\n"),
    ],
)
def test_escapes_are_spelled_out(text: str, shown: str) -> None:
    """Sequences, lone bytes, changes of direction; letters, tabs and lines are as they were."""
    assert plain(text) == shown


def test_all_that_a_run_tells_is_plain() -> None:
    """Whoever tells it need not think of that."""
    told: list[str] = []
    unbroken(told.append)("a file named \x1b[31m")
    assert told == ["a file named \\x1b[31m"]
