"""The catalogue that moto ships, with made-up prices: what selection is tested on."""

from __future__ import annotations

import random
import re
from functools import cache

from moto.ec2.models.instance_types import INSTANCE_TYPES

from snakemake_executor_ec2.aws.catalogue import instance_type
from snakemake_executor_ec2.model import InstanceType, Offer, Price, Requirements
from snakemake_executor_ec2.sizing.catalogue import Catalogue

ZONES = ("us-east-1a", "us-east-1b")


@cache
def all_types() -> tuple[InstanceType, ...]:
    found = (instance_type(row) for row in INSTANCE_TYPES.values())
    return tuple(row for row in found if row is not None)


@cache
def all_prices() -> dict[tuple[str, str], Price]:
    """Synthetic and different for each type, so that there is one cheapest."""
    dice = random.Random(7)  # noqa: S311  (not a secret)
    return {
        (each.name, ""): Price(
            usd_per_hour=each.vcpus * 0.03 + each.mem_mib / 1024 * 0.004 + dice.uniform(0, 0.5),
            source="made up",
        )
        for each in all_types()
    }


@cache
def full() -> Catalogue:
    return Catalogue(all_types(), zones=lambda _: ZONES, prices=all_prices(), region="us-east-1")


def needs(**more: object) -> Requirements:
    fields: dict[str, object] = {"threads": 1, "mem_mb": 1000, "disk_mb": 1000, **more}
    return Requirements(**fields)  # type: ignore[arg-type]


def names(offers: tuple[Offer, ...]) -> list[str]:
    return [each.instance_type.name for each in offers]


def is_unsuited(name: str) -> bool:
    """Types that would not serve a job without a wish: see `catalogue._UNSUITED`."""
    return re.match(r"(hpc|a1\.|g3s?\.|g4ad\.|p2\.|p3(dn)?\.)", name) is not None
