"""Each permission of the policy, missing alone: found by DryRun, by the call itself or by the simulator."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from snakemake_executor_ec2.aws.identity import Identity
from snakemake_executor_ec2.aws.policy import Need, granting, needs
from snakemake_executor_ec2.aws.probes import Probes, Verdict
from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.doctor.examine import Examination
from snakemake_executor_ec2.doctor.permissions import WITHOUT, Place, findings, missing, probe_all
from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.model import SpotUse
from snakemake_executor_ec2.timing import SystemClock
from tests.unit.aws.moto_server import environment

from .rig import ASK_ABOUT_ONESELF, POLICY, Doctor, problems


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


def test_a_role_that_may_not_be_passed_on(doctor: Doctor) -> None:
    """A trial launch with an instance profile names it, although it is none of the policy's permissions."""
    services = ["ec2:*", "pricing:*", "servicequotas:*", "ssm:*", "iam:SimulatePrincipalPolicy"]
    allow = {"Effect": "Allow", "Action": services, "Resource": "*"}
    doctor.cloud.allow(json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
    status, found = doctor("--ec2-instance-profile", "buckets")
    assert status == 1
    (row,) = problems(found)
    role = "arn:aws:iam::123456789012:role/buckets"
    assert row["text"].startswith(f"iam:PassRole is missing on {role}")
    assert found["policy"]["Statement"] == [{"Effect": "Allow", "Action": "iam:PassRole", "Resource": role}]


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
