"""What an hour costs: the Pricing API for on-demand machines, EC2's history for spot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_pricing import PricingClient
    from mypy_boto3_pricing.type_defs import FilterTypeDef

FEW_TYPES = 24
"""Up to this many types are asked for one by one, which takes a second instead of many."""

_PARALLEL = 8
_PRODUCTS = {
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
    "tenancy": "Shared",
}
_SPOT_PRODUCTS = ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"]


def fetch_on_demand(
    pricing: PricingClient, region: str, *, names: Sequence[str], vcpus: Iterable[int]
) -> dict[str, float]:
    """US dollars per hour by instance type: of the named types, or of all where none is named.

    The answer comes in pages of 100 that have to be asked for one after the other, so the
    whole region (about 20 pages) is split by number of vCPUs and fetched side by side.
    """
    if names:
        parts = [{"instanceType": name} for name in names]
    else:
        parts = [{"vcpu": str(count)} for count in sorted(set(vcpus))]
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="prices") as pool:
        answers = pool.map(lambda part: dict(_on_demand(pricing, region, part)), parts)
        return {name: price for answer in answers for name, price in answer.items()}


def _on_demand(pricing: PricingClient, region: str, part: dict[str, str]) -> Iterator[tuple[str, float]]:
    wanted = {"regionCode": region, **_PRODUCTS, **part}
    filters: list[FilterTypeDef] = [
        {"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()
    ]
    pages = pricing.get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters)
    for page in pages:
        for product in page["PriceList"]:
            yield from on_demand_price(product)


def on_demand_price(product: str) -> Iterator[tuple[str, float]]:
    """The type and the dollars per hour of one product of the price list, a JSON text.

    Products also have prices of zero, for what is paid otherwise: they are no prices.
    """
    found = json.loads(product)
    name = found.get("product", {}).get("attributes", {}).get("instanceType", "")
    for term in found.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            usd = float(dimension.get("pricePerUnit", {}).get("USD", 0))
            if name and usd > 0 and dimension.get("unit", "Hrs") == "Hrs":
                yield name, usd


def fetch_spot(ec2: EC2Client, now: datetime) -> dict[tuple[str, str], float]:
    """US dollars per hour now, by instance type and zone."""
    pages = ec2.get_paginator("describe_spot_price_history").paginate(
        StartTime=now, ProductDescriptions=_SPOT_PRODUCTS
    )
    newest: dict[tuple[str, str], tuple[datetime, float]] = {}
    for page in pages:
        for row in page["SpotPriceHistory"]:
            key = (row["InstanceType"], row["AvailabilityZone"])
            since = row["Timestamp"]
            if key not in newest or since > newest[key][0]:
                newest[key] = (since, float(row["SpotPrice"]))
    return {key: usd for key, (_, usd) in newest.items() if usd > 0}
