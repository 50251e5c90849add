"""Instances that are real: moto's follow the fleet's hosts, and what is done to them is done to hosts."""

from __future__ import annotations

import base64
import copy
import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.ec2 import utils as moto_utils
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import Instance, InstanceBackend, StateReason
from moto.ec2.responses.instances import InstanceResponse

from ..addresses import NoAddressError
from ..instance import Launch
from . import groups
from .backend import LOCK
from .patch import replace
from .roles import RoleSessions

if TYPE_CHECKING:
    from ..fleet import Fleet

_CODES = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}
_REASONS = {
    "Client.UserInitiatedShutdown": "User initiated shutdown",
    "Client.InstanceInitiatedShutdown": "Instance initiated shutdown",
    "Server.SpotInstanceTermination": "Spot instance termination",
    "Server.InternalError": "Internal error on launch",
}
_USER = "Client.UserInitiatedShutdown"


def install(fleet: Fleet, sessions: RoleSessions) -> None:
    """Correct moto."""
    moto_utils.filter_dict_attribute_mapping["client-token"] = "client_token"
    moto_utils.filter_dict_attribute_mapping["instance-lifecycle"] = "lifecycle"
    _give_addresses()
    _launch_hosts(fleet, sessions)
    _end_hosts(fleet)
    _check_hosts(fleet)


def _give_addresses() -> None:
    """An instance's addresses and names are those under which its host can be reached."""

    def private(self: Any) -> str | None:
        address: str | None = getattr(self, "host_address", None)
        return address

    def public(self: Any) -> str | None:
        if self.state in ("stopped", "terminated") or not getattr(self, "has_public_address", False):
            return None
        return private(self)

    def as_name(find: Callable[[Any], str | None]) -> property:
        return property(lambda self: find(self) or "")

    found: dict[str, property] = {
        "private_ip": property(private),
        "private_ip_address": property(private),
        "public_ip": property(public),
        "public_ip_address": property(public),
        "private_dns_name": as_name(private),
        "public_dns_name": as_name(public),
    }
    for name, attribute in found.items():
        replace(Instance, name, attribute)


def _launch_hosts(fleet: Fleet, sessions: RoleSessions) -> None:
    def run_with_hosts(
        self: Any, image_id: str, count: int, user_data: Any, security_group_names: Any, **kwargs: Any
    ) -> Any:
        interface_tags = kwargs.get("tags", {}).get("network-interface", {})
        kwargs["block_device_mappings"] = _with_root(self.amis.get(image_id), kwargs)
        hidden = any(nic.get("AssociatePublicIpAddress") is False for nic in kwargs.get("nics", []))
        try:
            addresses = [fleet.addresses.take() for _ in range(count)]
        except NoAddressError as error:
            raise EC2ClientError("InsufficientFreeAddressesInSubnet", str(error)) from error
        try:
            reservation = run_instances(self, image_id, count, user_data, security_group_names, **kwargs)
        except Exception:
            for address in addresses:
                fleet.addresses.give_back(address)
            raise
        launched: list[Any] = reservation.instances
        for instance, address in zip(launched, addresses, strict=True):
            instance.host_address = address
            instance.has_public_address = not hidden
            instance.security_groups = groups.groups_of(instance)
            for interface in instance.nics.values():
                interface.add_tags(interface_tags)
                interface.private_ip_address = address
                interface.public_ip = None if hidden else address
            _set_state(instance, "pending", "")
            has_role = any(kwargs.get(f"iam_instance_profile_{each}") for each in ("name", "arn"))
            fleet.launch(_launch(instance, self, fleet, sessions if has_role else None))
        return reservation

    run_instances = replace(InstanceBackend, "run_instances", run_with_hosts)


def _with_root(image: Any, launch: dict[str, Any]) -> list[dict[str, Any]]:
    """The volumes of a launch, and the image's root volume where the launch says nothing of it."""
    mappings = list(launch.get("block_device_mappings") or [])
    if image is not None and all(each["DeviceName"] != image.root_device_name for each in mappings):
        mappings = image.block_device_mappings + mappings
    return mappings


def _launch(instance: Any, ec2: Any, fleet: Fleet, sessions: RoleSessions | None) -> Launch:
    user_data = base64.b64decode(str(instance.user_data)) if instance.user_data else b""
    key_pair = ec2.key_pairs.get(instance.key_name)
    login_keys = [key_pair.material_public.decode()] if key_pair is not None else []

    def role() -> dict[str, dict[str, str]]:
        # moto notes the profile when the launch is over: not yet, for the first moment.
        association = ec2.iam_instance_profile_associations.get(instance.id)
        profile = association.iam_instance_profile if association else None
        return sessions.metadata(instance.id, profile) if sessions else {}

    def set_state(state: str, reason: str) -> None:
        with LOCK:
            if state == "running" and instance.state in ("shutting-down", "stopping"):
                return  # it was told to end while this waited for the lock
            if state == "terminated":
                _terminate(instance)
                fleet.addresses.give_back(instance.host_address)
            _set_state(instance, state, reason)

    return Launch(
        instance_id=instance.id,
        instance_type=instance.instance_type,
        zone=instance.placement.zone,
        address=instance.host_address,
        image_id=instance.image_id,
        user_data=user_data,
        login_keys=login_keys,
        market=instance.lifecycle or "on-demand",
        shutdown_behavior=instance.instance_initiated_shutdown_behavior,
        set_state=set_state,
        admits=lambda address, port: _admits(instance, fleet, address, port),
        role=role if sessions else None,
    )


def _admits(instance: Any, fleet: Fleet, address: str, port: int) -> bool:
    """Whether a connection from an address gets to an instance. Without a public address only its own network
    reaches it; to its groups, loopback addresses of that network are those of the VPC."""
    if not fleet.addresses.is_inside(address):
        return instance.has_public_address and groups.admits(instance, address, port)
    network = ipaddress.IPv4Network(instance.ec2_backend.get_vpc(instance.vpc_id).cidr_block)
    there = int(network.network_address) | (int(ipaddress.IPv4Address(address)) & int(network.hostmask))
    seen = (address, str(ipaddress.IPv4Address(there)))
    return any(groups.admits(instance, each, port) for each in seen)


_terminate: Callable[[Any], Any] = Instance.terminate


def _end_hosts(fleet: Fleet) -> None:
    def terminate(self: Any) -> Any:
        previous = copy.copy(self._state)
        if previous.name not in ("shutting-down", "terminated"):
            fleet.end(self.id, _USER)
            _set_state(self, "shutting-down", _USER)
        return previous

    def stop(self: Any) -> Any:
        previous = copy.copy(self._state)
        if previous.name in ("pending", "running"):
            fleet.end(self.id, _USER, stop=True)
            _set_state(self, "stopping", _USER)
        return previous

    def start(self: Any) -> Any:
        previous = copy.copy(self._state)
        if previous.name == "stopped":
            fleet.start(self.id)
            _set_state(self, "pending", "")
        return previous

    replace(Instance, "terminate", terminate)
    replace(Instance, "stop", stop)
    replace(Instance, "start", start)
    replace(Instance, "reboot", lambda self: fleet.reboot(self.id))
    replace(InstanceResponse, "terminate_instances", _terminate_instances)


def _check_hosts(fleet: Fleet) -> None:
    """EC2's own check of an instance fails once its host has crashed; moto's never does."""

    def checked(self: Any) -> Any:
        status: dict[str, Any] = instance_status.fget(self)
        if not fleet.has_crashed(self.id):
            return status
        return {"Details": [{"Name": "reachability", "Status": "failed"}], "Status": "impaired"}

    instance_status = replace(Instance, "instance_status", property(checked))


def _terminate_instances(self: Any) -> ActionResult:
    """As moto's, but the current state is the current state: a second call finds some already terminated."""
    instance_ids = self._get_param("InstanceIds", [])
    self.error_on_dryrun()
    ended = self.ec2_backend.terminate_instances(instance_ids)
    rows = [
        {
            "InstanceId": instance.id,
            "CurrentState": {"Code": instance.state_code, "Name": instance.state},
            "PreviousState": previous,
        }
        for instance, previous in ended
    ]
    return ActionResult({"TerminatingInstances": rows})


def _set_state(instance: Any, state: str, reason: str) -> None:
    instance._state.name = state
    instance._state.code = _CODES[state]
    instance.state_reason = StateReason(f"{reason}: {_REASONS[reason]}", reason) if reason else None
    instance._reason = _REASONS.get(reason, "")
