"""A machine's cost, split over its jobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_ec2.sizing.cost import shares

SECONDS = st.floats(min_value=0, max_value=1e6)


@given(total_s=SECONDS, own_s=st.lists(SECONDS, min_size=1, max_size=20))
def test_shares_are_one_together(total_s: float, own_s: list[float]) -> None:
    """Whatever was measured: clocks that differ, jobs of no time. Who used more does not pay less."""
    parts = shares(total_s, own_s)
    assert sum(parts) == pytest.approx(1)
    assert [*sorted(parts)] == [part for _, part in sorted(zip(own_s, parts, strict=True))]


def test_a_job_pays_its_time_and_its_part_of_the_rest() -> None:
    """100 s, of which 20 and 40 were theirs: 40 s of boot and waiting are split."""
    assert shares(100, [20, 40]) == pytest.approx([0.4, 0.6])
    assert shares(100, [7]) == [1]
    assert shares(100, []) == []
