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


def test_an_attempt_waits_for_one_that_is_about_to_end(machine: Machine, tmp_path: Path) -> None:
    """Of one that OpenSSH's client had begun when it was given up, only the end of its input tells."""
    (tmp_path / "file").write_text("content")
    archive = io.BytesIO()
    write_archive(archive, [Entry(str(tmp_path / "file"), str(machine.home / "work" / "file"))])
    unpack = machine.command("unpack", TRANSFER)
    with subprocess.Popen(unpack, stdin=subprocess.PIPE, env=machine.environment) as given_up:
        try:
            while not (machine.state / "arriving" / f"{TRANSFER}.pid").exists():
                time.sleep(0.02)
            with subprocess.Popen(unpack, stdin=subprocess.PIPE, env=machine.environment) as one:
                time.sleep(0.5)
                assert given_up.stdin
                given_up.stdin.close()
                one.communicate(archive.getvalue(), timeout=30)
        finally:
            given_up.kill()
    assert one.returncode == 0
    assert (machine.home / "work" / "file").read_text() == "content"
