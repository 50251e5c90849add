"""boto3 sessions and clients, made when they are first needed.

Endpoints are boto3's business (AWS_ENDPOINT_URL, profiles): nothing here or elsewhere knows
which cloud answers.
"""

from __future__ import annotations

import getpass
import os
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import NoCredentialsError, ProfileNotFound, RefreshWithMFAUnsupportedError
from botocore.utils import IMDSRegionProvider, JSONFileCache

from snakemake_executor_ec2.aws.errors import AWS_ERRORS, HOW_TO_LOG_IN, translate
from snakemake_executor_ec2.errors import ConfigurationError, CredentialsExpired

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_pricing import PricingClient
    from mypy_boto3_service_quotas import ServiceQuotasClient
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient

PRICING_REGION = "us-east-1"
"""The Pricing API has endpoints in three regions only; each knows the prices of all regions."""

_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 60
_ACCOUNT_TIMEOUT_S = 3
_ROLE_CACHE = "~/.aws/cli/cache"
_CONNECTIONS = 32
"""Connections that threads of one run may hold to one service at a time."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """The credentials that boto3 found."""

    source: str
    """botocore's name for where they come from: `env`, `shared-credentials-file`, `sso`, …"""
    temporary: bool
    expires_at: float | None
    """When they end, or are renewed, in seconds since the epoch; None: never, or not known."""


class Clients:
    """The clients of one run. Threads may share them; making them is serialised."""

    def __init__(self, *, region: str | None, profile: str | None) -> None:
        self._wanted_region = region
        self._profile = profile
        self._asks = True
        # boto3 sessions must not make two clients at a time.
        self._lock = threading.RLock()

    @cached_property
    def region(self) -> str:
        """The setting, else boto3's (environment, profile), else AWS_REGION as other SDKs read it,
        else the region of the EC2 machine that this runs on.

        Raises ConfigurationError if none of them says.
        """
        region = (
            self._wanted_region
            or self._session.region_name
            or os.environ.get("AWS_REGION")
            or self._own_region()
        )
        if not region:
            raise ConfigurationError("no AWS region is set: name one with --ec2-region, such as us-east-1")
        return region

    @cached_property
    def ec2(self) -> EC2Client:
        """EC2, where a failed call is tried again by botocore."""
        with self._lock:
            return self._session.client("ec2", region_name=self.region, config=_config(attempts=4))

    def make(self) -> None:
        """Make EC2's clients now, of what the environment says now."""
        with self._lock:
            self.ec2  # noqa: B018 -- it is made by being asked for
            self.ec2_once  # noqa: B018

    @cached_property
    def ec2_once(self) -> EC2Client:
        """EC2. We judge every failure ourselves: botocore would retry even capacity errors."""
        with self._lock:
            return self._session.client("ec2", region_name=self.region, config=_config(attempts=1))

    @cached_property
    def ssm(self) -> SSMClient:
        """Systems Manager: public parameters that name Amazon's newest images."""
        with self._lock:
            return self._session.client("ssm", region_name=self.region, config=_config(attempts=3))

    @cached_property
    def pricing(self) -> PricingClient:
        """The price list."""
        with self._lock:
            return self._session.client("pricing", region_name=PRICING_REGION, config=_config(attempts=3))

    @cached_property
    def account(self) -> str | None:
        """The number of the account that the credentials are of, asked for once and without patience;
        None if no STS answers: an API that is EC2's alone, a network without a way to it."""
        config = _config(attempts=1, timeout_s=_ACCOUNT_TIMEOUT_S)
        try:
            with self._lock:
                sts = self._session.client("sts", region_name=self.region, config=config)
            return sts.get_caller_identity()["Account"]
        except (*AWS_ERRORS, KeyError):  # KeyError: botocore's, at an answer to another question
            return None

    @cached_property
    def service_quotas(self) -> ServiceQuotasClient:
        """The account's limits."""
        with self._lock:
            return self._session.client("service-quotas", region_name=self.region, config=_config(attempts=3))

    @cached_property
    def sts(self) -> STSClient:
        """Who one is. Asked by `doctor` only, once."""
        with self._lock:
            return self._session.client("sts", region_name=self.region, config=_config(attempts=2))

    @cached_property
    def iam(self) -> Any:
        """IAM, whose simulator `doctor` asks."""
        with self._lock:
            return self._session.client("iam", region_name=self.region, config=_config(attempts=2))

    def require_credentials(self) -> Login:
        """Raise ConfigurationError or CredentialsExpired if there are no credentials, without asking EC2."""
        try:
            with self._lock:
                found = self._session.get_credentials()
                if found is not None:
                    # Credentials of a login or a role are only fetched, or found expired, now.
                    frozen = found.get_frozen_credentials()
        except AWS_ERRORS as error:
            raise translate(error, "sts:GetCallerIdentity") from error
        except RuntimeError as error:
            # botocore's, at credentials that say themselves that they have expired.
            if "expired" not in str(error):
                raise
            raise CredentialsExpired(f"the AWS credentials have expired: {HOW_TO_LOG_IN}") from error
        except EOFError as error:
            raise ConfigurationError(
                "the AWS role needs the code of your MFA device, and there is no terminal to ask for it: run "
                "any command of AWS's own program with the same profile first, such as "
                "`aws sts get-caller-identity`"
            ) from error
        if found is None:
            missing = NoCredentialsError()
            raise translate(missing, "sts:GetCallerIdentity") from missing
        expiry = getattr(found, "_expiry_time", None)  # of those that botocore renews; it has no other way
        return Login(
            source=found.method,
            temporary=bool(frozen.token),
            expires_at=expiry.timestamp() if expiry else None,
        )

    @property
    def in_environment(self) -> bool:
        """Whether the credentials are environment variables, which cannot be changed from outside."""
        return self._profile is None and "AWS_ACCESS_KEY_ID" in os.environ

    def log_in_again(self) -> None:
        """Have the credentials read anew: those of a file are otherwise read once. Nobody is asked for
        the code of an MFA device any more, in the middle of a run: AWS's own program is to."""
        with self._lock:
            self._asks = False
            for made in ("_session", "ec2", "ec2_once", "ssm", "pricing", "service_quotas"):
                self.__dict__.pop(made, None)

    def known_regions(self) -> list[str]:
        """The regions that the installed botocore knows of."""
        with self._lock:
            return self._session.get_available_regions("ec2")

    @cached_property
    def _session(self) -> boto3.Session:
        try:
            with self._lock:
                session = boto3.Session(profile_name=self._profile)
                role = session._session.get_component("credential_provider").get_provider("assume-role")
                # As AWS's own program does: a role's session that one of them began is the other's, too.
                role.cache = JSONFileCache(str(Path(_ROLE_CACHE).expanduser()))
                role._prompter = getpass.getpass if self._asks else _nobody_to_ask
                return session
        except ProfileNotFound as error:
            known = boto3.Session().available_profiles if not os.environ.get("AWS_PROFILE") else []
            named = f"it has {', '.join(known)}" if known else "`aws configure --profile NAME` makes one"
            raise ConfigurationError(
                f"the AWS configuration has no profile {self._profile or os.environ.get('AWS_PROFILE')!r} "
                f"(--ec2-profile, AWS_PROFILE); {named}"
            ) from error
        except AWS_ERRORS as error:
            raise translate(error, "sts:GetCallerIdentity") from error

    def _own_region(self) -> str | None:
        """The region of the EC2 machine we run on; None elsewhere (answers within a second)."""
        with self._lock:
            region: str | None = IMDSRegionProvider(self._session._session).provide()
            return region


def _nobody_to_ask(_: str) -> str:
    raise RefreshWithMFAUnsupportedError


def _config(*, attempts: int, timeout_s: float = _READ_TIMEOUT_S) -> Config:
    return Config(
        connect_timeout=min(timeout_s, _CONNECT_TIMEOUT_S),
        read_timeout=timeout_s,
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": attempts},
        user_agent_extra="snakemake-executor-ec2",
    )
