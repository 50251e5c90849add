"""What the embedded cloud's API does that moto's own does not."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import Rig, new_key, wait_for


def _code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def _refused(rig: Rig, **changes: Any) -> str:
    with pytest.raises(ClientError) as error:
        rig.ec2.run_instances(**rig.request(**changes))
    return _code(error)


def test_same_token_launches_once(rig: Rig) -> None:
    """The same ClientToken with the same parameters gives the same instance; with others, an error."""
    first, second = (
        rig.ec2.run_instances(**rig.request(ClientToken="token-1"))["Instances"][0]["InstanceId"]
        for _ in range(2)
    )
    assert first == second
    assert _refused(rig, ClientToken="token-1", InstanceType="m5.xlarge") == "IdempotentParameterMismatch"
    found = rig.ec2.describe_instances(Filters=[{"Name": "client-token", "Values": ["token-1"]}])
    assert [each["InstanceId"] for each in found["Reservations"][0]["Instances"]] == [first]
    rig.ec2.terminate_instances(InstanceIds=[first])


def test_states_follow_the_host(rig: Rig) -> None:
    """An instance is pending, running when its host is, and terminated with EC2's reason, addresses gone."""
    launched = rig.launch()
    assert launched.described()["State"]["Name"] == "pending"
    launched.wait_until("running")
    described = launched.described()
    assert described["State"] == {"Code": 16, "Name": "running"}
    assert described["PublicIpAddress"] == described["PrivateIpAddress"] == launched.address
    assert described["PublicDnsName"] == launched.address
    assert launched.address.startswith("127.")
    assert launched.address != "127.0.0.1"
    ending = rig.ec2.terminate_instances(InstanceIds=[launched.id], SkipOsShutdown=True)
    assert ending["TerminatingInstances"][0]["CurrentState"]["Name"] == "shutting-down"
    launched.wait_until("terminated")
    described = launched.described()
    assert described["State"]["Name"] == "terminated"
    assert described["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert described.get("PublicIpAddress") is None
    again = rig.ec2.terminate_instances(InstanceIds=[launched.id])
    assert again["TerminatingInstances"][0]["CurrentState"]["Name"] == "terminated"


def test_no_public_address_when_not_wanted(rig: Rig) -> None:
    """A launch that refuses a public address has a private one only."""
    interface = {"DeviceIndex": 0, "AssociatePublicIpAddress": False, "Groups": [rig.group_id]}
    launched = rig.launch(NetworkInterfaces=[interface], SecurityGroupIds=None)
    described = launched.described()
    assert described.get("PublicIpAddress") is None
    assert described["PrivateIpAddress"] == launched.address
    assert described["SecurityGroups"][0]["GroupId"] == rig.group_id


def test_as_many_as_possible_are_launched(rig: Rig) -> None:
    """MaxCount machines come, not MinCount."""
    answer = rig.ec2.run_instances(**rig.request(MinCount=1, MaxCount=3))
    ids = [each["InstanceId"] for each in answer["Instances"]]
    assert len(ids) == 3
    assert len({each["PrivateIpAddress"] for each in answer["Instances"]}) == 3
    rig.ec2.terminate_instances(InstanceIds=ids)


def test_group_in_use_stays(rig: Rig) -> None:
    """A security group can be deleted when no machine is in it any more, and not before."""
    group = rig.ec2.create_security_group(GroupName="mine", Description="d")["GroupId"]
    interface = {"DeviceIndex": 0, "Groups": [group]}
    launched = rig.launch(NetworkInterfaces=[interface], SecurityGroupIds=None)
    with pytest.raises(ClientError) as error:
        rig.ec2.delete_security_group(GroupId=group)
    assert _code(error) == "DependencyViolation"
    rig.ec2.terminate_instances(InstanceIds=[launched.id])
    launched.wait_until("terminated")
    wait_for(lambda: launched.described()["State"]["Name"] == "terminated")
    rig.ec2.delete_security_group(GroupId=group)


def test_tags_reach_everything_that_the_launch_makes(rig: Rig) -> None:
    """Tags given in the launch are on the instance, its volume and its network interface."""
    tags = [{"Key": "run", "Value": "r1"}]
    what = ("instance", "volume", "network-interface")
    launched = rig.launch(TagSpecifications=[{"ResourceType": each, "Tags": tags} for each in what])
    described = launched.described()
    assert described["Tags"] == tags
    volume = described["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    assert described["BlockDeviceMappings"][0]["DeviceName"] == described["RootDeviceName"]
    assert rig.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Tags"] == tags
    interface = described["NetworkInterfaces"][0]["NetworkInterfaceId"]
    found = rig.ec2.describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"][0]
    assert found["TagSet"] == tags


def test_spot_machines_are_spot(rig: Rig) -> None:
    """A spot launch shows as spot, and can be found by it."""
    launched = rig.launch(InstanceMarketOptions={"MarketType": "spot"})
    assert launched.described()["InstanceLifecycle"] == "spot"
    found = rig.ec2.describe_instances(
        Filters=[
            {"Name": "instance-lifecycle", "Values": ["spot"]},
            {"Name": "instance-state-name", "Values": ["pending", "running"]},
        ]
    )
    ids = [each["InstanceId"] for held in found["Reservations"] for each in held["Instances"]]
    assert ids == [launched.id]


def test_wrong_launches_are_refused(rig: Rig) -> None:
    """Unknown images, types, keys and groups, other architectures, and user-data that is too long."""
    assert _refused(rig, ImageId="ami-0123456789abcdef0") == "InvalidAMIID.NotFound"
    assert _refused(rig, InstanceType="m5.enormous") == "InvalidInstanceType"
    assert _refused(rig, KeyName="nobody's") == "InvalidKeyPair.NotFound"
    assert _refused(rig, SecurityGroupIds=["sg-0123456789abcdef0"]) == "InvalidGroup.NotFound"
    interface = {"DeviceIndex": 0, "Groups": ["sg-0123456789abcdef0"]}
    refusal = _refused(rig, NetworkInterfaces=[interface], SecurityGroupIds=None)
    assert refusal == "InvalidGroup.NotFound"
    assert _refused(rig, InstanceType="m7g.large") == "InvalidParameterValue"
    assert _refused(rig, UserData="#" * 16385) == "InvalidParameterValue"
    assert _refused(rig, DryRun=True) == "DryRunOperation"


def test_type_that_the_zone_has_not(rig: Rig) -> None:
    """A type that the zone does not offer is Unsupported there."""
    offers = rig.ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["m5.large"]}]
    )["InstanceTypeOfferings"]
    zones = {each["Location"] for each in offers}
    missing = {
        each["ZoneName"] for each in rig.ec2.describe_availability_zones()["AvailabilityZones"]
    } - zones
    for zone in missing:
        assert _refused(rig, Placement={"AvailabilityZone": zone}) == "Unsupported"
    assert zones


def test_image_shows_its_root_volume(rig: Rig) -> None:
    """DescribeImages names the root device and its size."""
    image = rig.ec2.describe_images(ImageIds=[rig.image])["Images"][0]
    assert image["RootDeviceName"] == "/dev/xvda"
    mapping = image["BlockDeviceMappings"][0]
    assert mapping["DeviceName"] == "/dev/xvda"
    assert mapping["Ebs"]["VolumeSize"] == 8


def test_on_demand_prices_have_awss_shape(rig: Rig) -> None:
    """GetProducts filters, pages, gives JSON strings; in us-east-1 of AWS's prices, as of a day."""
    fields = {
        "regionCode": "us-east-1",
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
        "tenancy": "Shared",
    }
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in fields.items()]
    pricing = rig.client("pricing")
    pages = pricing.get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters)
    products = [json.loads(text) for page in pages for text in page["PriceList"]]
    usd = {}
    for product in products:
        (term,) = product["terms"]["OnDemand"].values()
        (dimension,) = term["priceDimensions"].values()
        assert "AWS's price of 20" in dimension["description"]
        usd[product["product"]["attributes"]["instanceType"]] = float(dimension["pricePerUnit"]["USD"])
    assert len(usd) == len(products) > 500
    assert (usd["m5.large"], usd["m7g.large"], usd["g4dn.xlarge"]) == (0.096, 0.0816, 0.526)
    one = [*filters, {"Type": "TERM_MATCH", "Field": "instanceType", "Value": "c5.large"}]
    assert len(pricing.get_products(ServiceCode="AmazonEC2", Filters=one)["PriceList"]) == 1


def test_prices_of_other_regions_are_made_up(rig: Rig) -> None:
    """And say so."""
    wanted = {"regionCode": "eu-central-1", "instanceType": "m5.large"}
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    (product,) = rig.client("pricing").get_products(ServiceCode="AmazonEC2", Filters=filters)["PriceList"]
    assert "SYNTHETIC" in product


def test_spot_prices_are_current_and_by_zone(rig: Rig) -> None:
    """One recent price a zone, about a third of on-demand, the same at the next call."""
    question: dict[str, Any] = {"InstanceTypes": ["m5.large"], "ProductDescriptions": ["Linux/UNIX"]}
    rows = rig.ec2.describe_spot_price_history(StartTime=datetime.now(UTC), **question)["SpotPriceHistory"]
    assert len({row["AvailabilityZone"] for row in rows}) == len(rows) > 2
    assert all(0.02 < float(row["SpotPrice"]) < 0.06 for row in rows)
    assert all(time.time() - row["Timestamp"].timestamp() < 3700 for row in rows)
    assert rig.ec2.describe_spot_price_history(**question)["SpotPriceHistory"] == rows
    pages = rig.ec2.get_paginator("describe_spot_price_history").paginate(
        Filters=[{"Name": "product-description", "Values": ["Linux/UNIX"]}]
    )
    assert sum(len(page["SpotPriceHistory"]) for page in pages) > 2000


def test_quotas_are_told(rig: Rig) -> None:
    """GetServiceQuota knows EC2's vCPU quotas, and no others."""
    quotas = rig.client("service-quotas")
    codes = ("L-1216C47A", "L-34B43A08", "L-DB2E81BA", "L-3819A6DF", "L-417A185B", "L-7212CCBC")
    for code in codes:
        assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"] > 0
    with pytest.raises(ClientError) as error:
        quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-00000000")
    assert _code(error) == "NoSuchResourceException"


def test_imported_key_pair_logs_in(rig: Rig) -> None:
    """A machine launched with a key pair's name lets its owner in, without any user-data."""
    key = new_key()
    rig.ec2.import_key_pair(KeyName="mine", PublicKeyMaterial=key.public.encode())
    launched = rig.launch(KeyName="mine", UserData=None)
    output = wait_for(lambda: rig.ec2.get_console_output(InstanceId=launched.id).get("Output"))
    wait_for(lambda: "KEYS-----\nssh-ed25519" in _console(rig, launched.id))
    assert "SHA256:" in _console(rig, launched.id)
    assert output
    line = _console(rig, launched.id).split("-----BEGIN SSH HOST KEY KEYS-----\n")[1].splitlines()[0]
    launched.login_key, launched.host_key = key, type(key)(private="", public=line)
    assert launched.run("id -un").strip() == "ec2-user"
    rig.ec2.delete_key_pair(KeyName="mine")


def _console(rig: Rig, instance_id: str) -> str:
    return str(rig.ec2.get_console_output(InstanceId=instance_id)["Output"])


def test_stop_keeps_the_disk_and_start_boots_it(rig: Rig) -> None:
    """A stopped machine comes back with its files and its host key."""
    launched = rig.launch()
    launched.run("echo kept > kept; sync")
    launched.close()
    launched.clients.clear()
    rig.ec2.stop_instances(InstanceIds=[launched.id])
    launched.wait_until("stopped")
    assert launched.described()["State"]["Name"] == "stopped"
    rig.ec2.start_instances(InstanceIds=[launched.id])
    launched.wait_until("running")
    assert launched.run("cat kept").strip() == "kept"


def test_reboot_ends_processes_and_keeps_files(rig: Rig) -> None:
    """After RebootInstances nothing that ran runs, and what was written is there."""
    launched = rig.launch()
    launched.run("touch kept; setsid sleep 1000 </dev/null >/dev/null 2>&1 &")
    before = launched.facts()["pid"]
    rig.ec2.reboot_instances(InstanceIds=[launched.id])
    wait_for(lambda: launched.facts()["pid"] not in (None, before))
    launched.clients.clear()
    assert "sleep 1000" not in launched.run("test -e kept; ps -e -o args")


def test_user_data_can_be_read_back(rig: Rig) -> None:
    """DescribeInstanceAttribute gives user-data as it was sent."""
    launched = rig.launch(UserData="#!/bin/sh\ntrue\n")
    answer = rig.ec2.describe_instance_attribute(InstanceId=launched.id, Attribute="userData")
    assert base64.b64decode(answer["UserData"]["Value"]) == b"#!/bin/sh\ntrue\n"


def test_s3_is_behind_the_same_endpoint(rig: Rig) -> None:
    """What moto does well is passed through."""
    s3 = rig.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="a b/c", Body=b"\0\r\n" * 100_000)
    assert s3.get_object(Bucket="bucket", Key="a b/c")["Body"].read() == b"\0\r\n" * 100_000


def test_calls_are_logged_with_their_parameters(rig: Rig) -> None:
    """A test can see what was asked, when, and how it was answered."""
    rig.cloud.forget_calls()
    launched = rig.launch()
    (call,) = rig.cloud.calls("RunInstances")
    assert call["status"] == 200
    assert call["params"]["InstanceType"] == "m5.large"
    assert b"ssh_authorized_keys" in base64.b64decode(call["params"]["UserData"])
    assert abs(call["time"] - time.time()) < 10
    assert launched.facts()["market"] == "on-demand"


def test_descriptions_are_current_and_paged(rig: Rig) -> None:
    """Whatever is remembered of an instance's description, changes show at once, and pages add up."""
    launched = [rig.launch(TagSpecifications=[_tagged("a", "1")]) for _ in range(3)]
    filters: Any = [{"Name": "tag:a", "Values": ["1"]}]
    launched[0].wait_until("running")

    def seen() -> dict[str, dict[str, Any]]:
        pages = rig.ec2.get_paginator("describe_instances").paginate(
            Filters=filters, PaginationConfig={"PageSize": 2}
        )
        return {
            each["InstanceId"]: dict(each)
            for page in pages
            for held in page["Reservations"]
            for each in held["Instances"]
        }

    assert set(seen()) == {each.id for each in launched}
    rig.ec2.create_tags(Resources=[launched[0].id], Tags=[{"Key": "b", "Value": "2"}])
    assert {"Key": "b", "Value": "2"} in seen()[launched[0].id]["Tags"]
    rig.ec2.terminate_instances(InstanceIds=[launched[0].id])
    assert seen()[launched[0].id]["State"]["Name"] == "shutting-down"
    wait_for(lambda: seen()[launched[0].id]["State"]["Name"] == "terminated")
    assert seen()[launched[0].id] == launched[0].described()


def _tagged(key: str, value: str) -> dict[str, Any]:
    return {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value}]}
