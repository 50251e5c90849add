"""A cloud with a policy refuses what that does not allow; the package's own is for what is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

import snakemake_executor_ec2
from snakemake_executor_ec2.local.client import ControlError
from snakemake_executor_ec2.local.cloud import CloudStartError, EmbeddedCloud

from .conftest import IMAGE_PARAMETER, Rig

POLICY = (Path(snakemake_executor_ec2.__file__).parent / "aws/policy.json").read_text()
TAGS = [{"Key": "snakemake-ec2:run", "Value": "r1"}, {"Key": "Name", "Value": "x"}]
MADE = ("instance", "volume", "network-interface")


@pytest.fixture
def held(rig: Rig) -> Iterator[Rig]:
    """A cloud on which everything is allowed again afterwards."""
    yield rig
    rig.cloud.allow(None)


def _tags(*kinds: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": TAGS} for kind in kinds]


def _group(rig: Rig, name: str, *kinds: str) -> str:
    made = rig.ec2.create_security_group(
        GroupName=name,
        Description="x",
        TagSpecifications=_tags(*kinds) or [],  # type: ignore[arg-type]
    )
    return made["GroupId"]


def _refused(call: Callable[[], Any]) -> ClientError:
    with pytest.raises(ClientError) as caught:
        call()
    assert caught.value.response["Error"]["Code"] == "UnauthorizedOperation", caught.value
    return caught.value


def test_a_launch_is_for_tagged_machines_in_an_own_group(held: Rig) -> None:
    """Without the run's tag on all that is made, or in a group of others, it is refused, and names what."""
    other, request = held.group_id, held.request
    held.cloud.allow(POLICY)
    own = _group(held, "own-launch", "security-group")

    for kinds, group, named in [
        (MADE, other, f"security-group/{other}"),
        ((), own, "instance/*"),
        (("instance",), own, "volume/*"),
        (("instance", "volume"), own, "network-interface/*"),
    ]:
        error = _refused(
            lambda kinds=kinds, group=group: held.launch(  # type: ignore[misc]
                **request(SecurityGroupIds=[group], TagSpecifications=_tags(*kinds))
            )
        )
        assert "not authorized to perform: ec2:RunInstances on resource: arn:aws:ec2:us-east-1:" in str(error)
        assert f"{named} because no identity-based policy allows the ec2:RunInstances action" in str(error)

    spot = {"MarketType": "spot"}
    mine = held.launch(SecurityGroupIds=[own], TagSpecifications=_tags(*MADE), InstanceMarketOptions=spot)
    assert len(held.machines) == 1
    held.ec2.terminate_instances(InstanceIds=[mine.id])


def test_what_others_have_is_left_alone(held: Rig) -> None:
    """Others' machines and groups are not ended, opened, tagged or read; neither is anybody's user-data."""
    machine, group = held.launch(), held.group_id
    held.cloud.allow(POLICY)
    ec2 = held.ec2
    own = _group(held, "own-alone", "security-group")

    ids = [machine.id]
    _refused(lambda: ec2.terminate_instances(InstanceIds=ids))
    _refused(lambda: ec2.stop_instances(InstanceIds=ids))
    _refused(lambda: ec2.get_console_output(InstanceId=machine.id))
    _refused(lambda: ec2.describe_instance_attribute(InstanceId=machine.id, Attribute="userData"))
    _refused(lambda: ec2.create_tags(Resources=[*ids, group], Tags=TAGS))  # type: ignore[arg-type]
    _refused(lambda: ec2.create_tags(Resources=[own], Tags=TAGS))  # type: ignore[arg-type]
    _refused(lambda: ec2.delete_security_group(GroupId=group))
    rules = [held.rule(443)]
    _refused(lambda: ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rules))
    _refused(lambda: ec2.create_security_group(GroupName="untagged", Description="x"))
    _refused(lambda: ec2.create_key_pair(KeyName="k"))

    ec2.authorize_security_group_ingress(GroupId=own, IpPermissions=rules)
    ec2.delete_security_group(GroupId=own)
    assert machine.facts()["state"] in ("pending", "running")
    held.cloud.allow(None)


def test_one_that_is_not_ours_hinders_all(held: Rig) -> None:
    """Of several machines in one call none is ended if one of them is somebody else's."""
    other = held.launch()
    mine = held.launch(TagSpecifications=_tags("instance"))
    held.cloud.allow(POLICY)
    _refused(lambda: held.ec2.terminate_instances(InstanceIds=[mine.id, other.id]))
    assert mine.facts()["state"] != "shutting-down"
    held.ec2.terminate_instances(InstanceIds=[mine.id])
    held.cloud.allow(None)


def test_an_instance_profile_has_to_be_passed(held: Rig) -> None:
    """It is not enough to launch: the error names iam:PassRole."""
    held.cloud.allow(POLICY)
    own = _group(held, "own-profile", "security-group")
    error = _refused(
        lambda: held.launch(
            SecurityGroupIds=[own], TagSpecifications=_tags(*MADE), IamInstanceProfile={"Name": "buckets"}
        )
    )
    assert "iam:PassRole on resource: arn:aws:iam::123456789012:role/buckets" in str(error)


def test_each_service_refuses_in_its_own_words(held: Rig) -> None:
    """As AWS's JSON services, S3 and IAM do; who one is, everybody may ask."""
    held.cloud.allow('{"Version": "2012-10-17", "Statement": []}')
    held.client("sts").get_caller_identity()
    calls: list[tuple[str, Callable[[Any], object], str]] = [
        ("pricing", lambda it: it.get_products(ServiceCode="AmazonEC2"), "pricing:GetProducts"),
        ("ssm", lambda it: it.get_parameter(Name=IMAGE_PARAMETER), "ssm:GetParameter"),
        (
            "service-quotas",
            lambda it: it.get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A"),
            "servicequotas:GetServiceQuota",
        ),
        ("s3", lambda it: it.list_buckets(), "s3:"),
        ("iam", lambda it: it.list_users(), "iam:"),
    ]
    for service, call, action in calls:
        with pytest.raises(ClientError, match=f"not authorized to perform: {action}") as caught:
            call(held.client(service))
        json_service = service in ("pricing", "ssm", "service-quotas")
        expected = "AccessDeniedException" if json_service else "AccessDenied"
        assert caught.value.response["Error"]["Code"] == expected


def test_only_amazons_image_is_read_from_ssm(held: Rig) -> None:
    """An account keeps secrets there; the policy lets one read Amazon's public parameter and no other."""
    held.cloud.allow(POLICY)
    ssm = held.client("ssm")
    assert ssm.get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"] == held.image
    for name in ("/production/database/password", "password", "/aws/service/ecs/optimized-ami"):
        with pytest.raises(ClientError, match=f"parameter/{name.lstrip('/')} because"):
            ssm.get_parameter(Name=name)


def test_a_policy_is_given_at_the_start(tmp_path: Path) -> None:
    """As a file; one that is not understood is told, and no cloud starts."""
    file = tmp_path / "policy.json"
    file.write_text('{"Statement": [{"Effect": "Allow", "Action": "ec2:DescribeVpcs", "Resource": "*"}]}')
    with EmbeddedCloud(policy=file) as cloud:
        client = Rig.client(_Like(cloud), "ec2")  # type: ignore[arg-type]
        client.describe_vpcs()
        _refused(client.describe_subnets)
        with pytest.raises(ControlError, match="condition operator"):
            cloud.allow(file.read_text().replace('"*"}', '"*", "Condition": {"X": {"a": "b"}}}'))
    file.write_text("{}")
    with pytest.raises(CloudStartError), EmbeddedCloud(policy=file):
        pass


class _Like:
    """What `Rig.client` needs of a rig."""

    def __init__(self, cloud: EmbeddedCloud) -> None:
        self.cloud = cloud


def test_the_simulator_says_what_the_policy_would(held: Rig) -> None:
    """For each action, by the context that is given; whoever may not ask about that principal is refused."""
    iam, me = held.client("iam"), "arn:aws:iam::123456789012:user/rehearsal"
    assert held.client("sts").get_caller_identity()["Arn"] == me
    machine = "arn:aws:ec2:us-east-1:123456789012:instance/i-1"
    owned = {
        "ContextKeyName": "aws:ResourceTag/snakemake-ec2:run",
        "ContextKeyValues": ["r1"],
        "ContextKeyType": "string",
    }

    def simulated(*context: Any) -> list[tuple[str, str]]:
        answer = iam.simulate_principal_policy(
            PolicySourceArn=me,
            ActionNames=["ec2:TerminateInstances", "ec2:DescribeImages"],
            ResourceArns=[machine],
            ContextEntries=list(context),
        )
        assert [
            row["ResourceSpecificResults"][0]["EvalResourceName"] for row in answer["EvaluationResults"]
        ] == [machine] * 2
        return [(row["EvalActionName"], row["EvalDecision"]) for row in answer["EvaluationResults"]]

    assert {decision for _, decision in simulated()} == {"allowed"}
    ask = f'{{"Effect": "Allow", "Action": "iam:SimulatePrincipalPolicy", "Resource": "{me}"}},'
    held.cloud.allow(POLICY.replace('"Statement": [', f'"Statement": [{ask}', 1))
    assert [decision for _, decision in simulated()] == ["implicitDeny", "allowed"]
    assert [decision for _, decision in simulated(owned)] == ["allowed", "allowed"]
    held.cloud.allow(POLICY)
    with pytest.raises(ClientError, match="iam:SimulatePrincipalPolicy"):
        simulated()


def test_a_dry_run_says_whether_it_is_allowed(held: Rig) -> None:
    """For each action of EC2's, and changes nothing; what a login that is over says is another thing."""
    ec2 = held.ec2
    calls: list[Callable[[], Any]] = [
        lambda: ec2.describe_instance_types(DryRun=True),
        lambda: ec2.describe_images(DryRun=True),
        lambda: ec2.create_key_pair(KeyName="k", DryRun=True),
        lambda: ec2.terminate_instances(InstanceIds=["i-0123456789abcdef0"], DryRun=True),
    ]

    def codes() -> list[str]:
        found = []
        for call in calls:
            with pytest.raises(ClientError) as caught:
                call()
            found.append(caught.value.response["Error"]["Code"])
        return found

    assert codes() == ["DryRunOperation"] * 4
    held.cloud.allow(POLICY)
    assert codes() == ["DryRunOperation"] * 2 + ["UnauthorizedOperation"] * 2
    held.cloud.faults.expire_credentials()
    assert codes() == ["RequestExpired"] * 4
    held.cloud.faults.clear()
