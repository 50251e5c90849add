"""What EC2 checks before it launches and moto does not; and ClientToken: a launch that is safe to repeat."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from ..faultbook import FaultBook
from . import images, quotas
from .backend import backend, instances, is_gone
from .calls import ApiError, Call, Response
from .catalogue import architectures, type_info, zones_of

_USER_DATA_LIMIT = 16384
# What may differ between two calls that mean the same launch.
_NOT_PART_OF_THE_LAUNCH = ("ClientToken", "Version", "Action")

Launcher = Callable[[Call], Response]


class Launches:
    """RunInstances, around moto's."""

    def __init__(self, faults: FaultBook) -> None:
        self._faults = faults
        self._answers: dict[tuple[str, str], tuple[dict[str, Any], Response]] = {}

    def run_instances(self, call: Call, launch: Launcher) -> Response:
        """Launch once for a token. The caller holds the backend's lock."""
        token = str(call.params.get("ClientToken", ""))
        meant = {name: value for name, value in call.params.items() if name not in _NOT_PART_OF_THE_LAUNCH}
        known = self._answers.get((call.region, token)) if token else None
        if known is not None:
            if known[0] != meant:
                raise ApiError(
                    "IdempotentParameterMismatch",
                    "The parameters in this request don't match the parameters of the request that used this "
                    "client token before.",
                )
            return known[1]
        ec2 = backend(call.region)
        _check_user_data(call)
        _check_type(call, ec2)
        _check_groups(call, ec2)
        if not call.flag("DryRun"):
            # moto launches as many as it is told to be the fewest.
            call.params["MinCount"] = str(self._possible(call, ec2))
        answer = launch(call)
        if token and answer.status == 200:
            self._answers[(call.region, token)] = (meant, answer)
        return answer

    def _possible(self, call: Call, ec2: Any) -> int:
        """How many will be launched. Raises ApiError when that is fewer than wanted."""
        fewest, most = int(call.params.get("MinCount", 1)), int(call.params.get("MaxCount", 1))
        name, market, zone = call.params.get("InstanceType", "m1.small"), market_of(call), zone_of(call, ec2)
        if not 1 <= fewest <= most:
            raise ApiError("InvalidParameterValue", f"invalid counts: min {fewest}, max {most}")
        told = self._faults.take("capacity", market=market, type=name, zone=zone)
        if told is not None:
            raise _no_capacity(told.get("code", "InsufficientInstanceCapacity"), name, zone)
        in_use = [
            (each.instance_type, each.lifecycle or "on-demand") for each in instances(ec2) if _counts(each)
        ]
        count = quotas.affordable(name, market, most=most, in_use=in_use, faults=self._faults)
        if count < fewest:
            raise quotas.exceeded(name, market, self._faults)
        return count


def market_of(call: Call) -> str:
    return str(call.params.get("InstanceMarketOptions.MarketType") or "on-demand")


def zone_of(call: Call, ec2: Any) -> str:
    """The zone that the launch will be in. Raises moto's error for a subnet that there is not."""
    subnet = call.params.get("SubnetId") or call.params.get("NetworkInterface.1.SubnetId")
    if subnet:
        return str(ec2.get_subnet(subnet).availability_zone)
    return str(call.params.get("Placement.AvailabilityZone") or f"{call.region}a")


def _counts(instance: Any) -> bool:
    return not is_gone(instance) and instance.state not in ("stopping", "stopped")


def _no_capacity(code: str, name: str, zone: str) -> ApiError:
    message = (
        f"We currently do not have sufficient {name} capacity in the Availability Zone you requested "
        f"({zone}). Our system will be working on provisioning additional capacity."
    )
    return ApiError(code, message, status=500 if code == "InsufficientInstanceCapacity" else 400)


def _check_user_data(call: Call) -> None:
    try:
        data = base64.b64decode(call.params.get("UserData", ""), validate=True)
    except binascii.Error as error:
        raise ApiError("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from error
    if len(data) > _USER_DATA_LIMIT:
        raise ApiError("InvalidParameterValue", "User data is limited to 16384 bytes")


def _check_type(call: Call, ec2: Any) -> None:
    """Raises ApiError for a type that the zone has not, or that the image does not run on."""
    name = call.params.get("InstanceType", "m1.small")
    if type_info(name) is None:
        raise ApiError("InvalidInstanceType", f"The instance type '{name}' does not exist")
    zones, zone = zones_of(call.region).get(name, frozenset()), zone_of(call, ec2)
    if zone not in zones:
        raise ApiError(
            "Unsupported",
            f"Your requested instance type ({name}) is not supported in your requested Availability Zone "
            f"({zone}). Please retry your request by not specifying an Availability Zone or choosing "
            f"{', '.join(sorted(zones)) or 'another region'}.",
        )
    image = ec2.amis.get(call.params.get("ImageId"))
    if call.params.get("ImageId") in ec2.deleted_amis:
        name = call.params["ImageId"]
        raise ApiError("InvalidAMIID.NotFound", f"The image id '[{name}]' does not exist")
    if image is not None:
        images.check_launch(call, image)
    if image is not None and image.architecture not in architectures(name):
        raise ApiError(
            "InvalidParameterValue",
            f"The architecture '{','.join(architectures(name))}' of the specified instance type does not "
            f"match the architecture '{image.architecture}' of the specified AMI. Specify an instance type "
            "and an AMI that have matching architectures, and try again.",
        )


def _check_groups(call: Call, ec2: Any) -> None:
    """moto makes up the groups of a network interface that it does not know."""
    for group in call.listed("NetworkInterface.1.SecurityGroupId"):
        if ec2.get_security_group_from_id(group) is None:
            raise ApiError("InvalidGroup.NotFound", f"The security group '{group}' does not exist")
