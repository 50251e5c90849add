"""The folder that outlives clouds."""

from __future__ import annotations

import os
from pathlib import Path

from snakemake_executor_ec2.local.cache import prune


def test_oldest_files_go_first(tmp_path: Path) -> None:
    """What is over the limit is deleted from the oldest on, with the folders that it leaves empty."""
    for age, name in enumerate(("new/a", "new/b", "old/c", "old/d")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (1000 - age, 1000 - age))
    prune(tmp_path, 250)
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["new", "a", "b"]
    prune(tmp_path, 0)
    assert tmp_path.exists()
    assert not list(tmp_path.iterdir())
