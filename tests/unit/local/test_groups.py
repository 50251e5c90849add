"""Security groups that name groups."""

from __future__ import annotations

from .conftest import Rig
from .test_hosts import needs_openssh


@needs_openssh
def test_machines_reach_each_other_by_a_rule_for_their_group(rig: Rig) -> None:
    """By the private address, from ssh's client on a machine of the group; not without that rule, although
    this computer is let in, nor from a machine of another group."""
    names = ("ours", "others")
    ours, others = (rig.ec2.create_security_group(GroupName=n, Description="d")["GroupId"] for n in names)
    for group in (ours, others):
        rig.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rig.rule(rig.cloud.ssh_port)])
    first, second = (rig.launch(SecurityGroupIds=[ours]) for _ in range(2))
    stranger = rig.launch(SecurityGroupIds=[others])
    scan = f"timeout 3 ssh -p {rig.cloud.ssh_port} -o BatchMode=yes -o StrictHostKeyChecking=no"
    scan += f" x@{second.described()['PrivateIpAddress']} true 2>&1"
    second.login()
    assert "Permission denied" not in first.run(scan, check=False)
    rule = rig.rule(rig.cloud.ssh_port)
    del rule["IpRanges"]
    rig.ec2.authorize_security_group_ingress(
        GroupId=ours, IpPermissions=[rule | {"UserIdGroupPairs": [{"GroupId": ours}]}]
    )
    assert "Permission denied" in first.run(scan, check=False)
    assert "Permission denied" not in stranger.run(scan, check=False)
