"""Where machines are put and who may reach them: subnets, the caller's address."""

from __future__ import annotations

import ipaddress
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from snakemake_executor_ec2.aws.errors import AWS_ERRORS, is_denied, translate
from snakemake_executor_ec2.errors import ConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import SubnetTypeDef

CHECK_IP_URL = "https://checkip.amazonaws.com"
"""AWS's own service that answers with the caller's public address."""

LETS_NOBODY_IN = (
    "--ec2-ssh-from none lets nobody in, and there is no --ec2-ssh-proxy whose way ends on the machine "
    "itself: leave the option out"
)
_CHECK_IP_TIMEOUT_S = 5
_MAX_RULES = 40
"""EC2 takes 60 rules in a security group, unless an account has asked for more."""
_ANY_PORT = 9
"""Nothing is sent: connecting a UDP socket only asks the kernel for a route."""


@dataclass(frozen=True, kw_only=True)
class Subnet:
    """A subnet that we may launch into."""

    id: str
    vpc_id: str
    zone: str
    zone_id: str
    """The zone's name for every account; empty if the API has none."""
    public: bool
    """Machines get a public address there."""


def find_subnets(ec2: EC2Client, wanted: Sequence[str], region: str) -> tuple[Subnet, ...]:
    """The given subnets, or those that the account has by default in each zone.

    Raises ConfigurationError if there are none, or if they are of several networks.
    """
    try:
        if wanted:
            rows = ec2.describe_subnets(SubnetIds=list(wanted))["Subnets"]
        else:
            rows = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    except AWS_ERRORS as error:
        if wanted and "InvalidSubnet" in str(error):
            raise ConfigurationError(
                f"--ec2-subnets {','.join(wanted)}: the account has no such subnet in {region} ({error})"
            ) from error
        raise translate(error, "ec2:DescribeSubnets") from error
    if not rows:
        raise ConfigurationError(
            f"the account has no default network (VPC) in {region}: name subnets with --ec2-subnets, "
            "or make one with `aws ec2 create-default-vpc`"
        )
    networks = sorted({row["VpcId"] for row in rows})
    if len(networks) > 1:
        raise ConfigurationError(
            f"--ec2-subnets names subnets of several networks ({', '.join(networks)}); they must be of one"
        )
    routed = _routed_to_internet(ec2, networks[0], rows)
    found = (
        Subnet(
            id=row["SubnetId"],
            vpc_id=row["VpcId"],
            zone=row["AvailabilityZone"],
            zone_id=row.get("AvailabilityZoneId", ""),
            public=row.get("MapPublicIpOnLaunch", False) or row["SubnetId"] in routed,
        )
        for row in rows
    )
    return tuple(sorted(found, key=lambda each: (each.zone, each.id)))


def _routed_to_internet(ec2: EC2Client, vpc_id: str, rows: Sequence[SubnetTypeDef]) -> frozenset[str]:
    """Subnets whose route table leads to an internet gateway: what makes a subnet public, whether
    or not it hands out addresses on its own."""
    try:
        tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["RouteTables"]
    except AWS_ERRORS as error:
        if is_denied(error):
            return frozenset()  # the subnet's own setting decides then
        raise translate(error, "ec2:DescribeRouteTables") from error
    leads_out: dict[str, bool] = {}
    main = False
    for table in tables:
        out = any(route.get("GatewayId", "").startswith("igw-") for route in table.get("Routes", []))
        for association in table.get("Associations", []):
            if association.get("Main"):
                main = out
            if "SubnetId" in association:
                leads_out[association["SubnetId"]] = out
    return frozenset(row["SubnetId"] for row in rows if leads_out.get(row["SubnetId"], main))


def networks_beside(ec2: EC2Client, vpc_id: str) -> tuple[str, ...]:
    """The networks of all subnets of a VPC, as few as cover them: there are jump hosts, AWS's endpoints."""
    try:
        rows = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["Subnets"]
    except AWS_ERRORS as error:
        raise translate(error, "ec2:DescribeSubnets") from error
    blocks = ipaddress.collapse_addresses(ipaddress.IPv4Network(row["CidrBlock"]) for row in rows)
    found = tuple(map(str, blocks))
    if len(found) > _MAX_RULES:
        raise ConfigurationError(
            f"the network {vpc_id} has so many subnets that ssh cannot be opened to all of them: name those "
            "that --ec2-ssh-proxy comes from with --ec2-ssh-from, or 'none' for AWS's Session Manager"
        )
    return found


# --- the caller's address ------------------------------------------------------------------


def parse_cidrs(text: str) -> tuple[str, ...]:
    """Networks that a setting names (`203.0.113.0/24`, several with commas), checked; `none` names none.

    Raises ConfigurationError naming --ec2-ssh-from.
    """
    if text.strip().lower() == "none":
        return ()
    try:
        return tuple(str(ipaddress.ip_network(part, strict=False)) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise ConfigurationError(
            f"--ec2-ssh-from {text!r} is no network: {error}; write for example 203.0.113.7/32"
        ) from error


def only(address: str) -> str:
    """The network of one address."""
    return str(ipaddress.ip_network(address))


def is_internal(host: str) -> bool:
    """True if a host's name or address is this computer's or a private network's."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    addresses = [ipaddress.ip_address(str(each[4][0]).split("%")[0]) for each in found]
    return bool(addresses) and all(each.is_loopback or each.is_private for each in addresses)


def source_address(host: str) -> str | None:
    """This computer's address on its route to a host; None if there is no route."""
    try:
        found = socket.getaddrinfo(host, _ANY_PORT, type=socket.SOCK_DGRAM)
    except OSError:
        return None
    family, kind, protocol, _, target = found[0]
    with socket.socket(family, kind, protocol) as probe:
        try:
            probe.connect(target)
        except OSError:
            return None
        return str(probe.getsockname()[0]).split("%")[0]


def public_address() -> str:
    """This computer's address as AWS sees it. Raises ConfigurationError if it can't be determined."""
    try:
        with urllib.request.urlopen(CHECK_IP_URL, timeout=_CHECK_IP_TIMEOUT_S) as answer:
            return str(ipaddress.ip_address(answer.read(100).decode("ascii", "replace").strip()))
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise ConfigurationError(
            f"the public address of your computer could not be determined ({CHECK_IP_URL}: {error}); "
            "name the network that ssh comes from with --ec2-ssh-from, such as 203.0.113.7/32"
        ) from error


class Caller:
    """The networks from which our ssh connections come."""

    def __init__(
        self,
        *,
        ssh_from: str | None,
        endpoint: Callable[[], str],
        look_up_public: Callable[[], str] = public_address,
        proxy_from: Callable[[], tuple[str, ...]] | None = None,
    ) -> None:
        """`endpoint` gives the URL of EC2's API; `look_up_public` asks the internet. `proxy_from`: machines
        are reached through a proxy command, which is taken to come from these networks."""
        self._ssh_from = ssh_from
        self._endpoint = endpoint
        self._look_up_public = look_up_public
        self._proxy_from = proxy_from

    def networks(self) -> tuple[str, ...]:
        """As CIDRs: the setting if there is one, otherwise this computer's address as machines see it.

        That is the public one, unless EC2's API itself is on this computer or in a private network: then
        its machines are there, too. Raises ConfigurationError.
        """
        if self._ssh_from:
            given = parse_cidrs(self._ssh_from)
            if not given and self._proxy_from is None:
                raise ConfigurationError(LETS_NOBODY_IN)
            return given
        if self._proxy_from is not None:
            return self._proxy_from()
        host = urlsplit(self._endpoint()).hostname or ""
        if is_internal(host):
            source = source_address(host)
            if source is not None:
                return (only(source),)
        return (only(self._look_up_public()),)

    def networks_towards(self, address: str) -> tuple[str, ...]:
        """`networks()` as of now and, for a machine in a private network, our address on the way to it."""
        if self._ssh_from or self._proxy_from is not None:
            return self.networks()
        source = source_address(address) if is_internal(address) else None
        towards = () if source is None else (only(source),)
        try:
            return tuple(dict.fromkeys((*towards, *self.networks())))
        except ConfigurationError:
            if towards:
                return towards
            raise
