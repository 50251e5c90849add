"""Security groups: which addresses they let in, and that one in use can't be deleted."""

from __future__ import annotations

import ipaddress
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.security_groups import SecurityGroupBackend

from .backend import instances, is_gone
from .patch import replace


def groups_of(instance: Any) -> list[Any]:
    """The groups of an instance, whichever way the launch named them; the network's default without any."""
    if instance.security_groups:
        return list(instance.security_groups)
    interface = instance.nics.get(0)
    if interface is not None and interface.group_set:
        return list(interface.group_set)
    default = instance.ec2_backend.get_default_security_group(instance.vpc_id)
    return [default] if default is not None else []


def admits(instance: Any, address: str, port: int) -> bool:
    """Whether an ingress rule of an instance's groups opens a port to an IPv4 address."""
    client = ipaddress.ip_address(address)
    # Without the lock: the event loop asks, and whoever holds the lock may be waiting for the loop.
    of_client = {
        group.id
        for each in instances(instance.ec2_backend)
        if each.private_ip == address and each.vpc_id == instance.vpc_id and not is_gone(each)
        for group in each.security_groups
    }
    return any(
        _opens(rule, port) and (_names(rule, client) or _names_group(rule, of_client))
        for group in instance.security_groups
        for rule in list(group.ingress_rules)
    )


def install() -> None:
    """Correct moto."""

    def delete_unused(self: Any, vpc_id: str | None, group_id: str) -> None:
        for instance in instances(self):
            # EC2 lets go of the network interface, and with it of the group, when the machine is terminated.
            if instance.state != "terminated" and any(group.id == group_id for group in groups_of(instance)):
                raise EC2ClientError("DependencyViolation", f"resource {group_id} has a dependent object")
        delete(self, vpc_id, group_id)

    delete = replace(SecurityGroupBackend, "_delete_security_group", delete_unused)


def _opens(rule: Any, port: int) -> bool:
    if rule.ip_protocol == "tcp":
        return bool(rule.from_port <= port <= rule.to_port)
    return bool(rule.ip_protocol == "-1")


def _names(rule: Any, client: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    block = rule.ip_range.get("CidrIp")
    return block is not None and client in ipaddress.ip_network(block, strict=False)


def _names_group(rule: Any, groups: set[str]) -> bool:
    """Whether a rule admits machines of one of these groups: by their private addresses, as EC2 does."""
    return (rule.source_group or {}).get("GroupId") in groups
