"""An upload whose connection is half open: the next attempt ends the last one, and goes on from there."""

from __future__ import annotations

import io
import os
import subprocess
import time
from pathlib import Path

import pytest

from snakemake_executor_ec2.agent.archive import Entry, write_archive
from snakemake_executor_ec2.agent.lanes import BLOCK
from tests.unit.agent.machine import Machine

TRANSFER = "a" * 32
LANE = "b" * 32 + ".0"


@pytest.mark.parametrize("blocks", [6, 5], ids=["the first channel", "a lane"])
def test_what_has_arrived_is_kept(machine: Machine, tmp_path: Path, blocks: int) -> None:
    """Whichever of its channels it waits for."""
    (tmp_path / "large").write_bytes(os.urandom(8 * BLOCK))
    time.sleep(0.1)  # else its times do not tell of a change
    archive = io.BytesIO()
    write_archive(archive, [Entry(str(tmp_path / "large"), str(machine.home / "work" / "large"))])
    both = [
        subprocess.Popen(
            machine.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=machine.environment
        )
        for words in (("unpack", TRANSFER, LANE), ("lane", LANE))
    ]
    with both[0], both[1]:
        try:
            for number in range(blocks):
                stream = both[number % 2].stdin
                assert stream is not None
                stream.write(archive.getvalue()[number * BLOCK : (number + 1) * BLOCK])
                stream.flush()
            deadline = time.monotonic() + 10
            while not any(each.stat().st_size >= 4 * BLOCK for each in machine.home.glob("work/*")):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            began = time.monotonic()
            answer = machine.ask("arrived", request={"transfer": TRANSFER})
            assert time.monotonic() - began < 8
            assert list(answer.said["have"].values()) == [4 * BLOCK]
        finally:
            for each in both:
                each.kill()
