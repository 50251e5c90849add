"""What a fetch brings home, and what it leaves alone."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from snakemake_executor_ec2.agent.away_client import FinishedFile
from snakemake_executor_ec2.away.fetch import fetch
from snakemake_executor_ec2.away.project import note_of
from snakemake_executor_ec2.model import Transfer
from snakemake_executor_ec2.report.away import fetched
from tests.unit.away.test_project import STARTED

_AHEAD_NS = 5 * 10**9
_MADE_NS = 10**18


def test_what_was_made_here_since_is_not_replaced(tmp_path: Path) -> None:
    """By what is older there, as the clocks compare; what is the same is neither fetched nor told."""
    for name, made_ns in (("same.txt", _MADE_NS), ("newer.txt", _MADE_NS + 1)):
        (tmp_path / name).write_text("here")
        os.utime(tmp_path / name, ns=(made_ns, made_ns))
        (tmp_path / note_of(name)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / note_of(name)).write_text("{}")
    there = [
        FinishedFile(name=name, kind="file", bytes=4, mtime_ns=_MADE_NS + _AHEAD_NS, sha256=None, note=True)
        for name in ("same.txt", "newer.txt")
    ]
    machine = SimpleNamespace(
        workdir=tmp_path,
        ahead_ns=_AHEAD_NS,
        finished=lambda _: there,
        connection=SimpleNamespace(machine_id="i-1"),
    )

    home = fetch(cast("Any", machine), STARTED, [], print)

    assert home.newer == ("newer.txt",)
    assert (home.transfer.files, home.transfer.kept) == (0, 1)
    assert "1 in this folder is newer than there, and not replaced" in fetched(home.transfer, 0, 1)
    assert "newer" not in fetched(Transfer(files=1, bytes=1, seconds=0.0, kept=0), 0, 0)


def test_a_fetch_without_results_says_so() -> None:
    """Instead of naming a number and a size that are zero."""
    none = Transfer(files=0, bytes=0, seconds=0.0, kept=0)
    assert fetched(none, 0, 0) == "fetched nothing: no finished result was found"
    old = Transfer(files=0, bytes=0, seconds=0.0, kept=2)
    assert fetched(old, 0) == "fetched nothing new, 2 were here already"
