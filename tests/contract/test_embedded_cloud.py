"""The embedded cloud as the executor and everybody's own tools meet it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.machines import user_data
from snakemake_executor_ec2.model import KeyPair
from tests.unit.local.conftest import Rig

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import WaiterConfigTypeDef


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with EmbeddedCloud(cache_dir=tmp_path_factory.mktemp("cache")) as cloud:
        rig = Rig(cloud, tmp_path_factory.mktemp("rig"))
        yield rig
        rig.tidy()


def test_machine_from_our_own_user_data(rig: Rig) -> None:
    """What we send boots: the host key is the given one, the login key works, the lifetime timer is armed."""
    machine = rig.launch(UserData=None)
    rig.ec2.terminate_instances(InstanceIds=[machine.id])
    text = user_data.cloud_config(
        host_key=KeyPair(private=machine.host_key.private, public=machine.host_key.public),
        authorized_keys=[machine.login_key.public],
        lifetime_s=600,
        claim_s=600,
        ssh_user="ec2-user",
    )
    ours = rig.launch(UserData=text)
    ours.host_key, ours.login_key = machine.host_key, machine.login_key
    assert ours.run("id -un").strip() == "ec2-user"
    assert ours.run(f"systemctl is-active {user_data.LIFETIME_UNIT}.timer").strip() == "active"
    log = ours.run("cat /var/log/cloud-init-output.log")
    assert "WARNING" not in log


def test_a_machine_that_nobody_moves_in_to_ends(rig: Rig) -> None:
    """Its second timer ends it where there is no agent, and sees an agent that there is."""
    machine = rig.launch()
    assert machine.run(f"{user_data.NO_AGENT}; echo $?").strip() == "0"
    machine.run("bash -c 'exec -a agent.pyz sleep 60' >/dev/null 2>&1 &")
    assert machine.run(f"{user_data.NO_AGENT}; echo $?").strip() == "1"
    text = user_data.cloud_config(
        host_key=KeyPair(private=machine.host_key.private, public=machine.host_key.public),
        authorized_keys=[],
        lifetime_s=600,
        claim_s=1,
        ssh_user="ec2-user",
    )
    rig.launch(UserData=text).wait_until("terminated")


def test_boto3s_waiters(rig: Rig) -> None:
    """boto3's own waiters see an instance start and end."""
    machine = rig.launch()
    quick: WaiterConfigTypeDef = {"Delay": 1, "MaxAttempts": 20}
    rig.ec2.get_waiter("instance_running").wait(InstanceIds=[machine.id], WaiterConfig=quick)
    rig.ec2.get_waiter("instance_status_ok").wait(InstanceIds=[machine.id], WaiterConfig=quick)
    rig.ec2.terminate_instances(InstanceIds=[machine.id])
    rig.ec2.get_waiter("instance_terminated").wait(InstanceIds=[machine.id], WaiterConfig=quick)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH is not installed")
def test_openssh_by_hand(rig: Rig) -> None:
    """`ssh` passes input, output and exit status, over one connection for several sessions too."""
    machine = rig.launch()
    machine.login()
    control = rig.folder / "control"
    ssh = ["ssh", *rig.openssh(machine), "-o", f"ControlPath={control}", "-o", "ControlMaster=auto"]
    ssh += ["-o", "ControlPersist=30", machine.address]
    for number in range(3):
        done = subprocess.run(
            [*ssh, f"cat; exit {number}"], input=b"\0\xff", capture_output=True, check=False, timeout=30
        )
        assert (done.returncode, done.stdout) == (number, b"\0\xff"), done.stderr
    subprocess.run([*ssh[:-1], "-O", "exit", machine.address], check=True, capture_output=True)


def test_importing_it_costs_nothing() -> None:
    """The part that the executor imports brings neither moto nor asyncssh nor werkzeug nor boto3."""
    program = (
        "import sys; import snakemake_executor_ec2.local.cloud; "
        "print(sorted({'moto', 'asyncssh', 'werkzeug', 'flask', 'boto3', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(user_data.__file__).parents[1])},
    )
    assert done.stdout.strip() == "[]"
