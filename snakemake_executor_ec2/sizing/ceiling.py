"""The most that a machine may cost an hour: by default, and what to say if a job needs more. Pure.

A typing error (`mem_mb` in kilobytes, a zero too many) must not become a machine of $125
an hour. So there is a ceiling that nobody has to ask for, high enough for a machine of 1 TB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from snakemake_executor_ec2.model import InstanceType, Offer, Requirements
from snakemake_executor_ec2.sizing.dimensions import DIMENSIONS, Dimension

DEFAULT_USD_PER_HOUR = 10.0
"""An ordinary machine of 1 TB of memory costs $6.67 to $8.50."""
_ORDINARY_VCPUS = 128
_ORDINARY_MIB = 1024 * 1024


def is_ordinary(each: InstanceType) -> bool:
    """Whether a type whose price is unknown can be trusted to be below the default ceiling."""
    special = each.gpus or each.accelerators
    return not special and each.vcpus <= _ORDINARY_VCPUS and each.mem_mib <= _ORDINARY_MIB


def too_dear(
    wanted: Requirements,
    cheapest: Offer,
    most: float,
    *,
    by_default: bool,
    fits: Callable[[Requirements], bool],
) -> str:
    """The sentence for a job that only machines above the price limit fit; `cheapest` is the first of them.
    `fits` says whether other requirements could be met within the limit."""
    reasons = [text for text, less in _without_one(wanted) if fits(less)] or [
        text for text, _ in _without_one(wanted)
    ]
    name = cheapest.instance_type.name
    if reasons:
        what = f"with {' and '.join(reasons)}, the cheapest machine is {name}"
    else:
        what = f"the cheapest allowed type is {name}"
    if cheapest.price is None and not by_default:
        return f"--ec2-max-price {most:g} can't be kept: {what}, and its price is not known"
    if cheapest.price is None:
        return (
            f"{what}, whose price is not known: it may be above the default limit of ${most:g} an hour. "
            "--ec2-max-price inf allows it"
        )
    price = cheapest.price.usd_per_hour
    if not by_default:
        return f"{what}, at ${price:.4g} an hour, more than --ec2-max-price {most:g}"
    return (
        f"{what}, at ${price:.4g} an hour. None above ${most:g} an hour is launched unless you allow it: "
        f"--ec2-max-price {math.ceil(price)}"
    )


def _without_one(wanted: Requirements) -> Iterator[tuple[str, Requirements]]:
    """Each thing that a job asks for, and its requirements without that."""
    for each in DIMENSIONS:
        if each.is_asked_for(wanted):
            yield each.setting(wanted) + _in_words(each, wanted), each.without(wanted)
    if wanted.gpu_model:
        yield f"gpu_model={wanted.gpu_model!r}", replace(wanted, gpu_model=None)
    if wanted.instance_types:
        yield f"the instance types {', '.join(wanted.instance_types)}", replace(wanted, instance_types=())


def _in_words(what: Dimension, wanted: Requirements) -> str:
    """A slip is seen sooner in terabytes."""
    terabytes = what.need(wanted) / 10**6
    return f" ({terabytes:.4g} TB)" if what.resource == "mem_mb" and terabytes >= 1 else ""
