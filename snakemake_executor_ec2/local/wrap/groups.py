"""Security groups: which addresses they let in, and that one in use can't be deleted."""

from __future__ import annotations

import ipaddress
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.security_groups import SecurityGroupBackend

from .backend import instances
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


def admits(groups: list[Any], address: str, port: int) -> bool:
    """Whether an ingress rule opens a port to an IPv4 address."""
    client = ipaddress.ip_address(address)
    # Without the lock: the event loop asks, and whoever holds the lock may be waiting for the loop.
    return any(_rule_admits(rule, client, port) for group in groups for rule in list(group.ingress_rules))


def install() -> None:
    """Correct moto."""

    def delete_unused(self: Any, vpc_id: str | None, group_id: str) -> None:
        for instance in instances(self):
            # EC2 lets go of the network interface, and with it of the group, when the machine is terminated.
            if instance.state != "terminated" and any(group.id == group_id for group in groups_of(instance)):
                raise EC2ClientError("DependencyViolation", f"resource {group_id} has a dependent object")
        delete(self, vpc_id, group_id)

    delete = replace(SecurityGroupBackend, "_delete_security_group", delete_unused)


def _rule_admits(rule: Any, client: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> bool:
    if rule.ip_protocol not in ("tcp", "-1"):
        return False
    if rule.ip_protocol == "tcp" and not rule.from_port <= port <= rule.to_port:
        return False
    block = rule.ip_range.get("CidrIp")
    return block is not None and client in ipaddress.ip_network(block, strict=False)
