"""The folder that outlives clouds."""

from __future__ import annotations

import os
from pathlib import Path

from snakemake_executor_ec2.local.cache import prune, share_built_wheels


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


def test_a_wheel_is_built_once(tmp_path: Path) -> None:
    """What uv built from a registry's sources is offered to all hosts, other builds are not."""
    built = tmp_path / "uv/sdists-v11/pypi/some-pool/0.0.3/abc/some_pool-0.0.3-py3-none-any.whl"
    another = tmp_path / "uv/sdists-v11/git/def/some_pool-9-py3-none-any.whl"
    for wheel in (built, another):
        wheel.parent.mkdir(parents=True)
        wheel.write_bytes(b"x")
    share_built_wheels(tmp_path)
    share_built_wheels(tmp_path)
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [built.name]
