"""Who reaches a machine that has no public address."""

from __future__ import annotations

from contextlib import suppress

import pytest

from snakemake_executor_ec2.errors import ConnectError
from snakemake_executor_ec2.local.jump import COMMAND
from snakemake_executor_ec2.model import KeyPair
from snakemake_executor_ec2.ssh.connector import SshConnector
from snakemake_executor_ec2.ssh.proxy import ProxyCommand

from .conftest import Rig, wait_for


def test_without_a_public_address_only_its_own_network_reaches_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From this computer's usual address it is silent, as on EC2; a jump host gets there if a group lets in
    the VPC's subnets, and not before."""
    monkeypatch.setattr("snakemake_executor_ec2.ssh.connector.ATTEMPT_S", 1.0)
    subnets = rig.ec2.describe_subnets()["Subnets"]
    group = rig.ec2.create_security_group(GroupName="inside", Description="the VPC's own subnets")["GroupId"]
    rules = [rig.rule(rig.cloud.ssh_port) for _ in range(2)]
    rules[1]["IpRanges"] = [{"CidrIp": each["CidrBlock"]} for each in subnets]
    rig.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rules[:1])
    interface = {"DeviceIndex": 0, "SubnetId": subnets[0]["SubnetId"], "Groups": [group]}
    launched = rig.launch(
        NetworkInterfaces=[{**interface, "AssociatePublicIpAddress": False}], SecurityGroupIds=None
    )
    login = KeyPair(private=launched.login_key.private, public=launched.login_key.public)
    connector = SshConnector(
        user="ec2-user", login_keys=[login], port=rig.cloud.ssh_port, proxy=ProxyCommand(COMMAND)
    )
    keys = [launched.host_key.public]
    launched.wait_until("running")
    assert "PublicIpAddress" not in launched.described()

    def answers() -> bool:
        with suppress(OSError):
            return launched.is_silent()
        return False

    wait_for(answers)
    with pytest.raises(ConnectError, match="no ssh server answered"):
        connector.connect(launched.address, host_keys=keys, timeout_s=1)
    rig.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rules[1:])
    host = connector.connect(launched.address, host_keys=keys, timeout_s=10)
    assert host.run("id -un").stdout == b"ec2-user\n"
    assert launched.is_silent()
    host.close()
