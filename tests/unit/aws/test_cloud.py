"""What `Ec2Cloud` adds to its parts: subnets, zones, prices, caches. On moto."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from snakemake_executor_ec2.aws.cloud import Ec2Cloud, Reached
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Arch, Market
from snakemake_executor_ec2.tags import RUN_TAG
from tests.contract.test_cloud import make_spec
from tests.fakes.clock import FakeClock
from tests.unit.aws.moto_server import environment, moto_server


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with moto_server():
        yield


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cloud(warnings: list[str], cache_dir: Path) -> Iterator[Ec2Cloud]:
    made = Ec2Cloud(
        run_id="run-1",
        clock=FakeClock(),
        warn=warnings.append,
        region="us-east-1",
        ssh_port=2222,
        cache_dir=cache_dir,
    )
    yield made
    made.close()


def ec2(region: str = "us-east-1") -> Any:
    return boto3.client("ec2", region_name=region)


def groups() -> list[Any]:
    found: list[Any] = ec2().describe_security_groups()["SecurityGroups"]
    return [each for each in found if each["GroupName"].startswith("snakemake-ec2")]


def test_group_from_launch_to_close(cloud: Ec2Cloud) -> None:
    """The group appears with the first launch, lets only this computer in, and goes with `close`."""
    cloud.check()
    assert groups() == []
    machine = cloud.launch(make_spec(cloud))
    (group,) = groups()
    (rule,) = group["IpPermissions"]
    assert [each["CidrIp"] for each in rule["IpRanges"]] == ["127.0.0.1/32"]
    assert (rule["FromPort"], rule["ToPort"]) == (2222, 2222)
    row = ec2().describe_instances(InstanceIds=[machine.id])["Reservations"][0]["Instances"][0]
    assert [each["GroupId"] for each in row["NetworkInterfaces"][0]["Groups"]] == [group["GroupId"]]
    cloud.close()
    assert groups() == []


def test_machines_carry_their_tags(cloud: Ec2Cloud) -> None:
    """Instance and volume carry the run's tag from the launch on."""
    machine = cloud.launch(make_spec(cloud))
    filters = [{"Name": f"tag:{RUN_TAG}", "Values": ["run-1"]}]
    volumes = ec2().describe_volumes(Filters=filters)["Volumes"]
    assert [each["Attachments"][0]["InstanceId"] for each in volumes] == [machine.id]


def test_close_leaves_other_runs_alone(cloud: Ec2Cloud) -> None:
    """A run ends its own machines and nobody else's."""
    other = ec2().run_instances(
        ImageId=cloud.image(None, Arch.X86_64).ami,
        InstanceType="m7i.large",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": RUN_TAG, "Value": "run-2"}]}],
    )["Instances"][0]["InstanceId"]
    cloud.launch(make_spec(cloud))
    cloud.close()
    row = ec2().describe_instances(InstanceIds=[other])["Reservations"][0]["Instances"][0]
    assert row["State"]["Name"] == "running"
    ec2().terminate_instances(InstanceIds=[other])


def with_subnets(*subnets: str) -> Ec2Cloud:
    return Ec2Cloud(run_id="run-1", clock=FakeClock(), warn=pytest.fail, region="us-east-1", subnets=subnets)


def test_given_subnets(cloud: Ec2Cloud) -> None:
    """Only the zones of the subnets that the user names are used."""
    row = ec2().describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1b"]}])[
        "Subnets"
    ][0]
    assert with_subnets(row["SubnetId"]).zones("m7i.large") == ("us-east-1b",)


def test_unknown_subnet() -> None:
    """A subnet that does not exist is named, and the option."""
    with pytest.raises(ConfigurationError, match=r"--ec2-subnets.*subnet-0123"):
        with_subnets("subnet-0123").zones("m7i.large")


def test_subnets_of_two_networks() -> None:
    """One security group can't serve two networks."""
    vpc = ec2().create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    own = ec2().create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/24")["Subnet"]["SubnetId"]
    default = ec2().describe_subnets()["Subnets"][0]["SubnetId"]
    with pytest.raises(ConfigurationError, match="several networks"):
        with_subnets(own, default).zones("m7i.large")


def test_no_default_network() -> None:
    """An account without a default VPC is told about --ec2-subnets."""
    for row in ec2("eu-west-3").describe_subnets()["Subnets"]:
        ec2("eu-west-3").delete_subnet(SubnetId=row["SubnetId"])
    made = Ec2Cloud(run_id="run-1", clock=FakeClock(), warn=pytest.fail, region="eu-west-3")
    with pytest.raises(ConfigurationError, match=r"no default network.*--ec2-subnets"):
        made.zones("m7i.large")


def test_private_subnet_gets_no_public_address() -> None:
    """A subnet without a way to the internet gives no public address; one with a gateway does."""
    vpc = ec2().create_vpc(CidrBlock="10.2.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2().create_subnet(VpcId=vpc, CidrBlock="10.2.0.0/24")["Subnet"]["SubnetId"]
    assert not with_subnets(subnet)._region.subnets()[0].public
    gateway = ec2().create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2().attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    (table,) = ec2().describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    ec2().create_route(
        RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway
    )
    assert with_subnets(subnet)._region.subnets()[0].public


def test_through_a_proxy_without_public_addresses() -> None:
    """The group lets in the VPC's subnets, in as few networks as cover them; the machine has no public
    address even in a public subnet, and its private one is given at once."""
    reached = Reached(proxied=True, public_ip=False)
    made = Ec2Cloud(run_id="run-1", clock=FakeClock(), warn=pytest.fail, region="us-east-1", reached=reached)
    machine = made.launch(make_spec(made))
    (group,) = groups()
    opened = [each["CidrIp"] for rule in group["IpPermissions"] for each in rule["IpRanges"]]
    assert opened == ["172.31.0.0/18", "172.31.64.0/19"]
    row = ec2().describe_instances(InstanceIds=[machine.id])["Reservations"][0]["Instances"][0]
    assert "PublicIpAddress" not in row
    assert made.status(machine.id).address == row["PrivateIpAddress"]
    made.close()
    assert groups() == []


def test_prices_that_cannot_be_had(cloud: Ec2Cloud, warnings: list[str]) -> None:
    """Without the Pricing API they are those that came with the package, and the user is told so once."""
    for _ in range(2):
        assert cloud.prices(Market.ON_DEMAND)["m7i.large", ""].source.startswith("us-east-1, 2")
    (said,) = warnings
    assert "pricing:GetProducts" in said


def test_catalogue_is_kept_on_disk(cache_dir: Path) -> None:
    """A second run within a week asks nobody for types and zones; a later one does."""
    clock = FakeClock()

    def made() -> Ec2Cloud:
        return Ec2Cloud(run_id="r", clock=clock, warn=pytest.fail, region="us-east-1", cache_dir=cache_dir)

    types = made().instance_types()
    again = made()
    again._clients.ec2.get_paginator = None  # type: ignore[assignment, method-assign]
    assert again.instance_types() == types
    clock.advance(8 * 86_400)
    late = made()
    late._clients.ec2.get_paginator = None  # type: ignore[assignment, method-assign]
    with pytest.raises(TypeError):
        late.instance_types()


def test_image_without_ssm(cloud: Ec2Cloud) -> None:
    """Where SSM can't be asked, EC2 itself knows the newest Amazon Linux 2023."""
    with environment({"AWS_ENDPOINT_URL_SSM": "http://127.0.0.1:9"}):
        image = cloud.image(None, Arch.ARM64)
    assert image.name.startswith("al2023-ami-2023.")
    assert image.arch is Arch.ARM64


def test_newest_image(cloud: Ec2Cloud) -> None:
    """The default image is Amazon Linux 2023 with its root volume."""
    image = cloud.image(None, Arch.X86_64)
    assert image.name.startswith("al2023-ami-2023.")
    assert (image.root_device, image.other_devices) == ("/dev/xvda", ())
