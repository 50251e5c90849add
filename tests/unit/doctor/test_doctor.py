"""`snakemake-ec2 doctor` on the embedded cloud, in good health and with one thing broken at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.auth
import botocore.session
import pytest

from snakemake_executor_ec2.aws.identity import Identity
from snakemake_executor_ec2.aws.policy import FILE, Need, granting, needs
from snakemake_executor_ec2.aws.probes import Probes, Verdict
from snakemake_executor_ec2.cli import main
from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.doctor.examine import Examination
from snakemake_executor_ec2.doctor.permissions import WITHOUT, Place, findings, missing, probe_all
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.model import SpotUse
from snakemake_executor_ec2.timing import SystemClock
from tests.unit.aws.moto_server import environment

POLICY = json.loads(FILE.read_text())
ASK_ABOUT_ONESELF = {
    "Effect": "Allow",
    "Action": "iam:SimulatePrincipalPolicy",
    "Resource": "arn:aws:iam::123456789012:user/rehearsal",
}
WITHOUT_A_NETWORK = "sa-east-1"


@pytest.fixture(scope="module", autouse=True)
def one_loader() -> Iterator[None]:
    """botocore reads its descriptions of AWS's services once, and not again for each session."""
    made = botocore.session.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda *_: made)
        yield


class Doctor:
    """Calls it where a shell of the embedded cloud's would."""

    def __init__(self, cloud: EmbeddedCloud, capfd: pytest.CaptureFixture[str]) -> None:
        self.cloud = cloud
        self._capfd = capfd

    def __call__(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Its exit status, and what it says to programs."""
        status, text = self.says("--json", *arguments)
        found: dict[str, Any] = json.loads(text)
        return status, found

    def says(self, *arguments: str) -> tuple[int, str]:
        """Its exit status and what it prints."""
        self._capfd.readouterr()
        status = main(["doctor", *arguments])
        return status, self._capfd.readouterr().out

    def allow(self, *statements: dict[str, Any]) -> None:
        """The package's policy and these statements, and nothing else."""
        self.cloud.allow(json.dumps({**POLICY, "Statement": [*POLICY["Statement"], *statements]}))


@pytest.fixture
def doctor(
    ec2_cloud: EmbeddedCloud,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Iterator[Doctor]:
    """In an empty folder; afterwards nothing was changed on EC2, and all is allowed again."""
    for name in ec2_cloud.unset:
        monkeypatch.delenv(name, raising=False)
    for name, value in ec2_cloud.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    ec2_cloud.forget_calls()
    yield Doctor(ec2_cloud, capfd)
    ec2_cloud.allow(None)
    words = ("Describe", "Get", "Simulate")
    changes = [call for call in ec2_cloud.calls() if not call["action"].startswith(words)]
    assert {call["params"].get("DryRun") for call in changes} <= {"true"}


def statuses(found: dict[str, Any]) -> dict[str, set[str]]:
    """What each thing that was looked at is found to be."""
    rows: dict[str, set[str]] = {}
    for each in found["findings"]:
        rows.setdefault(each["about"], set()).add(each["status"])
    return rows


def problems(found: dict[str, Any]) -> list[dict[str, str]]:
    return [each for each in found["findings"] if each["status"] == "problem"]


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
    ec2: Any = boto3.client("ec2", region_name=WITHOUT_A_NETWORK)
    for row in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=row["SubnetId"])
    doctor.cloud.forget_calls()


def _clock_an_hour_fast(_: Doctor, patch: pytest.MonkeyPatch) -> None:
    real, now = SystemClock.now, botocore.auth.get_current_datetime  # type: ignore[attr-defined]
    patch.setattr(SystemClock, "now", lambda self: real(self) + 3600)

    def later(*given: Any, **named: Any) -> datetime:
        return now(*given, **named) + timedelta(hours=1)  # type: ignore[no-any-return]

    patch.setattr(botocore.auth, "get_current_datetime", later)


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
    "a time that is none": Broken("options", "'soon' is no time", "90s", ("--ec2-lease", "soon")),
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


@pytest.fixture(scope="module")
def place(ec2_cloud_process: EmbeddedCloud) -> Iterator[tuple[Probes, Place, Identity]]:
    """What all trials need, found out once: clients, a launch, a caller."""
    ec2_cloud_process.allow(None)
    with environment(ec2_cloud_process.env):
        made = Examination(config=RunConfig(), clock=SystemClock())
        assert made.report().exit_status == 0
        assert made.place is not None
        assert made.who is not None
        yield Probes(made.clients), made.place, made.who


@pytest.mark.parametrize("need", needs(), ids=[f"{each.statement}-{each.action}" for each in needs()])
def test_one_permission_is_missing(need: Need, place: tuple[Probes, Place, Identity], doctor: Doctor) -> None:
    """It is found, and it alone, with what a run is like without it."""
    rest = granting([each for each in needs() if each != need])
    doctor.cloud.allow(json.dumps({**rest, "Statement": [*rest["Statement"], ASK_ABOUT_ONESELF]}))

    tested, others = probe_all(*place)

    assert missing(tested) == [need]
    assert others == []
    assert {answer.verdict for answer in tested.values()} == {Verdict.GRANTED, Verdict.MISSING}
    (row,) = [each for each in findings(tested, spot=SpotUse.NEVER) if each.status != "ok"]
    level, without = WITHOUT[need.action]
    assert (row.status, row.text) == (level, f"{need.action} is missing: {without}")
    assert need.statement in row.remedy


@pytest.mark.parametrize(
    "need",
    [
        Need("Look", "ec2:DescribeSubnets"),  # by the call
        Need("MakeWithTag", "ec2:CreateSecurityGroup"),  # by DryRun
        Need("UseAndEndOwn", "ec2:TerminateInstances"),  # by the simulator
    ],
    ids=lambda need: need.action,
)
def test_the_policy_that_is_shown_mends_it(need: Need, doctor: Doctor) -> None:
    """A missing permission is the only problem, and with what is shown added, all is well."""
    rest = granting([each for each in needs() if each != need])["Statement"] + [ASK_ABOUT_ONESELF]
    doctor.cloud.allow(json.dumps({**POLICY, "Statement": rest}))
    status, found = doctor()
    assert status == 1
    (row,) = problems(found)
    assert row["about"] == "permissions"
    assert row["text"].startswith(f"{need.action} is missing: ")
    assert found["policy"] == granting([need])
    assert need.action in found["for_administrator"]

    doctor.cloud.allow(json.dumps({**POLICY, "Statement": rest + found["policy"]["Statement"]}))
    assert doctor()[0] == 0


def test_what_is_said_of_each_permission() -> None:
    """`WITHOUT` has exactly the actions of the policy: there is one list of what a run needs."""
    assert set(WITHOUT) == {need.action for need in needs()}
    assert granting(needs())["Statement"] == [
        {**row, "Action": [row["Action"]] if isinstance(row["Action"], str) else row["Action"]}
        for row in POLICY["Statement"]
    ]


@pytest.mark.parametrize(
    "need",
    [
        Need("MakeWithTag", "ec2:RunInstances"),
        Need("MakeFrom", "ec2:RunInstances"),
        Need("TagWhatIsMade", "ec2:CreateTags"),
        Need("MakeWithTag", "ec2:CreateSecurityGroup"),
        Need("MakeFrom", "ec2:CreateSecurityGroup"),
    ],
    ids=lambda need: f"{need.statement}-{need.action}",
)
def test_trials_tell_without_the_simulator(
    need: Need, place: tuple[Probes, Place, Identity], doctor: Doctor
) -> None:
    """What is missing to make machines, groups and tags shows by DryRun alone."""
    doctor.cloud.allow(json.dumps(granting([each for each in needs() if each != need])))
    tested, others = probe_all(*place)
    assert missing(tested) == [need]
    assert others == []


def test_a_denial_outweighs_what_is_granted(doctor: Doctor) -> None:
    """Then it is said that another statement would not help."""
    doctor.allow({"Effect": "Deny", "Action": "ec2:RunInstances", "Resource": "*"})
    status, found = doctor()
    assert status == 1
    assert {row["text"].partition(" ")[0] for row in problems(found)} == {"ec2:RunInstances"}
    assert all("denies it, which no other policy outweighs" in row["remedy"] for row in problems(found))


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


def test_no_policy_at_all(doctor: Doctor) -> None:
    """What is missing is told in two lines, and the whole policy is shown, which fits where it is to go."""
    doctor.cloud.allow('{"Version": "2012-10-17", "Statement": []}')
    status, found = doctor()
    assert status == 1
    rows = [row for row in found["findings"] if " are missing: " in row["text"]]
    assert [row["status"] for row in rows] == ["problem", "warning"]
    assert "ec2:DescribeSubnets" in rows[0]["text"]
    assert "pricing:GetProducts" in rows[1]["text"]
    assert found["policy"] == granting(needs())
    # IAM's limit for a user's inline policies; white space does not count.
    assert len(json.dumps(found["policy"], separators=(",", ":"))) <= 2048


def test_the_policy_can_be_printed(doctor: Doctor) -> None:
    """Word for word, without a look at anything."""
    assert doctor.says("--policy") == (0, FILE.read_text())
    assert doctor.cloud.calls() == []
