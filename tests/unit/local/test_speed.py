"""How long machines of the embedded cloud take to start."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud

from .conftest import Rig


def test_boot_is_quick(rig: Rig) -> None:
    """From the launch to a first command in a third of a second; a few on a busy computer."""
    started = time.monotonic()
    launched = rig.launch()
    launched.run("true")
    assert time.monotonic() - started < 5


def test_a_cloud_as_slow_as_ec2(tmp_path: Path) -> None:
    """Every machine boots for as long as it is told, and its first installation takes longer, once."""
    with EmbeddedCloud(cache_dir=tmp_path / "cache", boot_s=1.0, software_s=1.5) as cloud:
        if not cloud.state()["isolated"]:
            pytest.skip("machines have this computer's own uv")
        rig = Rig(cloud, tmp_path)
        for _ in range(2):
            launched, started = rig.launch(), time.monotonic()
            launched.run("true")
            assert time.monotonic() - started > 1.0
            started = time.monotonic()
            launched.run("uv pip install --offline nothing-here || true")
            first, started = time.monotonic() - started, time.monotonic()
            launched.run("uv pip install --offline nothing-here || true; uv --version")
            assert first > 1.5
            assert time.monotonic() - started < first
