"""The expected cost of a job on spot."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_ec2.sizing.expected import INTERRUPTIONS_PER_HOUR, hours, on_demand_usd, spot_usd


def test_a_short_job_costs_its_price() -> None:
    """A minute on spot costs a minute's price: it is hardly ever interrupted."""
    assert spot_usd(0.3, 1.0, 1 / 60) == pytest.approx(0.3 / 60, rel=0.01)


@pytest.mark.parametrize(("share", "even_at_hours"), [(1 / 3, 38), (2 / 3, 15)])
def test_where_spot_stops_to_pay(share: float, even_at_hours: int) -> None:
    """The figures that the module's documentation tells."""
    assert spot_usd(share, 1.0, even_at_hours) < on_demand_usd(1.0, even_at_hours)
    assert spot_usd(share, 1.0, even_at_hours + 1) > on_demand_usd(1.0, even_at_hours + 1)


@pytest.mark.parametrize("job_hours", [1.0, 10.0, 40.0])
def test_as_a_simulation_has_it(job_hours: float) -> None:
    """Played 40,000 times, two attempts on spot and then on-demand cost what the formula says."""
    dice = random.Random(3)  # noqa: S311  (not a secret)
    total, rounds = 0.0, 40_000
    for _ in range(rounds):
        for _attempt in range(2):
            until = dice.expovariate(INTERRUPTIONS_PER_HOUR)
            total += 0.3 * min(until, job_hours)
            if until >= job_hours:
                break
        else:
            total += 1.0 * job_hours
    assert spot_usd(0.3, 1.0, job_hours) == pytest.approx(total / rounds, rel=0.03)


@given(st.floats(0.001, 10), st.floats(0.001, 10), st.floats(0.01, 1000))
def test_dearer_spot_costs_more(price: float, more: float, job_hours: float) -> None:
    """The order of spot prices is the order of expected costs, for whatever runtime."""
    assert spot_usd(price, 1.0, job_hours) < spot_usd(price + more, 1.0, job_hours)


def test_hours() -> None:
    """`runtime` is in minutes; without one, an hour is taken."""
    assert hours(90) == 1.5
    assert hours(None) == 1.0
