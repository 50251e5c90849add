"""How long a machine waits for a controller that no longer contacts it: limited in time and dollars. Pure."""

from __future__ import annotations

from snakemake_executor_ec2.model import Price, Requirements

DEFAULT_S = 12 * 3600.0
DEFAULT_USD = 10.0
"""What a machine may cost while it waits, unless the user says how long it should."""
_SHORTEST_S = 1800.0
"""A short outage must not end a job, whatever its machine costs."""


def lease_s(most_s: float, most_usd: float | None, price: Price | None, requirements: Requirements) -> float:
    """The lease of a job's machine: `most_s`, or less if that is worth more than `most_usd`. A `runtime`
    that is longer wins: a job that was left to work is to come to its end."""
    if most_usd is None or price is None:
        return most_s
    affordable_s = max(_SHORTEST_S, most_usd / price.usd_per_hour * 3600)
    return min(most_s, max(affordable_s, (requirements.runtime_min or 0) * 60.0))
