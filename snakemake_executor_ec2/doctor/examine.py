"""Asks this computer and AWS what `doctor` wants to know, in an order in which answers need each other."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from snakemake_executor_ec2.aws.clients import Login
from snakemake_executor_ec2.aws.errors import AWS_ERRORS, HOW_TO_LOG_IN, translate
from snakemake_executor_ec2.aws.identity import Identity, identify
from snakemake_executor_ec2.aws.inventory import Inventory
from snakemake_executor_ec2.aws.network import (
    LETS_NOBODY_IN,
    Caller,
    Subnet,
    find_subnets,
    networks_beside,
    parse_cidrs,
)
from snakemake_executor_ec2.aws.policy import granting
from snakemake_executor_ec2.aws.probes import Probes
from snakemake_executor_ec2.aws.reach import SSH_HOST, answers_ssh, clock_offset_s
from snakemake_executor_ec2.aws.run_instances import run_instances_request
from snakemake_executor_ec2.controller import compose
from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.doctor import checks, permissions, ways
from snakemake_executor_ec2.doctor.findings import Finding, Report, Status, ok, untested, warning
from snakemake_executor_ec2.errors import (
    ConfigurationError,
    CredentialsExpired,
    Ec2ExecutorError,
    PermissionDenied,
)
from snakemake_executor_ec2.machines.feasibility import Feasibility
from snakemake_executor_ec2.machines.user_data import cloud_config
from snakemake_executor_ec2.model import Image, LaunchSpec, Market, Offer, Requirements, SpotUse
from snakemake_executor_ec2.ports import Clock
from snakemake_executor_ec2.sizing import disk
from snakemake_executor_ec2.sizing.dimensions import DEFAULT_MEM_MB
from snakemake_executor_ec2.sizing.quotas import quota_of
from snakemake_executor_ec2.sizing.requirements import DEFAULT_DISK_MB
from snakemake_executor_ec2.sizing.select import best
from snakemake_executor_ec2.ssh.keys import load_key_pair, new_key_pair
from snakemake_executor_ec2.tags import tags

_RUN = "doctor"
_PACKAGE = "snakemake-executor-plugin-ec2"
_REMEDIES = {
    "credentials": HOW_TO_LOG_IN,
    "region": "name another one with --ec2-region, such as us-east-1",
    "network": "name subnets of this account and region with --ec2-subnets, or leave the option out",
    "way in": "name the network that ssh comes from with --ec2-ssh-from, such as 203.0.113.7/32",
    "image": "name one of this region with --ec2-ami, or leave the option out: Amazon Linux 2023 is used",
    "machines": "change the option that it names, and call doctor again",
}
"""What to do where the error itself does not say it."""


@dataclass(kw_only=True)
class Examination:
    """One call of `doctor`. Nothing is launched, made or changed on EC2."""

    config: RunConfig
    clock: Clock
    wrong_options: Mapping[str, str] = field(default_factory=dict)
    """Options that could not be used, and why; the rest are in `config`."""
    tell: Callable[[Finding], None] = lambda _: None
    """Hears of each finding as soon as there is one."""
    ssh_gets_out: Callable[[], bool] = answers_ssh
    """Asked if machines would be reached over the internet."""
    _found: list[Finding] = field(default_factory=list)
    _warned: list[str] = field(default_factory=list)
    who: Identity | None = field(default=None, init=False)
    """Whose credentials they are, once that is known."""
    place: permissions.Place | None = field(default=None, init=False)
    """What permissions were tested with, once they were."""
    _policy: dict[str, Any] | None = None
    _subnets: tuple[Subnet, ...] = ()
    _image: Image | None = None
    _offer: Offer | None = None

    def __post_init__(self) -> None:
        self._cloud = compose.cloud(self.config, _RUN, self.clock, self._warned.append)
        self.clients = self._cloud.clients

    def report(self) -> Report:
        """Everything, in the order in which it is shown."""
        self._here()
        if self._aws_answers():
            self._network()
            self._machines()
            self._permissions()
        named = f"{self.who.kind} {self.who.name} ({self.who.arn})" if self.who else "somebody"
        return Report(
            findings=tuple(self._found),
            policy=self._policy,
            who=f"The {named}",
            account=self.who.account if self.who else "?",
            where=checks.where_policies_go(self.who) if self.who else Report.where,
        )

    def _add(self, *found: Finding) -> None:
        for each in found:
            self._found.append(each)
            self.tell(each)

    # --- this computer ---------------------------------------------------------------------

    def _here(self) -> None:
        for text in self.wrong_options.values():
            self._add(checks.of_error("options", ConfigurationError(text), "correct the value"))
        named = {"--ec2-requirements": self.config.requirements, "--ec2-setup": self.config.setup}
        missing = {option: path for option, path in named.items() if path and not os.access(path, os.R_OK)}
        self._add(*checks.files(missing))
        packages = f"{_PACKAGE} {version(_PACKAGE)}, Snakemake {version('snakemake')}"
        self._add(ok("versions", f"{packages}, boto3 {version('boto3')}, Python {platform.python_version()}"))
        self._add(*checks.tools({name: shutil.which(name) for name in ("ssh", "git")}))
        self._add(self._ssh_key())

    def _ssh_key(self) -> Finding:
        path, error, mode = self.config.ssh_key, None, 0
        if path is not None:
            try:
                mode = path.stat().st_mode if path.exists() else 0
                if not mode & 0o077:
                    load_key_pair(path)  # which warns of one that others can read
            except Ec2ExecutorError as raised:
                error = raised
        return checks.ssh_key(path, error, mode)

    # --- whether AWS answers, and whom -----------------------------------------------------

    def _aws_answers(self) -> bool:
        """Clock, credentials, region; False if nothing more can be asked."""
        try:
            endpoint = self.clients.ec2.meta.endpoint_url
        except Ec2ExecutorError as error:
            about = "region" if "region" in error.message else "credentials"
            found = [checks.of_error(about, error, _REMEDIES[about])]
            if about == "region":  # credentials do not depend on it: who has neither is told both
                try:
                    self.clients.require_credentials()
                except Ec2ExecutorError as other:
                    found.insert(0, checks.credentials_refused(other, clock_is_wrong=False))
            return self._stop(*found)
        except AWS_ERRORS as raised:  # making a client looks for credentials
            refused = translate(raised, "sts:GetCallerIdentity")
            return self._stop(checks.credentials_refused(refused, clock_is_wrong=False))
        offset_s = clock_offset_s(endpoint, self.clock.now)
        told = checks.clock(offset_s)
        self._add(told)
        try:
            login = self.clients.require_credentials()
            self.who = self._identity(login)
        except Ec2ExecutorError as error:
            wrong = told.status is Status.PROBLEM
            return self._stop(checks.credentials_refused(error, clock_is_wrong=wrong))
        return self._region(endpoint)

    def _identity(self, login: Login) -> Identity | None:
        try:
            who = identify(self.clients)
        except (ConfigurationError, CredentialsExpired):
            raise
        except (Ec2ExecutorError, KeyError) as error:  # KeyError: botocore's, at an API that is EC2's alone
            self._add(untested("credentials", f"whose they are: STS did not say ({error})"))
            return None
        self._add(checks.identity(who, login, self.clock.now()))
        return who

    def _region(self, endpoint: str) -> bool:
        try:
            self._cloud.check()
        except CredentialsExpired as error:
            return self._stop(checks.credentials_refused(error, clock_is_wrong=False))
        except Ec2ExecutorError as error:
            return self._stop(checks.of_error("region", error, _REMEDIES["region"]))
        host = urlsplit(endpoint).hostname or ""
        where = (
            self.clients.region if _is_aws(host) else f"{self.clients.region}, which {endpoint} answers for"
        )
        self._add(ok("region", where))
        return True

    def _stop(self, *why: Finding) -> bool:
        rest = untested("the rest", "permissions, network, image and quota: AWS has to answer first")
        self._add(*why, rest)
        return False

    # --- what a run would use --------------------------------------------------------------

    def _network(self) -> None:
        def look() -> Finding:
            self._subnets = find_subnets(self.clients.ec2, self.config.subnets, self.clients.region)
            reached = bool(self.config.ssh_proxy)
            return checks.network(self._subnets, given=bool(self.config.subnets), reached=reached)

        self._add(_checked("network", look))
        self._add(*ways.no_public_address(self._subnets, self.config))
        if self.config.ssh_proxy:
            self._way_through_proxy()
            return
        self._add(_checked("way in", self._way_in))
        host = urlsplit(self.clients.ec2.meta.endpoint_url).hostname or ""
        if _is_aws(host) and self._public and self.config.ssh_port == 22:
            self._add(checks.ssh_gets_out(self.ssh_gets_out(), SSH_HOST))

    def _way_in(self) -> Finding:
        given = parse_cidrs(self.config.ssh_from) if self.config.ssh_from else ()
        if self.config.ssh_from and not given:
            raise ConfigurationError(LETS_NOBODY_IN)
        caller = Caller(ssh_from=None, endpoint=lambda: self.clients.ec2.meta.endpoint_url)
        try:
            own = caller.networks()
        except ConfigurationError:
            if not given:
                raise
            own = ()
        return checks.way_in(own, given, port=self.config.ssh_port, public=self._public)

    def _way_through_proxy(self) -> None:
        def look() -> Finding:
            given = self.config.ssh_from
            beside = networks_beside(self.clients.ec2, self._subnets[0].vpc_id) if not given else ()
            first, *others = ways.proxy(self.config, parse_cidrs(given) if given else beside)
            more.extend(others)
            return first

        more: list[Finding] = []
        if self._subnets:
            self._add(_checked("way in", look), *more)

    @property
    def _public(self) -> bool:
        public = self.config.public_ip and self.config.ssh_to != "private"
        return public and all(each.public for each in self._subnets)

    def _machines(self) -> None:
        def look() -> Finding:
            self._image = self._cloud.image(self.config.ami, self.config.arch)
            return checks.image(self._image, user=self.config.ssh_user)

        self._add(_checked("image", look))
        try:
            if self._subnets:
                self._catalogue()
            else:
                self._add(untested("machines", "not known without a network"))
        except PermissionDenied as error:
            self._add(untested("machines", f"not known without {error.action}"))
        except Ec2ExecutorError as error:
            self._add(checks.of_error("machines", error, _REMEDIES["machines"]))
        # What comes of a missing permission is told with the permission.
        told = [text for text in dict.fromkeys(self._warned) if "do not have the permission" not in text]
        self._add(*[warning("machines", text) for text in told])
        self._add(_checked("running", self._running))

    def _running(self) -> Finding:
        found = Inventory(clients=self.clients).machines()
        return checks.left_running(len(found), self.clients.region)

    def _catalogue(self) -> None:
        """The machine that a small job would get, beside the account's limits."""
        made = compose.feasibility(self.config, self._cloud, self.clock, before_usd={})
        wanted = Requirements(
            threads=1,
            mem_mb=DEFAULT_MEM_MB,
            disk_mb=DEFAULT_DISK_MB,
            arch=self.config.arch,
            instance_types=self.config.instance_types,
            spot=self.config.spot,
        )
        self._offer = best(made.catalogue, wanted)
        self._add(checks.cheapest(self._offer))
        markets = {self._offer.market, *([Market.ON_DEMAND] if self.config.spot is SpotUse.PREFER else [])}
        for market in sorted(markets):
            self._add(*self._quota(made, self._offer, market))

    def _quota(self, made: Feasibility, offer: Offer, market: Market) -> list[Finding]:
        of = quota_of(offer.instance_type.name, market)
        if of is None:
            return []
        return [checks.quota(of, made.quota_vcpus(of), offer, self.clients.region)]

    # --- permissions -----------------------------------------------------------------------

    def _permissions(self) -> None:
        subnet = self._trial_subnet()
        self.place = permissions.Place(
            region=self.clients.region,
            vpc_id=self._subnets[0].vpc_id if self._subnets else None,
            subnet_id=subnet.id if subnet else None,
            ami=self._image.ami if self._image else None,
            request=self._trial(subnet) if subnet else None,
            spot=self.config.spot,
        )
        if self.config.spot is not SpotUse.NEVER:
            self._add(checks.spot(Probes(self.clients).role_arn(checks.SPOT_ROLE)))
        tested, others = permissions.probe_all(Probes(self.clients), self.place, self.who)
        self._add(*permissions.findings(tested, spot=self.config.spot))
        self._add(*permissions.other_findings(others))
        wanted = permissions.to_ask_for(tested)
        extra = permissions.statements_for(others)
        if wanted or extra:
            policy = granting(wanted, partition=self.who.partition if self.who else "aws")
            self._policy = {**policy, "Statement": [*policy["Statement"], *extra]}

    def _trial_subnet(self) -> Subnet | None:
        """One in a zone that has the machine; None if no launch can be described."""
        if self._offer is None or self._image is None:
            return None
        return next((each for each in self._subnets if each.zone in self._offer.zones), None)

    def _trial(self, subnet: Subnet) -> dict[str, Any] | None:
        """RunInstances as a run would call it, but for the security group: there is none yet, and none is
        made for this."""
        assert self._offer is not None
        assert self._image is not None
        try:
            spec = self._spec(self._offer, self._image, subnet.zone)
        except ConfigurationError as error:
            self._add(checks.of_error("options", error, "correct the value"))
            return None
        public = subnet.public and self.config.public_ip
        request = run_instances_request(spec, subnet_id=subnet.id, group_id="", public_address=public)
        del request["NetworkInterfaces"][0]["Groups"]
        del request["ClientToken"]
        return request

    def _spec(self, offer: Offer, image: Image, zone: str) -> LaunchSpec:
        key = new_key_pair()
        lifetime_s = self.config.lifetime_s
        return LaunchSpec(
            token=_RUN,
            offer=offer,
            zone=zone,
            image=image,
            disk_gib=disk.disk_gib(
                Requirements(threads=1, mem_mb=DEFAULT_MEM_MB, disk_mb=DEFAULT_DISK_MB), image
            ),
            user_data=cloud_config(
                host_key=key,
                authorized_keys=[key.public],
                lifetime_s=lifetime_s,
                claim_s=int(self.config.lease_s),
                ssh_user=self.config.ssh_user,
            ),
            tags=tags(
                run_id=_RUN,
                rule=_RUN,
                owner=_RUN,
                expires_at=self.clock.now() + lifetime_s,
                extra=self.config.tags,
            ),
            instance_profile=self.config.instance_profile,
        )


def _checked(about: str, look: Callable[[], Finding]) -> Finding:
    """A finding, also if what has to be asked for may not be: that is then told with the permissions."""
    try:
        return look()
    except PermissionDenied as error:
        return untested(about, f"not known without {error.action}")
    except Ec2ExecutorError as error:
        return checks.of_error(about, error, _REMEDIES.get(about, _REMEDIES["machines"]))


def _is_aws(host: str) -> bool:
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
