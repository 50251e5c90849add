"""Instances with an instance profile: their metadata service gives credentials, and these allow what the role
may do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from snakemake_executor_ec2.local.guard import Guard, Secrets
from snakemake_executor_ec2.local.imds import MetadataService
from snakemake_executor_ec2.local.wrap.calls import ApiError
from snakemake_executor_ec2.local.wrap.roles import RoleSessions
from tests.unit.local.conftest import Rig

ROLE, PROFILE = "looks-only", "lookers"
LOOK = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}],
}
BY_EC2 = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
ASK = """
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
token = ask("api/token", {TTL: "60"}, "PUT")
with_token = {"X-aws-ec2-metadata-token": token}
where = "meta-data/iam/security-credentials/"
name = ask(where, with_token)
told = {
    "proxied": ask("api/token", {TTL: "60", "X-Forwarded-For": "192.0.2.1"}, "PUT"),
    "too long": ask("api/token", {TTL: "21601"}, "PUT"),
    "without token": ask(where + name, {}),
    "name": name,
    "info": json.loads(ask("meta-data/iam/info", with_token)),
    "credentials": json.loads(ask(where + name, with_token)),
    "endpoint": os.environ["AWS_ENDPOINT_URL"],
}
print(json.dumps(told))
"""


@pytest.fixture
def profile(rig: Rig) -> Iterator[str]:
    """An instance profile whose role may look, and nothing else."""
    iam = rig.client("iam")
    iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(BY_EC2))
    iam.put_role_policy(RoleName=ROLE, PolicyName="look", PolicyDocument=json.dumps(LOOK))
    iam.create_instance_profile(InstanceProfileName=PROFILE)
    iam.add_role_to_instance_profile(InstanceProfileName=PROFILE, RoleName=ROLE)
    yield PROFILE
    iam.remove_role_from_instance_profile(InstanceProfileName=PROFILE, RoleName=ROLE)
    iam.delete_instance_profile(InstanceProfileName=PROFILE)
    iam.delete_role_policy(RoleName=ROLE, PolicyName="look")
    iam.delete_role(RoleName=ROLE)


def client(service: str, endpoint: str, credentials: dict[str, str], *, token: str | None) -> Any:
    return boto3.client(  # type: ignore[call-overload]
        service,
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_an_instance_gets_its_roles_credentials(rig: Rig, profile: str) -> None:
    """By IMDSv2 only, to no proxy; they need their session token, and allow what the role's policy says,
    although the cloud's own key may do everything."""
    machine = rig.launch(IamInstanceProfile={"Name": profile})
    told = json.loads(machine.asks(ASK))
    assert (told["proxied"], told["too long"], told["without token"]) == ("403", "400", "401")
    assert told["name"] == ROLE
    assert told["info"]["InstanceProfileArn"].endswith(f":instance-profile/{PROFILE}")
    credentials = told["credentials"]
    ec2 = client("ec2", told["endpoint"], credentials, token=credentials["Token"])
    assert ec2.describe_instances(InstanceIds=[machine.id])["Reservations"]
    with pytest.raises(ClientError, match=f"assumed-role/{ROLE}/{machine.id}.*ec2:TerminateInstances"):
        ec2.terminate_instances(InstanceIds=[machine.id])
    for token in (None, "another"):
        with pytest.raises(ClientError, match="AuthFailure"):
            client("ec2", told["endpoint"], credentials, token=token).describe_instances()
    sts = client("sts", told["endpoint"], credentials, token=credentials["Token"])
    assert sts.get_caller_identity()["Arn"].endswith(f":assumed-role/{ROLE}/{machine.id}")


def test_an_instance_without_a_profile_gets_none(rig: Rig) -> None:
    """Nor does it learn where the cloud is: a job's machine is no client of EC2's."""
    machine = rig.launch()
    assert machine.run("echo ${AWS_ENDPOINT_URL:-none}").strip() == "none"


def test_credentials_end_and_new_ones_are_there_before() -> None:
    """As on EC2: what is near its end is not given out any more, and what has ended is refused."""
    now = 1_000_000.0
    sessions = RoleSessions(now=lambda: now, lifetime_s=3600)
    profile = SimpleNamespace(roles=[SimpleNamespace(name=ROLE)], arn="arn", id="AIPA1")

    def current() -> str:
        return sessions.metadata("i-1", profile)[ROLE]["AccessKeyId"]

    first = current()
    assert current() == first
    now += 3000
    assert current() != first
    guard = Guard(Secrets(), lambda _: None, sessions)
    session = sessions.of_key(first)
    assert session is not None
    signed = {"HTTP_X_AMZ_SECURITY_TOKEN": session.token}
    names = ["host", "x-amz-security-token"]
    assert guard._secret_of_session(signed, first, names, "ec2") == session.secret_key
    now += 600
    with pytest.raises(ApiError, match="expired") as refused:
        guard._secret_of_session(signed, first, names, "sts")
    assert refused.value.code == "ExpiredToken"
    assert session.secret_key not in repr(session)


def test_tokens_of_the_metadata_service_end() -> None:
    """A session token of IMDSv2 is good for as long as was asked for."""
    now = 0.0
    service = MetadataService("127.0.0.1", lambda _: "told", now=lambda: now)
    secret = service._secret
    head = f"PUT {secret}/latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n"
    status, token = service._answer(head)
    assert status == 200
    ask = f"GET {secret}/latest/user-data HTTP/1.1\r\nX-aws-ec2-metadata-token: {token.decode()}\r\n"
    assert service._answer(ask) == (200, b"told")
    now = 61.0
    assert service._answer(ask) == (401, b"")
