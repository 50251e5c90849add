"""How long a machine waits: by time, and by what that costs."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.model import Price
from snakemake_executor_ec2.sizing.lease import lease_s
from tests.unit.sizing.types import needs


@pytest.mark.parametrize(
    ("usd", "runtime_min", "hours"),
    [
        (0.1, None, 12.0),  # a night costs a dollar
        (5.0, None, 2.0),  # ten dollars
        (125.6, None, 0.5),  # not so short that an outage of minutes ends the job
        (5.0, 300, 5.0),  # the job may come to its end
        (5.0, 60, 2.0),
        (5.0, 6000, 12.0),  # but nothing waits longer than it would by default
    ],
)
def test_a_lease_is_bounded_in_dollars(usd: float, runtime_min: int | None, hours: float) -> None:
    """Ten dollars, at least half an hour, at most the time of the option; a longer runtime wins."""
    price = Price(usd_per_hour=usd, source="")
    assert lease_s(12 * 3600, 10.0, price, needs(runtime_min=runtime_min)) == hours * 3600


def test_a_lease_that_was_asked_for_is_kept() -> None:
    """Who names a time gets it; so does a machine whose price nobody knows."""
    price = Price(usd_per_hour=100.0, source="")
    assert lease_s(7200, None, price, needs()) == 7200
    assert lease_s(7200, 10.0, None, needs()) == 7200
