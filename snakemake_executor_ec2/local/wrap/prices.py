"""Prices: in us-east-1 AWS's own, and none for a type whose price the package's snapshot does not know.
Those of other regions and of spot are made up, the same every time, of a plausible size, and labelled.

`pricing:GetProducts` for on-demand and `ec2:DescribeSpotPriceHistory` for spot, in AWS's shapes.
"""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime
from functools import cache
from typing import Any

from snakemake_executor_ec2.aws import snapshot

from .calls import ApiError, Call, Response, ec2_response, ec2_set, json_response
from .catalogue import is_spot_offered, type_info, zones_of

SYNTHETIC = "SYNTHETIC price of the embedded cloud, not AWS's"

_USD_PER_VCPU = 0.037
_USD_PER_GIB = 0.0028
_USD_PER_GPU = 0.45
_USD_PER_LARGE_GPU = 2.6
_USD_PER_LOCAL_GB = 0.00005
_SPOT_SHARE = 0.35
_PRODUCTS_A_PAGE = 100
_SPOT_PRICES_A_PAGE = 1000
_DESCRIPTIONS = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")
_LOCATIONS = {"us-east-1": "US East (N. Virginia)", "eu-central-1": "EU (Frankfurt)"}


def on_demand_usd_per_hour(name: str, region: str) -> float | None:
    """The price of a type that there is; None if AWS's is not known."""
    known = _snapshot().usd_per_hour.get(region)
    return _made_up(name, region) if known is None else known.get(name)


@cache
def _snapshot() -> snapshot.Snapshot:
    return snapshot.read()


def _made_up(name: str, region: str) -> float:
    info = type_info(name) or {}
    family = name.split(".")[0]
    usd: float = info["VCpuInfo"]["DefaultVCpus"] * _USD_PER_VCPU
    usd += info["MemoryInfo"]["SizeInMiB"] / 1024 * _USD_PER_GIB
    usd += info.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0) * _USD_PER_LOCAL_GB
    if info.get("BurstablePerformanceSupported"):
        usd *= 0.87
    if "arm64" in info["ProcessorInfo"]["SupportedArchitectures"]:
        usd *= 0.8
    elif "a" in family[2:]:
        usd *= 0.9
    for gpu in info.get("GpuInfo", {}).get("Gpus", []):
        usd += gpu.get("Count", 0) * (_USD_PER_LARGE_GPU if family.startswith("p") else _USD_PER_GPU)
    # Regions differ in price by as much as a sixth.
    return round(usd * (1 if region.startswith("us-") else 1 + _share(region) / 6), 4)


def spot_usd_per_hour(name: str, zone: str) -> float | None:
    """About a third of on-demand, another share in every zone; None if that is not known."""
    usd = on_demand_usd_per_hour(name, zone[:-1])
    return usd and round(usd * _SPOT_SHARE * (0.85 + 0.3 * _share(f"{name} {zone}")), 6)


def get_products(call: Call) -> Response:
    """Pricing's GetProducts, for Linux machines of EC2."""
    if call.params.get("ServiceCode") != "AmazonEC2":
        return json_response({"FormatVersion": "aws_v1", "PriceList": []})
    filters = {entry["Field"]: entry for entry in call.params.get("Filters", [])}
    region = filters.get("regionCode", {}).get("Value", call.region)
    names = sorted(zones_of(region))
    products = [
        product
        for name in names
        if (usd := on_demand_usd_per_hour(name, region)) is not None
        and _matches(product := _product(name, region, usd), filters)
    ]
    start = int(call.params.get("NextToken") or 0)
    size = min(int(call.params.get("MaxResults") or _PRODUCTS_A_PAGE), _PRODUCTS_A_PAGE)
    page = products[start : start + size]
    answer: dict[str, Any] = {
        "FormatVersion": "aws_v1",
        "PriceList": [json.dumps(product) for product in page],
    }
    if start + size < len(products):
        answer["NextToken"] = str(start + size)
    return json_response(answer)


def describe_spot_price_history(call: Call) -> Response:
    """The current price of every type in every zone: what `StartTime=now` asks for."""
    filters = call.filters()
    wanted_types = set(call.listed("InstanceType") or filters.get("instance-type", []))
    zone_parameter = call.params.get("AvailabilityZone")
    wanted_zones = {zone_parameter} if zone_parameter else set(filters.get("availability-zone", []))
    descriptions = call.listed("ProductDescription") or filters.get("product-description", [])
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    rows = [
        {
            "instanceType": name,
            "productDescription": description,
            "spotPrice": f"{usd:.6f}",
            "timestamp": now.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "availabilityZone": zone,
        }
        for name, zones in sorted(zones_of(call.region).items())
        if (not wanted_types or name in wanted_types) and is_spot_offered(name)
        for zone in sorted(zones)
        if (not wanted_zones or zone in wanted_zones) and (usd := spot_usd_per_hour(name, zone))
        for description in _DESCRIPTIONS
        if not descriptions or description in descriptions
    ]
    start = _page_start(call)
    size = min(int(call.params.get("MaxResults") or _SPOT_PRICES_A_PAGE), _SPOT_PRICES_A_PAGE)
    token = str(start + size) if start + size < len(rows) else ""
    content = ec2_set("spotPriceHistorySet", rows[start : start + size])
    return ec2_response("DescribeSpotPriceHistory", f"{content}<nextToken>{token}</nextToken>")


def _page_start(call: Call) -> int:
    token = call.params.get("NextToken") or "0"
    if not token.isdigit():
        raise ApiError("InvalidNextToken", f"The token '{token}' is not valid.")
    return int(token)


def _share(text: str) -> float:
    """A number from 0 to 1 that is the same on every computer."""
    return zlib.crc32(text.encode()) / 0xFFFFFFFF


def _matches(product: dict[str, Any], filters: dict[str, dict[str, str]]) -> bool:
    attributes = product["product"]["attributes"] | {
        "productFamily": product["product"]["productFamily"],
        "ServiceCode": "AmazonEC2",
    }
    for name, entry in filters.items():
        value, wanted = str(attributes.get(name, "")), entry["Value"]
        kind = entry.get("Type", "TERM_MATCH")
        fits = {
            "TERM_MATCH": value == wanted,
            "EQUALS": value == wanted,
            "CONTAINS": wanted in value,
            "ANY_OF": value in wanted.split(","),
            "NONE_OF": value not in wanted.split(","),
        }
        if kind not in fits:
            raise ApiError("InvalidParameterException", f"Filter type {kind} is not supported")
        if not fits[kind]:
            return False
    return True


def _product(name: str, region: str, usd_per_hour: float) -> dict[str, Any]:
    sku = f"SYN{zlib.crc32(f'{name} {region}'.encode()):010d}"
    offer, rate = f"{sku}.JRTCKXETXF", f"{sku}.JRTCKXETXF.6YS6EN2CT7"
    usd = f"{usd_per_hour:.10f}"
    is_known = region in _snapshot().usd_per_hour
    source = f"AWS's price of {_snapshot().prices_taken}" if is_known else SYNTHETIC
    dimension = {
        "rateCode": rate,
        "unit": "Hrs",
        "beginRange": "0",
        "endRange": "Inf",
        "description": f"${usd} per On Demand Linux {name} Instance Hour ({source})",
        "appliesTo": [],
        "pricePerUnit": {"USD": usd},
    }
    term = {
        "offerTermCode": "JRTCKXETXF",
        "sku": sku,
        "effectiveDate": "2026-01-01T00:00:00Z",
        "priceDimensions": {rate: dimension},
        "termAttributes": {},
    }
    return {
        "product": {
            "productFamily": "Compute Instance",
            "attributes": _attributes(name, region, source),
            "sku": sku,
        },
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {offer: term}},
        "version": "synthetic",
        "publicationDate": "2026-01-01T00:00:00Z",
    }


def _attributes(name: str, region: str, source: str) -> dict[str, str]:
    info = type_info(name) or {}
    return {
        "servicecode": "AmazonEC2",
        "servicename": "Amazon Elastic Compute Cloud",
        "instanceType": name,
        "instanceFamily": "General purpose",
        "regionCode": region,
        "location": _LOCATIONS.get(region, region),
        "locationType": "AWS Region",
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "licenseModel": "No License required",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
        "tenancy": "Shared",
        "operation": "RunInstances",
        "usagetype": f"BoxUsage:{name}",
        "vcpu": str(info["VCpuInfo"]["DefaultVCpus"]),
        "memory": f"{info['MemoryInfo']['SizeInMiB'] / 1024:g} GiB",
        "currentGeneration": "Yes" if info.get("CurrentGeneration") else "No",
        "priceSource": source,
    }
