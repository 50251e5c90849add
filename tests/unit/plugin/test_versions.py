"""What differs between the versions of Snakemake that are supported."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from snakemake_executor_ec2.plugin import snakemake_private


@pytest.mark.parametrize("nodes", [4, SimpleNamespace(value=4)], ids=["9.14", "newer"])
def test_jobs_at_a_time(nodes: Any) -> None:
    """`--jobs` is a number up to Snakemake 9.14, and then an object that holds one."""
    assert snakemake_private.jobs_at_a_time(SimpleNamespace(global_resources={"_nodes": nodes})) == 4
