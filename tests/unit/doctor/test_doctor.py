"""`snakemake-ec2 doctor` on the embedded cloud, in good health and with one thing broken at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.auth
import botocore.credentials
import pytest

from snakemake_executor_ec2.aws.policy import FILE, needs
from snakemake_executor_ec2.timing import SystemClock

from .rig import ASK_ABOUT_ONESELF, POLICY, Doctor, problems, statuses

WITHOUT_A_NETWORK = "sa-east-1"


def test_in_good_health(doctor: Doctor) -> None:
    """Everything is looked at and in order: with all permissions, and with the package's policy."""
    status, found = doctor()
    assert (status, found["problems"], found["policy"]) == (0, 0, None)
    rows = statuses(found)
    looked_at = "versions tools credentials clock region network image machines quota permissions running"
    assert {*looked_at.split(), "way in", "ssh key"} == set(rows)
    assert {name for name, each in rows.items() if each != {"ok"}} <= {"tools"}

    doctor.allow(ASK_ABOUT_ONESELF)
    status, found = doctor()
    assert status == 0
    assert statuses(found)["permissions"] == {"ok"}


def test_without_the_simulator(doctor: Doctor) -> None:
    """What only a machine or its group could show is said not to be tested, and counts as no problem."""
    doctor.allow()
    status, found = doctor()
    assert status == 0
    assert statuses(found)["permissions"] == {"ok", "not tested"}
    launch, row = [each for each in found["findings"] if each["status"] == "not tested"]
    assert "default security group only, as the policy means it" in launch["text"]
    assert "ec2:TerminateInstances" in row["text"]
    assert "ec2:RunInstances" not in row["text"]
    assert "ec2:Describe" not in row["text"]
    assert "iam:SimulatePrincipalPolicy" in row["remedy"]


@dataclass(frozen=True)
class Broken:
    """One thing that is wrong, and what has to be said of it."""

    about: str
    text: str
    remedy: str
    arguments: tuple[str, ...] = ()
    by: Callable[[Doctor, pytest.MonkeyPatch], object] = field(default=lambda *_: None)


def _no_credentials(_: Doctor, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("AWS_ACCESS_KEY_ID")
    patch.delenv("AWS_SECRET_ACCESS_KEY")


def _no_default_network(doctor: Doctor, _: pytest.MonkeyPatch) -> None:
    # A session of its own: boto3's default one keeps the credentials of whatever test made it.
    ec2: Any = boto3.Session().client("ec2", region_name=WITHOUT_A_NETWORK)
    for row in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=row["SubnetId"])
    doctor.cloud.forget_calls()


def _clock_an_hour_fast(_: Doctor, patch: pytest.MonkeyPatch) -> None:
    real, now = SystemClock.now, botocore.auth.get_current_datetime  # type: ignore[attr-defined]
    patch.setattr(SystemClock, "now", lambda self: real(self) + 3600)

    def later(*given: Any, **named: Any) -> datetime:
        return now(*given, **named) + timedelta(hours=1)  # type: ignore[no-any-return]

    patch.setattr(botocore.auth, "get_current_datetime", later)


def _login_without_its_package(_: Doctor, patch: pytest.MonkeyPatch) -> None:
    _no_credentials(_, patch)
    patch.setattr(botocore.credentials, "EC", None)  # as without awscrt
    Path("config").write_text("[default]\nlogin_session = arn:aws:iam::123456789012:user/ann\n")
    patch.setenv("AWS_CONFIG_FILE", str(Path("config").absolute()))


BROKEN = {
    "no credentials": Broken(
        "credentials", "no AWS credentials were found", "aws configure", by=_no_credentials
    ),
    "a login that AWS finds expired": Broken(
        "credentials",
        "the AWS credentials have expired",
        "aws sso login",
        by=lambda doctor, _: doctor.cloud.faults.expire_credentials(),
    ),
    "credentials that say that they have expired": Broken(
        "credentials",
        "the AWS credentials have expired",
        "aws sso login",
        by=lambda _, patch: patch.setenv("AWS_CREDENTIAL_EXPIRATION", "2026-01-01T00:00:00Z"),
    ),
    "a login whose package is missing": Broken(
        "credentials", "your AWS login needs one more package", "botocore[crt]", by=_login_without_its_package
    ),
    "a region that there is not": Broken(
        "region", "AWS has no region 'eu-central-9'", "--ec2-region", ("--ec2-region", "eu-central-9")
    ),
    "no default network": Broken(
        "network",
        f"the account has no default network (VPC) in {WITHOUT_A_NETWORK}",
        "--ec2-subnets",
        ("--ec2-region", WITHOUT_A_NETWORK),
        by=_no_default_network,
    ),
    "a closed way in": Broken(
        "way in",
        "this computer's address is 127.0.0.1: no machine could be reached",
        "--ec2-ssh-from 127.0.0.1/32",
        ("--ec2-ssh-from", "203.0.113.0/24"),
    ),
    "a quota of nothing": Broken(
        "quota",
        "too few for c7a.medium, which has 1",
        "request-service-quota-increase",
        by=lambda doctor, _: doctor.cloud.faults.quota("L-1216C47A", 0),
    ),
    "an image that there is not": Broken(
        "image",
        "there is no machine image 'ami-00000000'",
        "--ec2-ami",
        ("--ec2-ami", "ami-00000000"),
    ),
    "a key file that there is not": Broken(
        "ssh key", "lab.pem cannot be read", "--ec2-ssh-key", ("--ec2-ssh-key", "lab.pem")
    ),
    "a wrong clock": Broken(
        "clock", "this computer's clock is 60 minutes ahead", "timedatectl", by=_clock_an_hour_fast
    ),
    "a time that is none": Broken("options", "'soon' is not a time", "90s", ("--ec2-lease", "soon")),
    "a choice that there is not": Broken(
        "options", "argument --ec2-arch: invalid choice: 'arm'", "--help", ("--ec2-arch", "arm")
    ),
    "a login name that is none": Broken(
        "options", "--ec2-ssh-user 'no one' is not a login name", "correct", ("--ec2-ssh-user", "no one")
    ),
    "types that there are not": Broken("machines", "m99.*", "option", ("--ec2-instance-types", "m99.*")),
    "a setup script that there is not": Broken(
        "options", "--ec2-setup setup.sh", "--ec2-setup", ("--ec2-setup", "setup.sh")
    ),
    "subnets that there are not": Broken(
        "network", "--ec2-subnets subnet-0", "--ec2-subnets", ("--ec2-subnets", "subnet-0")
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_thing_is_broken(name: str, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with its remedy, and nothing else is a problem."""
    broken = BROKEN[name]
    broken.by(doctor, monkeypatch)
    doctor.allow(ASK_ABOUT_ONESELF)

    status, found = doctor(*broken.arguments)

    assert status == 1
    (row,) = problems(found)
    assert row["about"] == broken.about
    assert broken.text in row["text"]
    assert broken.remedy in row["remedy"]


def test_what_people_read(doctor: Doctor) -> None:
    """Lines of at most 100 columns, a remedy below each problem, and a policy that can be pasted as it is."""
    doctor.cloud.allow(json.dumps({**POLICY, "Statement": POLICY["Statement"][1:3]}))
    status, text = doctor.says("--ec2-ssh-key", "lab.pem", "--ec2-lease", "soon")
    assert status == 1
    assert max(map(len, text.splitlines())) <= 100
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("problem"):
            below = lines[number + 1 : number + 6]
            assert any("→" in each for each in below), line
    pasted = text[text.index("{") : text.rindex("}") + 1]
    told = json.loads(pasted)  # what could not be tested is asked for as well
    assert {action for row in told["Statement"] for action in row["Action"]} == {
        need.action for need in needs() if need.statement not in ("PricesAndLimits", "NewestImage")
    }
    assert "Nothing was launched, made or billed." in lines[-1]


def test_nothing_is_set_up_yet(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has neither credentials nor a region is told both at once."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    _, found = doctor()
    assert [row["about"] for row in problems(found)] == ["credentials", "region"]


def test_options_come_from_a_profile(doctor: Doctor, tmp_path: Path) -> None:
    """Of Snakemake's, as for a run."""
    folder = tmp_path / "profiles/default"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("ec2-ami: ami-00000000\n")
    (tmp_path / "Snakefile").write_text("rule all:\n")
    _, found = doctor()
    assert [row["about"] for row in problems(found)] == ["image"]


def test_the_policy_can_be_printed(doctor: Doctor) -> None:
    """Word for word, without a look at anything."""
    assert doctor.says("--policy") == (0, FILE.read_text())
    assert doctor.cloud.calls() == []
