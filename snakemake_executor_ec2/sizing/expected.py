"""What a job is expected to cost in a market, with the risk of losing a spot machine. Pure.

The model, kept simple enough to be checked by hand: interruptions come at a constant rate, a job
that is interrupted starts again from nothing, it is tried twice on spot and then on-demand,
which is what the executor does. With `q` the chance that an attempt of `r` hours is not
interrupted, an attempt on spot lasts `(1 - q) / rate` hours on average, and the job costs

    spot price * (1 - q) / rate * (1 + (1 - q))  +  on-demand price * r * (1 - q)^2

At a third of the on-demand price, spot is the cheaper one up to about 38 hours of runtime; at
two thirds up to about 15.
"""

from __future__ import annotations

import math

INTERRUPTIONS_PER_HOUR = 0.05
"""An assumption, on the careful side: AWS publishes shares of machines interrupted in a month, from
under 5 % to over 20 % by type, and no API gives them for the present moment."""
ATTEMPTS = 2
"""How often a job is tried on spot before it gets an on-demand machine."""
DEFAULT_HOURS = 1.0
"""Taken where a rule has no `runtime`."""


def hours(runtime_min: int | None) -> float:
    """A job's expected hours, from its `runtime` in minutes."""
    return DEFAULT_HOURS if runtime_min is None else runtime_min / 60


def on_demand_usd(usd_per_hour: float, job_hours: float) -> float:
    """Expected dollars of a job on an on-demand machine."""
    return usd_per_hour * job_hours


def spot_usd(spot_per_hour: float, fallback_per_hour: float | None, job_hours: float) -> float:
    """Expected dollars of a job that begins on spot. `fallback_per_hour` is the on-demand price that the
    last attempt would pay; if it is unknown, that of spot counts instead."""
    survives = math.exp(-INTERRUPTIONS_PER_HOUR * job_hours)
    attempt_hours = (1 - survives) / INTERRUPTIONS_PER_HOUR
    attempts = sum((1 - survives) ** number for number in range(ATTEMPTS))
    last = fallback_per_hour if fallback_per_hour is not None else spot_per_hour
    return spot_per_hour * attempt_hours * attempts + (1 - survives) ** ATTEMPTS * last * job_hours
