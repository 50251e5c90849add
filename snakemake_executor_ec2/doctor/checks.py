"""From facts to findings. Pure: whatever has to be asked for is asked for in `examine.py`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from snakemake_executor_ec2.aws.clients import Login
from snakemake_executor_ec2.aws.errors import HOW_TO_LOG_IN
from snakemake_executor_ec2.aws.identity import Identity
from snakemake_executor_ec2.aws.network import Subnet
from snakemake_executor_ec2.doctor.findings import Finding, ok, problem, untested, warning
from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.formatting import duration
from snakemake_executor_ec2.model import Image, Offer
from snakemake_executor_ec2.sizing.quotas import Quota

CLOCK_WARNING_S = 30.0
CLOCK_PROBLEM_S = 240.0
"""AWS refuses what was signed more than 5 minutes earlier or later."""
SOON_S = 3600.0
"""Credentials that end earlier may end within a first run."""
FEW_VCPUS = 32.0
SPOT_ROLE = "AWSServiceRoleForEC2Spot"
"""AWS's name for the role that EC2 needs in an account to start spot machines."""

_SOURCES = {
    "env": "environment variables",
    "shared-credentials-file": "~/.aws/credentials",
    "config-file": "~/.aws/config",
    "sso": "aws sso login",
    "login": "aws login",
    "assume-role": "a role of your AWS configuration",
    "assume-role-with-web-identity": "a role with a web identity",
    "custom-process": "credential_process of your AWS configuration",
    "iam-role": "the role of this EC2 machine",
    "container-role": "the role of this container",
}
_OF_SSO = "AWSReservedSSO_"
"""So begin the roles that IAM Identity Center makes for a permission set; the set's name follows."""
_SPLIT = re.compile(
    r"(?:: |; )(?=(?:run|name|check|add|declare|write|ask|log|request)\b|--ec2|`aws |without )"
)
_LOGIN_NAMES = (("ubuntu", "ubuntu"), ("debian", "admin"), ("al2023", "ec2-user"), ("amzn2", "ec2-user"))
"""What names of images contain, and whom one logs in as."""


def of_error(about: str, error: Ec2ExecutorError, remedy: str) -> Finding:
    """A problem in the words of an error, whose second half mostly says what to do; else `remedy` does."""
    text = error.message
    told = _SPLIT.split(text, maxsplit=1)
    if len(told) == 2:
        return problem(about, told[0], told[1])
    return problem(about, text, remedy)


def identity(who: Identity, login: Login, now: float) -> Finding:
    """Whose credentials they are, from where, until when."""
    named = "the root user" if who.kind == "root" else f"{who.kind.replace('assumed-', '')} {who.name}"
    text = f"{named} of account {who.account}, from {_SOURCES.get(login.source, login.source)}"
    if who.kind == "root":
        return warning(
            "credentials",
            f"{text}: it may do everything, closing the account included",
            "make an IAM user with the policy that `snakemake-ec2 doctor --policy` prints, and use its keys",
        )
    if login.expires_at is None:
        return ok("credentials", f"{text}; temporary, until when is not known" if login.temporary else text)
    at = datetime.fromtimestamp(login.expires_at).astimezone()
    left = login.expires_at - now
    text = f"{text}; good until {at:%H:%M on %Y-%m-%d} ({duration(max(0.0, left))})"
    if login.source == "env":  # nothing renews them
        if left < SOON_S:
            return warning("credentials", text, "log in again before a run that takes longer")
        return ok("credentials", text)
    return ok("credentials", f"{text}, then renewed as long as the login lasts")


def where_policies_go(who: Identity) -> str:
    """The way through AWS's console to the policies of a user or role."""
    if who.kind != "assumed-role":
        return f"Users, {who.name}, Add permissions, Create inline policy, JSON"
    if who.name.startswith(_OF_SSO):
        name = who.name.removeprefix(_OF_SSO).rpartition("_")[0]
        return f"or rather IAM Identity Center's: Permission sets, {name}, Inline policy"
    return f"Roles, {who.name}, Add permissions, Create inline policy, JSON"


def clock(offset_s: float | None) -> Finding:
    """This computer's clock beside AWS's, which is ahead by `offset_s`."""
    if offset_s is None:
        return untested("clock", "AWS did not say what time it is")
    way = "behind" if offset_s > 0 else "ahead of"
    text = f"this computer's clock is {duration(abs(round(offset_s)))} {way} AWS's"
    remedy = "set it by the network: `sudo timedatectl set-ntp true`, on macOS `sudo sntp -sS time.apple.com`"
    if abs(offset_s) >= CLOCK_PROBLEM_S:
        return problem("clock", f"{text}, which refuses every call at 5 minutes", remedy)
    if abs(offset_s) >= CLOCK_WARNING_S:
        return warning("clock", text, remedy)
    return ok("clock", "within seconds of AWS's")


def network(subnets: Sequence[Subnet], *, given: bool, reached: bool = False) -> Finding:
    """Where machines are put. `reached`: they need no public address: a proxy command reaches them."""
    zones = {each.zone for each in subnets}
    whose = "of --ec2-subnets" if given else "of the account's default network"
    text = f"{_count(len(subnets), 'subnet')} {whose} {subnets[0].vpc_id}, in {_count(len(zones), 'zone')}"
    closed = [each.id for each in subnets if not each.public]
    if not closed or reached:
        return ok("network", text)
    return warning(
        "network",
        f"{text}; machines in {', '.join(closed)} get no public address",
        "this works only if this computer is in that network, as over a VPN; otherwise name public subnets "
        "with --ec2-subnets, or a way to these with --ec2-ssh-proxy",
    )


def way_in(own: Collection[str], given: Collection[str], *, port: int, public: bool) -> Finding:
    """Who may reach the machines over ssh. `own`: this computer's address as the machines see it, as a CIDR;
    empty if it is not known. `given`: the networks of `--ec2-ssh-from`. `public`: machines have public
    addresses."""
    told = ", ".join(each.removesuffix("/32").removesuffix("/128") for each in own)
    if not given:
        return ok("way in", f"ssh, port {port}, will be open to this computer's address only: {told}")
    networks = [ipaddress.ip_network(each) for each in given]
    named = ", ".join(given)
    if not own:
        return untested(
            "way in",
            f"whether ssh from this computer comes from {named} (--ec2-ssh-from): its address is unknown",
        )
    inside = all(any(_within(each, network) for network in networks) for each in own)
    if not inside:
        text = (
            f"--ec2-ssh-from lets in {named}, and this computer's address is {told}: "
            "no machine could be reached"
        )
        remedy = f"--ec2-ssh-from {next(iter(own))}, or leave the option out"
        if public:
            return problem("way in", text, remedy)
        return warning("way in", text.replace(": no", ": perhaps no"), remedy)
    if any(network.prefixlen == 0 for network in networks):
        return warning(
            "way in",
            f"ssh, port {port}, will be open to the whole internet (--ec2-ssh-from {named})",
            "leave the option out: then it is open to this computer only",
        )
    return ok("way in", f"ssh, port {port}, will be open to {named}, where this computer is")


def _within(address: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    own = ipaddress.ip_network(address)
    return own.version == network.version and network.supernet_of(own)  # type: ignore[arg-type]


def ssh_gets_out(answered: bool, host: str) -> Finding:
    """Whether this computer's network lets ssh out."""
    if answered:
        return ok("ssh", f"gets out of this computer's network ({host} answers on port 22)")
    return warning(
        "ssh",
        f"{host} does not answer on port 22: this computer's network may let no ssh out",
        "ask who runs the network, or try another one (a phone's, a VPN)",
    )


def image(found: Image, *, user: str) -> Finding:
    """The machine image, and whom one logs in as."""
    usual = next((name for part, name in _LOGIN_NAMES if part in found.name.lower()), None)
    text = f"{found.ami} ({found.name}, {found.arch}), login as {user}"
    if usual is None or usual == user:
        return ok("image", text)
    return warning(
        "image",
        f"{text}, whom cloud-init makes beside the image's own user, {usual}",
        f"nothing, if that is what you want; otherwise --ec2-ssh-user {usual}",
    )


def quota(of: Quota, vcpus: float | None, smallest: Offer, region: str) -> Finding:
    """One of the account's limits beside the cheapest machine of a small job."""
    if vcpus is None:
        return untested("quota", f"{of.name} ({of.code}): the account's limit is not known")
    row = smallest.instance_type
    at_once = int(vcpus // row.vcpus)
    more = max(64, 2 * row.vcpus)
    remedy = (
        "ask AWS for more, which may take a day, in the Service Quotas console or with "
        f"`aws service-quotas request-service-quota-increase --region {region} --service-code ec2 "
        f"--quota-code {of.code} --desired-value {more}`"
    )
    text = f"{vcpus:g} vCPUs at a time in {region} ({of.name}, {of.code})"
    if at_once < 1:
        return problem("quota", f"{text}: too few for {row.name}, which has {row.vcpus}", remedy)
    if vcpus < FEW_VCPUS:
        most = f"{text}: at most {_count(at_once, 'machine')} of {_count(row.vcpus, 'vCPU')}; other jobs wait"
        return warning("quota", most, remedy)
    return ok("quota", text)


def cheapest(found: Offer) -> Finding:
    """What a job of one thread would get."""
    usd = f"${found.price.usd_per_hour:g} an hour" if found.price else "price unknown"
    source = f" ({found.price.source})" if found.price else ""
    return ok("machines", f"a job of 1 thread and 1 GB would get {found.instance_type.name}, {usd}{source}")


def spot(role: str | None) -> Finding:
    """`role`: the account's role for spot machines; None: there is none yet, or it may not be looked at."""
    if role:
        return ok("spot", "the account has used spot machines before")
    return untested(
        "spot",
        "whether the account has used spot machines before; the first one needs a role that EC2 makes",
        f"if it has not: `aws iam create-service-linked-role --aws-service-name spot.amazonaws.com`, or the "
        f"permission iam:CreateServiceLinkedRole for it ({SPOT_ROLE})",
    )


def ssh_key(path: Path | None, error: Ec2ExecutorError | None, mode: int) -> Finding:
    """The user's own key. `mode`: the file's permissions."""
    if path is None:
        return ok("ssh key", "made for each run, and forgotten after it")
    if error is not None:
        remedy = "name another file with --ec2-ssh-key, or leave the option out: a key is made for each run"
        return problem("ssh key", error.message.rstrip("."), remedy)
    if mode & 0o077:
        return warning("ssh key", f"{path} can be read by others", f"chmod 600 {path}")
    return ok("ssh key", f"{path} can be read, and needs no passphrase")


def tools(found: Mapping[str, str | None]) -> list[Finding]:
    """Programs of this computer: name → path."""
    there = [name for name, path in found.items() if path]
    lacking = {
        "ssh": "`snakemake-ec2 ssh` needs it; runs do not",
        "git": "runs use it to see which files of a workflow belong to it, if it is kept in git",
    }
    gone = [name for name in lacking if not found.get(name)]
    rows = [ok("tools", f"{', '.join(there)} found")] if there else []
    return rows + [
        warning("tools", f"{name} was not found: {lacking[name]}", f"install {name}") for name in gone
    ]


def files(missing: Mapping[str, str]) -> list[Finding]:
    """Files that options name and that cannot be read: option → path."""
    return [
        problem("options", f"{option} {path}: there is no such file that can be read", f"correct {option}")
        for option, path in missing.items()
    ]


def credentials_refused(error: Ec2ExecutorError, *, clock_is_wrong: bool) -> Finding:
    """AWS does not take the credentials, or there are none."""
    if clock_is_wrong:
        return untested("credentials", "AWS takes none while this computer's clock is wrong")
    return of_error("credentials", error, HOW_TO_LOG_IN)


def left_running(alive: int, region: str) -> Finding:
    """Machines of this tool in the region, whosever they are."""
    if not alive:
        return ok("running", f"no machine of this tool in {region}")
    return ok(
        "running", f"{_count(alive, 'machine')} of this tool in {region}: `snakemake-ec2 ps --all` lists"
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
