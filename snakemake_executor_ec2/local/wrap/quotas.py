"""Quotas: EC2's limits in vCPUs, as Service Quotas tells them and as RunInstances enforces them."""

from __future__ import annotations

from dataclasses import dataclass

from ..faultbook import FaultBook
from .calls import ApiError, Call, Response, json_response
from .catalogue import vcpus

_PLENTY_OF_VCPUS = 5000.0


@dataclass(frozen=True, kw_only=True)
class Quota:
    """One of EC2's quotas."""

    code: str
    name: str
    market: str
    families: tuple[str, ...]
    """The first letters of the instance families that it counts, in part with their generation."""


_STANDARD = ("a", "c", "d", "h", "i", "m", "r", "t", "z")
QUOTAS = (
    Quota(
        code="L-1216C47A",
        name="Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        market="on-demand",
        families=_STANDARD,
    ),
    Quota(
        code="L-34B43A08",
        name="All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
        market="spot",
        families=_STANDARD,
    ),
    Quota(
        code="L-DB2E81BA",
        name="Running On-Demand G and VT instances",
        market="on-demand",
        families=("g", "gr", "vt"),
    ),
    Quota(
        code="L-3819A6DF",
        name="All G and VT Spot Instance Requests",
        market="spot",
        families=("g", "gr", "vt"),
    ),
    Quota(code="L-417A185B", name="Running On-Demand P instances", market="on-demand", families=("p",)),
    Quota(
        code="L-7212CCBC",
        name="All P4, P3 and P2 Spot Instance Requests",
        market="spot",
        families=("p2", "p3", "p4"),
    ),
    Quota(code="L-C4BD4855", name="All P5 Spot Instance Requests", market="spot", families=("p5",)),
    Quota(code="L-6E869C2A", name="Running On-Demand DL instances", market="on-demand", families=("dl",)),
    Quota(code="L-85EED4F7", name="All DL Spot Instance Requests", market="spot", families=("dl",)),
    Quota(code="L-74FC7D96", name="Running On-Demand F instances", market="on-demand", families=("f",)),
    Quota(code="L-88CF9481", name="All F Spot Instance Requests", market="spot", families=("f",)),
    Quota(code="L-F7808C92", name="Running On-Demand HPC instances", market="on-demand", families=("hpc",)),
    Quota(
        code="L-43DA4232", name="Running On-Demand High Memory instances", market="on-demand", families=("u",)
    ),
    Quota(code="L-1945791B", name="Running On-Demand Inf instances", market="on-demand", families=("inf",)),
    Quota(code="L-B5D1601B", name="All Inf Spot Instance Requests", market="spot", families=("inf",)),
    Quota(code="L-2C3B7624", name="Running On-Demand Trn instances", market="on-demand", families=("trn",)),
    Quota(code="L-6B0D517C", name="All Trn Spot Instance Requests", market="spot", families=("trn",)),
    Quota(code="L-7295265B", name="Running On-Demand X instances", market="on-demand", families=("x",)),
    Quota(code="L-E3A00192", name="All X Spot Instance Requests", market="spot", families=("x",)),
)


def quota_of(instance_type: str, market: str) -> Quota | None:
    """The quota that counts a type, if it is one of those that this cloud knows."""
    letters = ""
    for letter in instance_type:
        if not letter.isalpha():
            break
        letters += letter
    names = {letters, instance_type[: len(letters) + 1]}
    # `im4gn` and `is4gen` count as I. `mac2` only runs on dedicated hosts.
    names |= {"i"} if letters in ("im", "is") else set()
    of_market = (quota for quota in QUOTAS if quota.market == market)
    return next((quota for quota in of_market if names.intersection(quota.families)), None)


def value_of(quota: Quota, faults: FaultBook) -> float:
    """The quota's value in vCPUs."""
    told = faults.take("quota", code=quota.code)
    return _PLENTY_OF_VCPUS if told is None else float(told["value"])


def get_service_quota(call: Call, faults: FaultBook) -> Response:
    """Service Quotas' GetServiceQuota for EC2."""
    code = call.params.get("QuotaCode")
    quota = next((quota for quota in QUOTAS if quota.code == code), None)
    if call.params.get("ServiceCode") != "ec2" or quota is None:
        raise ApiError("NoSuchResourceException", "The request failed because the quota doesn't exist.")
    document = {
        "ServiceCode": "ec2",
        "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
        "QuotaArn": f"arn:aws:servicequotas:{call.region}:123456789012:ec2/{quota.code}",
        "QuotaCode": quota.code,
        "QuotaName": quota.name,
        "Value": value_of(quota, faults),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }
    return json_response({"Quota": document})


def affordable(
    instance_type: str, market: str, *, most: int, in_use: list[tuple[str, str]], faults: FaultBook
) -> int:
    """How many of a type fit beside the (type, market) pairs that run, up to `most`."""
    quota = quota_of(instance_type, market)
    size = vcpus(instance_type)
    if quota is None or size == 0:
        return most
    used = sum(vcpus(name) for name, other in in_use if quota_of(name, other) == quota)
    return max(0, min(most, int((value_of(quota, faults) - used) // size)))


def exceeded(instance_type: str, market: str, faults: FaultBook) -> ApiError:
    """What RunInstances answers when the quota is used up."""
    if market == "spot":
        return ApiError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    quota = quota_of(instance_type, market)
    limit = int(value_of(quota, faults)) if quota else 0
    return ApiError(
        "VcpuLimitExceeded",
        f"You have requested more vCPU capacity than your current vCPU limit of {limit} allows for the "
        "instance bucket that the specified instance type belongs to. Please visit "
        "http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.",
    )
