"""AWS's errors in our words, code by code."""

from __future__ import annotations

import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    RefreshWithMFAUnsupportedError,
    UnauthorizedSSOTokenError,
)
from botocore.parsers import ResponseParserError

from snakemake_executor_ec2.aws.errors import AwsError, is_transient, translate
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
from tests.unit.aws.scripted import client_error

TABLE: dict[type[Ec2ExecutorError], str] = {
    CapacityError: "InsufficientInstanceCapacity InsufficientHostCapacity "
    "InsufficientReservedInstanceCapacity UnfulfillableCapacity Unsupported "
    "ReservationCapacityExceeded SpotMaxPriceTooLow "
    "InsufficientFreeAddressesInSubnet",
    QuotaError: "VcpuLimitExceeded InstanceLimitExceeded MaxSpotInstanceCountExceeded MaxFleetCountExceeded "
    "VolumeLimitExceeded",
    ThrottledError: "RequestLimitExceeded Throttling ThrottlingException InternalError ServerInternal "
    "Unavailable ServiceUnavailable",
    PermissionDenied: "UnauthorizedOperation AccessDenied AccessDeniedException "
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
    CredentialsExpired: "RequestExpired ExpiredToken ExpiredTokenException",
    ConfigurationError: "AuthFailure InvalidClientTokenId SignatureDoesNotMatch "
    "UnrecognizedClientException InvalidAMIID.NotFound InvalidAMIID.Malformed InvalidAMIID.Unavailable "
    "InvalidKeyPair.NotFound",
    LaunchError: "OptInRequired Blocked PendingVerification InvalidGroup.NotFound InvalidParameterValue "
    "InvalidParameterCombination InvalidUserData.Malformed SomethingNew",
}
CODES = [(code, kind) for kind, codes in TABLE.items() for code in codes.split()]


@pytest.mark.parametrize(("code", "kind"), CODES)
def test_codes(code: str, kind: type[Ec2ExecutorError]) -> None:
    """Each code becomes the error that says what to do about it, exactly that class, in one line."""
    found = translate(client_error(code, "EC2\n  said so."), "ec2:RunInstances")
    assert type(found) is kind
    assert "\n" not in str(found)
    if isinstance(found, CloudError):
        assert found.code == code


def test_denied_names_the_action_and_who_can_help() -> None:
    """A missing permission is named; the encoded part, which the user can't read, is not shown."""
    error = client_error(
        "UnauthorizedOperation",
        "You are not authorized to perform this operation. User: arn:aws:iam::1:user/ann is not "
        "authorized to perform: ec2:RunInstances. Encoded authorization failure message: AbC123",
    )
    found = translate(error, "ec2:RunInstances")
    assert isinstance(found, PermissionDenied)
    assert found.action == "ec2:RunInstances"
    assert "ec2:RunInstances" in str(found)
    assert "administrator of the AWS account" in str(found)
    assert "arn:aws:iam::1:user/ann" in str(found)
    assert "AbC123" not in str(found)


def test_a_launch_may_lack_another_permission_than_its_own() -> None:
    """Where AWS says which permission is missing, that one is named: iam:PassRole for a profile."""
    error = client_error(
        "UnauthorizedOperation",
        "You are not authorized to perform this operation. User: arn:aws:iam::1:user/ann is not "
        "authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/buckets because",
    )
    found = translate(error, "ec2:RunInstances")
    assert isinstance(found, PermissionDenied)
    assert found.action == "iam:PassRole"


def test_an_unknown_instance_profile() -> None:
    """A profile that the account does not have is told with the option that named it."""
    told = {
        "InvalidParameterValue": "Value (nope) for parameter iamInstanceProfile.name is invalid.",
        "NoSuchEntity": "Instance profile nope not found",
    }
    for code, text in told.items():
        found = translate(client_error(code, text), "ec2:RunInstances")
        assert isinstance(found, ConfigurationError)
        assert "--ec2-instance-profile" in str(found)


def test_spot_role() -> None:
    """An account that never used spot is told which permission prepares it."""
    found = translate(client_error("AuthFailure.ServiceLinkedRoleCreationNotPermitted"), "ec2:RunInstances")
    assert isinstance(found, PermissionDenied)
    assert found.action == "iam:CreateServiceLinkedRole"


def test_an_account_on_the_free_plan() -> None:
    """AWS refuses types that are not free there: the option that chooses only from these is named."""
    text = "The specified instance type is not eligible for Free Tier. For a list of Free Tier types, run …"
    found = translate(client_error("InvalidParameterCombination", text), "ec2:RunInstances")
    assert isinstance(found, ConfigurationError)
    assert "--ec2-free-tier" in str(found)


def test_image_of_another_account() -> None:
    """EC2 says AuthFailure for an image that is not shared with us; that is no matter of credentials."""
    found = translate(client_error("AuthFailure", "Not authorized for images: [ami-1]"), "ec2:RunInstances")
    assert "--ec2-ami" in str(found)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoCredentialsError(), "no AWS credentials were found: run `aws configure`"),
        (PartialCredentialsError(provider="env", cred_var="secret_key"), "incomplete"),
        (UnauthorizedSSOTokenError(), "aws sso login"),
        (ProfileNotFound(profile="x"), "no such profile"),
        (NoRegionError(), "--ec2-region"),
        (RefreshWithMFAUnsupportedError(), "MFA device"),
        (CredentialRetrievalError(provider="custom-process", error_msg="no session"), "no session"),
        (client_error("AuthFailure"), "--ec2-profile"),
        (client_error("RequestExpired"), "have expired"),
        (client_error("ExpiredToken"), "clock"),
    ],
)
def test_credentials(error: AwsError, said: str) -> None:
    """What is wrong with the credentials says what to do."""
    found = translate(error, "ec2:DescribeRegions")
    assert isinstance(found, ConfigurationError | CredentialsExpired)
    assert said in str(found)


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="https://x"),
        ReadTimeoutError(endpoint_url="https://x"),
        ConnectionClosedError(endpoint_url="https://x"),
        ResponseParserError("<html>"),
        client_error("SomethingNew", status=503),
        client_error("RequestLimitExceeded", status=503),
    ],
)
def test_transient(error: AwsError) -> None:
    """No answer, an unreadable one and AWS's own failures may be asked again."""
    assert is_transient(error)
    assert isinstance(translate(error, "ec2:RunInstances"), ThrottledError)


@pytest.mark.parametrize(
    "code", ["UnauthorizedOperation", "AuthFailure", "InsufficientInstanceCapacity", "VcpuLimitExceeded"]
)
def test_not_transient(code: str) -> None:
    """What will be the same in a moment is not asked again."""
    assert not is_transient(client_error(code))


def test_capacity_is_a_server_error_and_not_transient() -> None:
    """EC2 answers a lack of capacity with status 500, as if it were its own failure."""
    assert not is_transient(client_error("InsufficientInstanceCapacity", status=500))


def test_error_pages_are_not_shown() -> None:
    """A web server's HTML is no message."""
    assert "<" not in str(translate(client_error("500", "<!doctype html><html>", status=500), "a:B"))
