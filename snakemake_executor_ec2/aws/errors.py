"""Translates boto3's errors to ours: the one place that knows EC2's error codes.

What to do about a code decides which exception it becomes.
"""

from __future__ import annotations

import re

import botocore.exceptions
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    MissingDependencyException,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSOError,
    SSOTokenLoadError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from snakemake_executor_ec2.errors import (
    CapacityError,
    CloudError,
    ConfigurationError,
    CredentialsExpired,
    Ec2ExecutorError,
    LaunchError,
    PermissionDenied,
    QuotaError,
    ThrottledError,
)

# Of `aws login`, which older versions of botocore do not have.
_LoginError: type[BotoCoreError] = getattr(botocore.exceptions, "LoginError", SSOError)

AwsError = ClientError | BotoCoreError | ResponseParserError
AWS_ERRORS = (ClientError, BotoCoreError, ResponseParserError)
"""Everything that a boto3 call raises, for `except`. Connection failures are BotoCoreErrors."""

CAPACITY_CODES = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "InsufficientCapacity",
        "UnfulfillableCapacity",
        "Unsupported",
        "ReservationCapacityExceeded",
        "SpotMaxPriceTooLow",
        "InsufficientFreeAddressesInSubnet",
    }
)
QUOTA_CODES = frozenset(
    {
        "VcpuLimitExceeded",
        "InstanceLimitExceeded",
        "MaxSpotInstanceCountExceeded",
        "MaxFleetCountExceeded",
        "VolumeLimitExceeded",
    }
)
THROTTLE_CODES = frozenset(
    {
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "EC2ThrottledException",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "ServerInternal",
        "Unavailable",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    }
)
DENIED_CODES = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"})
EXPIRED_CODES = frozenset({"RequestExpired", "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
INVALID_CREDENTIALS_CODES = frozenset(
    {
        "AuthFailure",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "IncompleteSignature",
        "MissingAuthenticationToken",
        "InvalidAccessKeyId",
    }
)
ACCOUNT_CODES = {
    "OptInRequired": "the AWS account is not signed up for this; its administrator must enable it",
    "Blocked": "AWS has blocked the account; its administrator must contact AWS Support",
    "PendingVerification": "AWS is still verifying the account, which takes up to 4 hours; try again later",
}
SPOT_ROLE_CODE = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"

HOW_TO_LOG_IN = (
    "run `aws configure` (or `aws sso login`), or name a profile of your AWS configuration with --ec2-profile"
)


def translate(error: AwsError, action: str) -> Ec2ExecutorError:
    """Our error for an error of boto3. `action` is the IAM action that the call needs, such as
    `ec2:RunInstances`. Use with `raise … from error`."""
    if not isinstance(error, ClientError):
        return _without_answer(error, action)
    code, text = code_of(error), _text_of(error)
    refused = _denied(code, text, action)
    if refused is not None:
        return refused
    if code in CAPACITY_CODES:
        return CapacityError(f"EC2 has no such machine now: {text} ({code})", code=code)
    if code in QUOTA_CODES:
        return QuotaError(f"the AWS account's limit is reached: {text} ({code})", code=code)
    if is_transient(error):
        return ThrottledError(f"AWS asked to try {action} again later: {text} ({code})", code=code)
    wrong = _misconfigured(code, text)
    if wrong is not None:
        return wrong
    kind = LaunchError if action == "ec2:RunInstances" else CloudError
    if code in ACCOUNT_CODES:
        return kind(f"{ACCOUNT_CODES[code]} ({text})", code=code)
    return kind(f"AWS refused {action}: {text} ({code})", code=code)


def _denied(code: str, text: str, action: str) -> PermissionDenied | CredentialsExpired | None:
    """A permission that is missing, or a login that is over."""
    if code in EXPIRED_CODES:
        return CredentialsExpired(
            f"the AWS credentials have expired (or this computer's clock is wrong): {HOW_TO_LOG_IN}",
            code=code,
        )
    if code in DENIED_CODES:
        # A launch may fail for lack of another permission than its own: iam:PassRole, ec2:CreateTags.
        action = _missing_action(text) or action
        return PermissionDenied(
            f"the AWS credentials do not have the permission {action}; "
            "the administrator of the AWS account must allow it (`snakemake-ec2 doctor` prints the policy)"
            f"{_why(text)}",
            action=action,
            code=code,
        )
    if code == SPOT_ROLE_CODE:
        return PermissionDenied(
            "the AWS account has never used spot instances, and the credentials may not set it up for "
            "them (iam:CreateServiceLinkedRole for spot.amazonaws.com); the administrator of the AWS "
            "account must allow it, or run without spot (--ec2-spot never)",
            action="iam:CreateServiceLinkedRole",
            code=code,
        )
    return None


def _misconfigured(code: str, text: str) -> ConfigurationError | None:
    """What the user or the account has to change, the same for every launch."""
    if code.startswith("InvalidAMIID") or (code == "AuthFailure" and "image" in text.lower()):
        return ConfigurationError(
            f"there is no such machine image for this account in this region: {text}; "
            "--ec2-ami names another one, and without it Amazon Linux 2023 is used"
        )
    if code in INVALID_CREDENTIALS_CODES:
        return ConfigurationError(f"AWS does not accept the credentials ({code}): {HOW_TO_LOG_IN}")
    if "free tier" in text.lower():
        return ConfigurationError(
            "the AWS account is on AWS's Free plan, which does not include this instance type: add "
            "--ec2-free-tier to use only types that it includes, or upgrade the account to a paid plan "
            f"({text})"
        )
    if "instanceprofile" in text.lower().replace(" ", ""):
        return ConfigurationError(
            "EC2 does not accept the instance profile (--ec2-instance-profile, or --role of snakemake-ec2 "
            f"away start): {text}"
        )
    if code.startswith("InvalidKeyPair"):
        return ConfigurationError(f"EC2 has no such key pair in this region: {text}")
    return None


def code_of(error: AwsError) -> str:
    """AWS's error code; empty if AWS did not answer."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_transient(error: AwsError) -> bool:
    """True if the very same call may work in a moment: throttled, AWS's own error, no answer.

    The call may nevertheless have been carried out.
    """
    if isinstance(error, ClientError):
        code = code_of(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        # A lack of capacity is a server error to EC2, too (500), and no reason to ask the same again.
        return code in THROTTLE_CODES or (status >= 500 and code not in CAPACITY_CODES | QUOTA_CODES)
    return isinstance(error, ConnectionError | HTTPClientError | ResponseParserError)


def is_denied(error: AwsError) -> bool:
    """True if a permission is missing, and only that."""
    return code_of(error) in DENIED_CODES


def _without_answer(error: BotoCoreError | ResponseParserError, action: str) -> Ec2ExecutorError:
    """Errors that botocore raises on its own, before or instead of AWS's answer."""
    if isinstance(error, NoCredentialsError):
        return ConfigurationError(
            f"no AWS credentials were found: {HOW_TO_LOG_IN}; without an AWS account, plan and rehearse with "
            "--ec2-cloud local (snakemake-ec2 away: with `snakemake-ec2 cloud`)"
        )
    if isinstance(error, PartialCredentialsError):
        return ConfigurationError(f"the AWS credentials are incomplete ({error}): {HOW_TO_LOG_IN}")
    if isinstance(error, MissingDependencyException):
        return ConfigurationError(
            "your AWS login needs one more package for Python: run `pip install 'botocore[crt]'`"
            f" ({_one_line(str(error))})"
        )
    if isinstance(error, SSOError | SSOTokenLoadError | TokenRetrievalError):
        return CredentialsExpired(f"the AWS login has expired ({error}): run `aws sso login`")
    if isinstance(error, _LoginError):
        return CredentialsExpired(f"the AWS login has expired ({error}): run `aws login`")
    if isinstance(error, RefreshWithMFAUnsupportedError):
        return CredentialsExpired(
            "the AWS role's session has expired, and only your MFA device renews it: run any `aws` "
            "command with the same profile, such as `aws sts get-caller-identity`"
        )
    if isinstance(error, CredentialRetrievalError):
        # A `credential_process` such as aws-vault's. At the start it is refused like any other.
        return CredentialsExpired(f"the AWS credentials could not be read ({error}): {HOW_TO_LOG_IN}")
    if isinstance(error, ProfileNotFound):
        return ConfigurationError(f"the AWS configuration has no such profile: {error}")
    if isinstance(error, NoRegionError):
        return ConfigurationError("no AWS region is set: name one with --ec2-region, such as us-east-1")
    if is_transient(error):
        return ThrottledError(f"AWS did not answer {action}: {_one_line(str(error))}")
    return ConfigurationError(f"AWS could not be asked for {action}: {_one_line(str(error))}")


def _text_of(error: ClientError) -> str:
    """AWS's message without the encoded part, which only its administrators can decode."""
    message = str(error.response.get("Error", {}).get("Message", "")) or "no message"
    if message.lstrip().startswith("<"):
        return "no readable answer"  # a web server's error page, not AWS's words
    message = message.split("Encoded authorization failure message", 1)[0]
    return _one_line(message)


def _why(text: str) -> str:
    """Who lacks what, if AWS says so: `User: arn:… is not authorized to perform …`."""
    found = re.search(r"User: .*", text)
    return f" ({found.group(0)})" if found else ""


def _missing_action(text: str) -> str | None:
    found = re.search(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z0-9]+)", text)
    return found.group(1) if found else None


def _one_line(text: str, most: int = 400) -> str:
    joined = " ".join(text.split()).rstrip(".")
    return joined if len(joined) <= most else joined[:most] + "…"
