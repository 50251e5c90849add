"""Each fault of the embedded cloud, as a client meets it."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import paramiko
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from snakemake_executor_ec2.local import memory
from snakemake_executor_ec2.local.client import ControlError

from .conftest import Machine, Rig, wait_for


def _refused(rig: Rig, **changes: Any) -> str:
    with pytest.raises(ClientError) as error:
        rig.ec2.run_instances(**rig.request(**changes))
    return str(error.value.response["Error"]["Code"])


def test_capacity_by_market_type_and_zone(rig: Rig) -> None:
    """Only what fits the patterns is out of capacity, and only as often as said."""
    faults = rig.cloud.faults
    faults.no_capacity("m5.*", market="on-demand", zone="us-east-1a", count=2)
    spot = {"MarketType": "spot"}
    rig.launch(InstanceMarketOptions=spot)
    assert _refused(rig) == "InsufficientInstanceCapacity"
    rig.launch(Placement={"AvailabilityZone": "us-east-1b"})
    rig.launch(InstanceType="c5.large")
    assert _refused(rig) == "InsufficientInstanceCapacity"
    rig.launch()
    faults.no_capacity(code="UnfulfillableCapacity")
    assert _refused(rig, InstanceMarketOptions=spot) == "UnfulfillableCapacity"
    faults.clear()
    rig.launch()


def test_throttling(rig: Rig) -> None:
    """A throttled action is turned away for some calls or for some time, other actions are not."""
    rig.cloud.faults.throttle("DescribeInstances", count=1)
    rig.ec2.describe_images(ImageIds=[rig.image])
    with pytest.raises(ClientError, match="RequestLimitExceeded"):
        rig.ec2.describe_instances()
    rig.ec2.describe_instances()
    rig.cloud.faults.throttle(seconds=0.3)
    with pytest.raises(ClientError, match="ThrottlingException"):
        rig.client("pricing").get_products(ServiceCode="AmazonEC2")
    wait_for(lambda: not rig.cloud.faults.list())
    rig.ec2.describe_instances()


def test_lost_reply(rig: Rig) -> None:
    """The launch happens, its answer does not arrive, and the same token finds the machine."""
    earlier = {each["id"] for each in rig.cloud.instances()}  # of other tests; some may still be ending
    rig.cloud.faults.lose_reply("RunInstances")
    request = rig.request(ClientToken="lost-1")
    with pytest.raises(ConnectionClosedError):
        rig.ec2.run_instances(**request)
    launched = {each["id"] for each in rig.cloud.instances()} - earlier
    found = rig.ec2.run_instances(**request)["Instances"][0]["InstanceId"]
    assert launched == {found}
    assert {each["id"] for each in rig.cloud.instances()} - earlier == launched
    rig.ec2.terminate_instances(InstanceIds=[found])


def test_denied_actions(rig: Rig) -> None:
    """A denied action answers as IAM would, for one credential or for all."""
    rig.cloud.faults.deny("RunInstances", access_key="NOPERMISSION")
    rig.launch()
    poor = rig.client("ec2", access_key="NOPERMISSION")
    with pytest.raises(ClientError, match=r"UnauthorizedOperation.*ec2:RunInstances"):
        poor.run_instances(**rig.request())
    rig.cloud.faults.deny("GetProducts")
    with pytest.raises(ClientError, match=r"AccessDeniedException.*pricing:GetProducts"):
        rig.client("pricing").get_products(ServiceCode="AmazonEC2")


def test_quota_is_told_and_enforced(rig: Rig) -> None:
    """Launches beyond the vCPU quota fail by market, and succeed again when a machine has ended."""
    rig.cloud.faults.quota("L-1216C47A", 4)
    rig.cloud.faults.quota("L-34B43A08", 2)
    told = rig.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")
    assert told["Quota"]["Value"] == 4
    first = rig.launch()
    assert _refused(rig, InstanceType="m5.xlarge") == "VcpuLimitExceeded"
    assert len(rig.ec2.run_instances(**rig.request(MaxCount=9))["Instances"]) == 1
    assert _refused(rig) == "VcpuLimitExceeded"
    rig.launch(InstanceMarketOptions={"MarketType": "spot"})
    assert _refused(rig, InstanceMarketOptions={"MarketType": "spot"}) == "MaxSpotInstanceCountExceeded"
    rig.ec2.terminate_instances(InstanceIds=[first.id])
    rig.launch()


@pytest.fixture(autouse=True)
def _end_everything(rig: Rig) -> Any:
    """Machines that a test launched without keeping hold of them."""
    yield
    ids = [each["id"] for each in rig.cloud.instances() if each["state"] in ("pending", "running")]
    if ids:
        rig.ec2.terminate_instances(InstanceIds=ids)
        wait_for(lambda: all(state == "terminated" for state in rig.cloud.machine_states().values()))


def test_spot_notice_then_reclaim(rig: Rig) -> None:
    """The metadata service announces the end, and it comes, with EC2's reason."""
    launched = rig.launch(InstanceMarketOptions={"MarketType": "spot"})
    launched.login()
    rig.cloud.faults.spot_notice(launched.id, reclaim_after_s=None)
    notice = json.loads(launched.run(_ASK_NOTICE))
    assert notice["action"] == "terminate"
    assert notice["time"].endswith("Z")
    rig.cloud.faults.spot_notice(launched.id, reclaim_after_s=0.1)
    launched.wait_until("terminated")
    assert launched.described()["StateReason"]["Code"] == "Server.SpotInstanceTermination"


_ASK_NOTICE = (
    'E=$AWS_EC2_METADATA_SERVICE_ENDPOINT/latest; python3 -c "import urllib.request as u, sys; '
    "u.install_opener(u.build_opener(u.ProxyHandler({}))); "
    "t=u.urlopen(u.Request('$E/api/token',method='PUT',"
    "headers={'X-aws-ec2-metadata-token-ttl-seconds':'60'})).read().decode(); "
    "print(u.urlopen(u.Request('$E/meta-data/spot/instance-action',"
    "headers={'X-aws-ec2-metadata-token':t})).read().decode())\""
)


def test_spot_reclaim_without_notice(rig: Rig) -> None:
    """A spot machine can be gone at once."""
    launched = rig.launch(InstanceMarketOptions={"MarketType": "spot"})
    rig.cloud.faults.spot_reclaim(launched.id)
    launched.wait_until("terminated")
    assert launched.described()["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def _refuses(machine: Machine) -> bool:
    try:
        socket.create_connection((machine.address, machine.rig.cloud.ssh_port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_slow_boot(rig: Rig) -> None:
    """A slow machine is running long before ssh answers; one that never boots stays so."""
    rig.cloud.faults.slow_boot(1.5, count=1)
    slow = rig.launch()
    rig.cloud.faults.slow_boot(None, count=1)
    never = rig.launch()
    slow.wait_until("running")
    assert _refuses(slow)
    slow.login()
    assert _refuses(never)
    assert never.described()["State"]["Name"] == "running"


def test_wrong_host_key(rig: Rig) -> None:
    """An impostor shows another key for as many connections as said, or for ever."""
    rig.cloud.faults.wrong_host_key(2, count=1)
    launched = rig.launch()
    launched.wait_until("running")
    for _ in range(2):
        wait_for(lambda: _meets_impostor(launched))
    launched.login()
    rig.cloud.faults.impostor(launched.id, None)
    assert all(_meets_impostor(launched) for _ in range(3))


def _meets_impostor(machine: Machine) -> bool:
    try:
        machine.connect()
    except paramiko.SSHException as error:
        return "another host key" in str(error)
    except OSError:
        return False
    return False


def test_cut_connections(rig: Rig) -> None:
    """Connections end, the machine and its detached processes do not."""
    launched = rig.launch()
    launched.run("setsid sleep 100 </dev/null >/dev/null 2>&1 &")
    channel = launched.clients[0].get_transport()
    assert channel is not None
    rig.cloud.faults.cut(launched.id)
    wait_for(lambda: not channel.is_active())
    launched.clients.clear()
    assert "sleep 100" in launched.run("ps -e -o args")


def test_half_open_connections(rig: Rig) -> None:
    """For a while no byte passes though the connection stays; then everything arrives."""
    launched = rig.launch()
    launched.login()
    _, stdout, _ = launched.clients[0].exec_command("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done")
    stdout.channel.settimeout(0.5)
    assert stdout.readline() == "1\n"
    rig.cloud.faults.half_open(launched.id, 2.0)
    with pytest.raises(TimeoutError):
        stdout.read()
    assert launched.is_silent()
    stdout.channel.settimeout(10)
    assert stdout.read().decode().split()[-1] == "8"


def test_refused_connections(rig: Rig) -> None:
    """For a while nobody can connect; who is connected stays so."""
    launched = rig.launch()
    launched.login()
    rig.cloud.faults.refuse(launched.id, 0.6)
    assert _refuses(launched)
    assert launched.run("echo on").strip() == "on"
    wait_for(lambda: not _refuses(launched))
    rig.cloud.faults.slow_boot(0.5, count=1)
    booting = rig.launch()
    refused_at = time.monotonic()
    rig.cloud.faults.refuse(booting.id, 2.0)
    wait_for(lambda: not _refuses(booting))
    assert time.monotonic() - refused_at >= 2.0


def test_crash(rig: Rig) -> None:
    """A crashed machine answers nothing; EC2 says that it runs, but fails its check; it can be ended."""
    launched = rig.launch()
    launched.login()
    _, stdout, _ = launched.clients[0].exec_command("sleep 100")
    rig.cloud.faults.crash(launched.id)
    wait_for(lambda: launched.facts()["pid"] is None)
    stdout.channel.settimeout(0.3)
    with pytest.raises(TimeoutError):
        stdout.read()
    assert launched.facts()["crashed"]
    assert launched.described()["State"]["Name"] == "running"
    (checks,) = rig.ec2.describe_instance_status(InstanceIds=[launched.id])["InstanceStatuses"]
    assert checks["InstanceStatus"]["Status"] == "impaired"
    rig.ec2.terminate_instances(InstanceIds=[launched.id])
    launched.wait_until("terminated")


def test_small_disk(rig: Rig) -> None:
    """A machine with a small disk fills up, and says so."""
    rig.cloud.faults.small_disk(8, count=1)
    launched = rig.launch()
    assert "No space left" in launched.run("head -c 20000000 /dev/zero > big", check=False)
    assert "No space left" in launched.run(
        "sudo mkdir /x && head -c 20000000 /dev/zero > /x/big", check=False
    )
    launched.run("rm -f big /x/big && head -c 1000000 /dev/zero > big")


@pytest.mark.root
def test_small_memory(rig: Rig) -> None:
    """What wants more memory than a machine has is killed by the kernel, and nothing else is."""
    if reason := memory.why_not():
        pytest.skip(reason)
    rig.cloud.faults.small_memory(200, count=1)
    launched = rig.launch()
    want = "python3 -c 'print(len(bytearray({} << 20)))'"
    assert launched.run(want.format(50)).strip() == str(50 << 20)
    assert launched.run(f"{want.format(400)}; echo $?").startswith("137\n"), "SIGKILL, as a shell says it"
    assert launched.run(want.format(50)).strip() == str(50 << 20), "the machine itself lives on"


def test_faults_can_be_listed_and_taken_back(rig: Rig) -> None:
    """The book shows what is in force and how often it happened; nonsense is refused with words."""
    faults = rig.cloud.faults
    first = faults.throttle("DescribeInstances")
    second = faults.deny("RunInstances")
    with pytest.raises(ClientError):
        rig.ec2.describe_instances()
    assert [(each["id"], each["kind"], each["happened"]) for each in faults.list()] == [
        (first, "throttle", 1),
        (second, "deny", 0),
    ]
    faults.remove(first)
    rig.ec2.describe_instances()
    with pytest.raises(ControlError, match="no fault 'gremlins'"):
        faults.add("gremlins")
    with pytest.raises(ControlError, match="404"):
        faults.crash("i-0123456789abcdef0")


def test_checkip_tells_the_callers_address(rig: Rig) -> None:
    """The cloud can be asked from where it is called, as AWS's checkip can."""
    started = time.monotonic()
    assert rig.cloud.faults.request("GET", "checkip") == "127.0.0.1"
    assert time.monotonic() - started < 5


def test_a_command_on_the_machine(rig: Rig) -> None:
    """A command is run on the machine past its sshd; where it has ended that is said."""
    launched = rig.launch()
    launched.login()
    assert rig.cloud.faults.shell(launched.id, "echo told; exit 3") == (3, "told\n")
    rig.ec2.terminate_instances(InstanceIds=[launched.id])
    launched.wait_until("terminated")
    with pytest.raises(ControlError, match="has no host"):
        rig.cloud.faults.shell(launched.id, "true")
