"""From a `LaunchSpec` to EC2's request, its user-data and its tags."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_ec2 import tags
from snakemake_executor_ec2.aws.run_instances import run_instances_request
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.machines import user_data
from snakemake_executor_ec2.model import Arch, Image, KeyPair, LaunchSpec, Market, Offer, Requirements
from snakemake_executor_ec2.sizing import disk
from tests.fakes.cloud import instance_type

IMAGE = Image(ami="ami-1", name="Linux", arch=Arch.X86_64, root_device="/dev/xvda", root_gib=8)
HOST_KEY = KeyPair(
    private="-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n",
    public="ssh-ed25519 AAAAhost",
)
SPEC = LaunchSpec(
    token=tags.client_token("run", "job"),
    offer=Offer(
        instance_type=instance_type("m7i.large", 2, 8), market=Market.ON_DEMAND, zones=("a",), price=None
    ),
    zone="a",
    image=IMAGE,
    disk_gib=20,
    user_data="#cloud-config\n{}\n",
    tags={"Name": "snakemake: align", tags.RUN_TAG: "run"},
)


def request(spec: LaunchSpec = SPEC, *, public: bool = True) -> dict[str, Any]:
    return run_instances_request(spec, subnet_id="subnet-1", group_id="sg-1", public_address=public)


def variant(*, burstable: bool = False, market: Market = Market.ON_DEMAND, **more: Any) -> LaunchSpec:
    offer = Offer(
        instance_type=instance_type("x.large", 2, 8, burstable=burstable),
        market=market,
        zones=("a",),
        price=None,
    )
    return replace(SPEC, offer=offer, **more)


# --- the request ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        variant(burstable=True),
        variant(disk_mbps=250, disk_iops=4000),
        variant(market=Market.SPOT),
        variant(instance_profile="buckets"),
        variant(image=replace(IMAGE, other_devices=("/dev/sdb",))),
    ],
)
def test_botocore_takes_the_request(spec: LaunchSpec) -> None:
    """Every variant is valid by EC2's own service model: no misspelt or misplaced parameter."""
    model = botocore.session.Session().get_service_model("ec2").operation_model("RunInstances")
    assert model.input_shape is not None
    report = ParamValidator().validate(request(spec), model.input_shape)
    assert not report.has_errors(), report.generate_report()


def test_one_machine() -> None:
    """A request is for one machine, with the spec's token, image and type."""
    made = request()
    assert (made["MinCount"], made["MaxCount"]) == (1, 1)
    assert (made["ClientToken"], made["ImageId"], made["InstanceType"]) == (SPEC.token, "ami-1", "m7i.large")


def test_nothing_outlives_the_machine() -> None:
    """Power-off terminates; every volume and network interface ends with the machine."""
    made = request(variant(image=replace(IMAGE, other_devices=("/dev/sdb", "/dev/sdc"))))
    assert made["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert [each["DeviceName"] for each in made["BlockDeviceMappings"]] == [
        "/dev/xvda",
        "/dev/sdb",
        "/dev/sdc",
    ]
    assert all(each["Ebs"]["DeleteOnTermination"] for each in made["BlockDeviceMappings"])
    assert all(each["DeleteOnTermination"] for each in made["NetworkInterfaces"])


def test_root_volume() -> None:
    """The root volume is encrypted gp3 of the wanted size, on the image's own root device."""
    root = request()["BlockDeviceMappings"][0]
    assert root["DeviceName"] == "/dev/xvda"
    assert (root["Ebs"]["VolumeType"], root["Ebs"]["VolumeSize"], root["Ebs"]["Encrypted"]) == (
        "gp3",
        20,
        True,
    )
    assert not {"Throughput", "Iops"} & root["Ebs"].keys()

    fast = request(variant(disk_mbps=1000, disk_iops=4000))["BlockDeviceMappings"][0]["Ebs"]
    assert (fast["Throughput"], fast["Iops"]) == (1000, 4000)


def test_metadata_service() -> None:
    """The metadata service answers only with a session token, and only to the machine itself."""
    options = request()["MetadataOptions"]
    assert options == {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1}


@pytest.mark.parametrize("public", [True, False])
def test_network(public: bool) -> None:
    """Subnet, group and public address go into the network interface, and nowhere else."""
    made = request(public=public)
    (interface,) = made["NetworkInterfaces"]
    assert (interface["SubnetId"], interface["Groups"]) == ("subnet-1", ["sg-1"])
    assert interface["AssociatePublicIpAddress"] is public
    assert not {"SubnetId", "SecurityGroupIds", "SecurityGroups"} & set(made)


def test_tags_are_in_the_call_itself() -> None:
    """Instance, volumes and network interface carry all tags from the first moment."""
    by_type = {each["ResourceType"]: each["Tags"] for each in request()["TagSpecifications"]}
    assert set(by_type) == {"instance", "volume", "network-interface"}
    for made in by_type.values():
        assert {each["Key"]: each["Value"] for each in made} == SPEC.tags


def test_what_is_not_asked_for_is_not_sent() -> None:
    """No key pair, profile, spot or credit setting where none is wanted."""
    absent = {"KeyName", "IamInstanceProfile", "InstanceMarketOptions", "CreditSpecification"}
    assert not absent & set(request())


def test_burstable() -> None:
    """Burstable machines must not bill surplus credits."""
    assert request(variant(burstable=True))["CreditSpecification"] == {"CpuCredits": "standard"}


def test_spot() -> None:
    """Spot machines are one-time, end when reclaimed, and have no price limit of ours."""
    options = request(variant(market=Market.SPOT))["InstanceMarketOptions"]
    assert options["MarketType"] == "spot"
    assert options["SpotOptions"] == {
        "SpotInstanceType": "one-time",
        "InstanceInterruptionBehavior": "terminate",
    }


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("buckets", {"Name": "buckets"}),
        ("arn:aws:iam::1:instance-profile/buckets", {"Arn": "arn:aws:iam::1:instance-profile/buckets"}),
    ],
)
def test_instance_profile(profile: str, words: dict[str, str]) -> None:
    """An instance profile is named by its name or its ARN, whichever the user knows."""
    assert request(variant(instance_profile=profile))["IamInstanceProfile"] == words


# --- user-data ------------------------------------------------------------------------------


def user_data_text(**more: Any) -> str:
    fields: dict[str, Any] = {
        "host_key": HOST_KEY,
        "authorized_keys": ["ssh-ed25519 AAAAlogin", "ssh-rsa AAAAown"],
        "lifetime_s": 3600,
        "claim_s": 600,
        "ssh_user": "ec2-user",
        **more,
    }
    return user_data.cloud_config(**fields)


def parsed(**more: Any) -> dict[str, Any]:
    found = yaml.safe_load(user_data_text(**more))
    assert isinstance(found, dict)
    return found


def test_user_data_is_cloud_config() -> None:
    """cloud-init goes by the first line."""
    assert user_data_text().splitlines()[0] == "#cloud-config"


def test_first_act_is_the_timer() -> None:
    """The first thing that a machine does is to arrange its own end."""
    config = parsed()
    assert next(iter(config)) == "bootcmd"
    command = " ".join(config["bootcmd"][0])
    assert "systemd-run" in command
    assert "--on-active=3600" in command
    assert "--no-block" in command
    assert "poweroff" in command


def test_host_key() -> None:
    """The machine has the given host key and makes no other."""
    config = parsed()
    assert config["ssh_deletekeys"] is True
    assert config["ssh_genkeytypes"] == ["ed25519"]
    assert config["ssh_keys"] == {"ed25519_private": HOST_KEY.private, "ed25519_public": HOST_KEY.public}


def test_no_other_secret_and_no_installs() -> None:
    """Nothing but the host key is secret, and nothing is installed or run but the timer."""
    config = parsed()
    assert set(config) == {
        "bootcmd",
        "ssh_deletekeys",
        "ssh_genkeytypes",
        "ssh_keys",
        "ssh_authorized_keys",
        "users",
    }
    assert len(config["bootcmd"]) == 4
    del config["ssh_keys"]
    assert "PRIVATE" not in yaml.safe_dump(config)


@pytest.mark.parametrize("user", ["ec2-user", "ubuntu", "admin", "researcher"])
def test_login_keys(user: str) -> None:
    """The keys let in the image's default user, and the asked-for one, who may be another."""
    config = parsed(ssh_user=user)
    keys = ["ssh-ed25519 AAAAlogin", "ssh-rsa AAAAown"]
    assert config["ssh_authorized_keys"] == keys
    default, other = config["users"]
    assert default == "default"
    assert (other["name"], other["ssh_authorized_keys"]) == (user, keys)


def test_root_may_log_in_where_asked() -> None:
    """Root's login is only possible where cloud-init is told not to disable it."""
    config = parsed(ssh_user="root")
    assert config["disable_root"] is False
    assert "users" not in config


@pytest.mark.parametrize("user", ["", "a b", "x;reboot", "-oProxy", "UPPER", "é"])
def test_bad_login_names(user: str) -> None:
    """A login name that no system would take is refused, and the option is named."""
    with pytest.raises(ConfigurationError, match="--ec2-ssh-user"):
        user_data_text(ssh_user=user)


def test_too_many_keys() -> None:
    """User-data beyond EC2's 16 KiB is refused before EC2 does."""
    with pytest.raises(ConfigurationError, match="16384"):
        user_data_text(authorized_keys=["ssh-rsa " + "A" * 700] * 20)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=80))
def test_any_key_survives_quoting(key: str) -> None:
    """Whatever a key's comment contains, it arrives as it was and breaks nothing else."""
    config = parsed(authorized_keys=[key])
    assert config["ssh_authorized_keys"] == [key]
    assert "systemd-run" in config["bootcmd"][0][2]


@pytest.mark.parametrize("has_systemd", [True, False])
def test_the_timer_in_a_shell(tmp_path: Any, has_systemd: bool) -> None:
    """The timer is armed by systemd-run, or by a sleeping process where that fails, without blocking."""
    log = tmp_path / "log"
    _program(tmp_path / "systemd-run", f"echo systemd-run >> {log}; exit {0 if has_systemd else 1}")
    _program(tmp_path / "timeout", 'shift; exec "$@"')
    _program(tmp_path / "setsid", f'echo setsid >> {log}; exec "$@"')
    _program(tmp_path / "sleep", f'echo "sleep $1" >> {log}')
    for name in ("systemctl", "poweroff", "shutdown"):
        # Never the real ones: this runs on somebody's computer.
        _program(tmp_path / name, f'echo "{name} $*" >> {log}; echo done >> {tmp_path}/done')
    command = parsed(lifetime_s=77)["bootcmd"][0]
    ran = subprocess.run(
        ["/bin/sh", *command[1:], "sh"],
        env={"PATH": f"{tmp_path}"},
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    if not has_systemd:
        _wait_for(tmp_path / "done", lines=2)
    said = log.read_text().splitlines()
    if has_systemd:
        assert said == ["systemd-run"]
    else:
        assert said == [
            "systemd-run",
            "setsid",
            "sleep 77",
            "systemctl poweroff",
            "sleep 120",
            "systemctl --force --force poweroff",
        ]


def _program(path: Any, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def _wait_for(path: Any, *, lines: int) -> None:
    """The background process of a real shell: waited for, as it has no clock of ours."""
    for _ in range(500):
        if path.exists() and len(path.read_text().splitlines()) >= lines:
            return
        time.sleep(0.01)
    raise AssertionError("the fallback did not run to its end")


# --- token, disk, tags ----------------------------------------------------------------------


@given(st.lists(st.text()), st.lists(st.text()))
def test_client_token(one: list[str], other: list[str]) -> None:
    """A token is at most 64 ASCII characters, and the same exactly for the same parts."""
    token = tags.client_token(*one)
    assert len(token) <= 64
    assert token.isascii()
    assert (token == tags.client_token(*other)) is (one == other)


def needs(disk_mb: int) -> Requirements:
    return Requirements(threads=1, mem_mb=1, disk_mb=disk_mb)


@given(st.integers(0, 60_000_000), st.integers(0, 100))
def test_disk(disk_mb: int, root_gib: int) -> None:
    """The volume holds image, software and the job's disk, rounded up to less than one GiB more."""
    size = disk.disk_gib(needs(disk_mb), replace(IMAGE, root_gib=root_gib))
    spare = size * 2**30 - (root_gib + disk.SOFTWARE_GIB) * 2**30 - disk_mb * 10**6
    assert size >= 8
    assert spare >= 0
    assert spare < 2**30 or size == 8


def test_disk_beyond_ebs() -> None:
    """A disk that no volume has is refused, naming the resource."""
    with pytest.raises(ConfigurationError, match="disk_mb=100000000"):
        disk.disk_gib(needs(100_000_000), IMAGE)


def make_tags(rule: str = "align", extra: dict[str, str] | None = None) -> dict[str, str]:
    return tags.tags(run_id="r1", rule=rule, owner="ann", expires_at=0.0, extra=extra)


def test_tags() -> None:
    """A machine tells whose it is, what it runs and when it ends."""
    assert make_tags(extra={"project": "x"}) == {
        "Name": "snakemake: align",
        "snakemake-ec2:run": "r1",
        "snakemake-ec2:rule": "align",
        "snakemake-ec2:owner": "ann",
        "snakemake-ec2:expires-at": "1970-01-01T00:00:00Z",
        "project": "x",
    }


@given(st.text())
def test_our_tags_always_fit(rule: str) -> None:
    """Whatever a rule is called, EC2 takes the tags."""
    for key, value in make_tags(rule).items():
        assert 1 <= len(key) <= 128
        assert len(value) <= 256
        assert all(each.isalnum() or each in " +-=._:/@" for each in value)


def test_users_name_tag_wins() -> None:
    """A Name of the user's own replaces ours."""
    assert make_tags(extra={"Name": "mine"})["Name"] == "mine"


@pytest.mark.parametrize(
    "extra",
    [
        {"": "x"},
        {"k" * 129: "x"},
        {"k": "v" * 257},
        {"aws:thing": "x"},
        {"AWS:thing": "x"},
        {"snakemake-ec2:run": "x"},
        {"k": "semi;colon"},
        {"k\n": "x"},
        {f"k{number}": "x" for number in range(46)},
    ],
)
def test_bad_tags(extra: dict[str, str]) -> None:
    """Tags that EC2 would refuse, or that are ours, are refused before."""
    with pytest.raises(ConfigurationError, match="tag"):
        make_tags(extra=extra)
