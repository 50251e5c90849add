"""What is made of facts: which are in order, which are worth a warning, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from snakemake_executor_ec2.aws.clients import Login
from snakemake_executor_ec2.aws.identity import Identity
from snakemake_executor_ec2.aws.network import Subnet
from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.doctor import checks, ways
from snakemake_executor_ec2.doctor.findings import Report, Status, lines, ok, problem, untested, warning
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Arch, Image, InstanceType, Market, Offer
from snakemake_executor_ec2.sizing.quotas import Quota

NOW = 1_800_000_000.0
OK, WARNING, PROBLEM, UNTESTED = Status.OK, Status.WARNING, Status.PROBLEM, Status.UNTESTED
STANDARD = Quota("L-1216C47A", "Running On-Demand Standard instances")


def _who(arn: str) -> Identity:
    return Identity(arn=f"arn:aws:{arn}", account="123456789012")


def _login(source: str = "env", *, ends_in_s: float | None = None, temporary: bool = False) -> Login:
    ends = None if ends_in_s is None else NOW + ends_in_s
    return Login(source=source, temporary=temporary, expires_at=ends)


@pytest.mark.parametrize(
    ("arn", "login", "status", "said"),
    [
        ("iam::1:user/lab/ann", _login("shared-credentials-file"), OK, "user ann of account 123456789012"),
        ("sts::1:assumed-role/lab/ann@x", _login("sso", ends_in_s=600), OK, "role lab of account"),
        ("sts::1:assumed-role/lab/ann@x", _login("sso", ends_in_s=600), OK, "(10 minutes), then renewed"),
        ("iam::1:user/ann", _login(ends_in_s=600, temporary=True), WARNING, "(10 minutes)"),
        ("iam::1:user/ann", _login(ends_in_s=7200, temporary=True), OK, "(2 hours)"),
        ("iam::1:user/ann", _login(temporary=True), OK, "until when is not known"),
        ("iam::1:root", _login(), WARNING, "the root user of account"),
    ],
)  # fmt: skip
def test_whose_credentials_they_are(arn: str, login: Login, status: Status, said: str) -> None:
    """Who, of which account, from where and until when; the root user is advised against."""
    found = checks.identity(_who(arn), login, NOW)
    assert found.status is status
    assert said in found.text


@pytest.mark.parametrize(
    ("arn", "said"),
    [
        ("iam::1:user/ann", "Users, ann, "),
        ("sts::1:assumed-role/lab/s", "Roles, lab, "),
        ("sts::1:assumed-role/AWSReservedSSO_Lab_People_0a1b/s", "Permission sets, Lab_People, "),
    ],
)
def test_where_a_policy_goes(arn: str, said: str) -> None:
    """To the user, the role, or the permission set behind a role of single sign-on."""
    assert said in checks.where_policies_go(_who(arn))


@pytest.mark.parametrize(
    ("offset_s", "status", "said"),
    [
        (1.0, OK, "within seconds"),
        (-45.0, WARNING, "45 s ahead of AWS's"),
        (45.0, WARNING, "45 s behind AWS's"),
        (7200.0, PROBLEM, "2 hours behind"),
        (None, UNTESTED, "did not say"),
    ],
)
def test_the_clock(offset_s: float | None, status: Status, said: str) -> None:
    """AWS refuses calls at five minutes; below that it is worth a warning."""
    found = checks.clock(offset_s)
    assert found.status is status
    assert said in found.text


def test_a_network_without_public_addresses() -> None:
    """It works from within only, which is a warning that names the subnets."""
    subnets = [
        Subnet(id=f"subnet-{zone}", vpc_id="vpc-1", zone=zone, zone_id="", public=zone != "b")
        for zone in "ab"
    ]
    assert checks.network(subnets[:1], given=False).status is OK
    found = checks.network(subnets, given=True)
    assert found.status is WARNING
    assert "subnet-b get no public address" in found.text


@pytest.mark.parametrize(
    ("own", "given", "public", "status"),
    [
        (["203.0.113.7/32"], [], True, OK),
        (["203.0.113.7/32"], ["203.0.113.0/24", "10.0.0.0/8"], True, OK),
        (["203.0.113.7/32"], ["198.51.100.0/24"], True, PROBLEM),
        (["203.0.113.7/32"], ["198.51.100.0/24"], False, WARNING),
        (["2001:db8::1/128"], ["198.51.100.0/24"], True, PROBLEM),
        (["2001:db8::1/128"], ["2001:db8::/32"], True, OK),
        (["203.0.113.7/32"], ["0.0.0.0/0"], True, WARNING),
        ([], ["198.51.100.0/24"], True, UNTESTED),
    ],
)
def test_the_way_in(own: list[str], given: list[str], public: bool, status: Status) -> None:
    """Open to this computer, to others only, to everybody; over a VPN its address need not be the one."""
    assert checks.way_in(own, given, port=22, public=public).status is status


@pytest.mark.parametrize(
    ("command", "options", "networks", "said"),
    [
        ("ssh -W %h:%p gate", {}, ("10.0.0.0/16",), "open to 10.0.0.0/16, the subnets beside the machines'"),
        ("ssh -W %h:%p gate", {"ssh_from": "10.0.0.9"}, ("10.0.0.9/32",), "will be open to 10.0.0.9/32"),
        ("ssh -W %h:%p gate", {"ssh_from": "none"}, (), "open to nobody"),
        ("aws ssm start-session --target %n", {}, ("10.0.0.0/16",), "open to 10.0.0.0/16"),
    ],
)
def test_the_way_through_a_proxy(
    command: str, options: dict[str, Any], networks: tuple[str, ...], said: str
) -> None:
    """Who may reach the machines; and that Session Manager takes an instance profile."""
    first, *others = ways.proxy(RunConfig(ssh_proxy=command, **options), networks)
    assert first.status is OK
    assert said in first.text
    assert [each.status for each in others] == ([WARNING] if "ssm" in command else [])
    assert len(ways.proxy(RunConfig(ssh_proxy=command, instance_profile="p"), networks)) == 1


def test_no_way_out_without_public_addresses() -> None:
    """An internet gateway is of no use to them: subnets behind one are named."""
    subnets = [
        Subnet(id=f"subnet-{zone}", vpc_id="vpc-1", zone=zone, zone_id="", public=zone != "b")
        for zone in "ab"
    ]
    assert ways.no_public_address(subnets, RunConfig()) == []
    (found,) = ways.no_public_address(subnets, RunConfig(public_ip=False))
    assert found.status is WARNING
    assert "machines in subnet-a get no software" in found.text
    assert checks.network(subnets, given=True, reached=True).status is OK


def test_ssh_that_does_not_get_out() -> None:
    """The likely reason of a machine that cannot be reached, told before it costs anything."""
    assert checks.ssh_gets_out(True, "h").status is OK
    assert checks.ssh_gets_out(False, "h").status is WARNING


def _offer(vcpus: int) -> Offer:
    row = InstanceType(name="m7i.x", vcpus=vcpus, mem_mib=1, arches=frozenset({Arch.X86_64}))
    return Offer(instance_type=row, market=Market.ON_DEMAND, zones=("a",), price=None)


@pytest.mark.parametrize(
    ("limit", "vcpus", "status", "said"),
    [
        (5000.0, 1, OK, "5000 vCPUs at a time in r"),
        (5.0, 1, WARNING, "at most 5 machines of 1 vCPU; other jobs wait"),
        (5.0, 192, PROBLEM, "too few for m7i.x, which has 192"),
        (None, 1, UNTESTED, "not known"),
    ],
)
def test_a_limit_of_the_account(limit: float | None, vcpus: int, status: Status, said: str) -> None:
    """Enough, few, too few for the smallest machine; with the command that asks for more."""
    found = checks.quota(STANDARD, limit, _offer(vcpus), "r")
    assert found.status is status
    assert said in found.text
    if status in (WARNING, PROBLEM):
        assert f"--desired-value {max(64, 2 * vcpus)}`" in found.remedy


def test_the_first_spot_machine() -> None:
    """Whether the account has the role for it is known only if IAM may be asked."""
    assert checks.spot("arn:aws:iam::1:role/x").status is OK
    assert "create-service-linked-role" in checks.spot(None).remedy


def test_the_user_of_an_image() -> None:
    """Another than the image's own is made by cloud-init, and may be a mistake."""
    image = Image(ami="ami-1", name="ubuntu/images/x", arch=Arch.X86_64, root_device="/dev/sda1", root_gib=8)
    assert checks.image(image, user="ubuntu").status is OK
    assert checks.image(image, user="ec2-user").remedy.endswith("--ec2-ssh-user ubuntu")


def test_a_key_that_others_can_read(tmp_path: Any) -> None:
    """It works, and says how to close it."""
    assert checks.ssh_key(None, None, 0).status is OK
    assert checks.ssh_key(tmp_path, None, 0o100600).status is OK
    assert checks.ssh_key(tmp_path, None, 0o100644).remedy == f"chmod 600 {tmp_path}"


def test_programs_that_are_not_there() -> None:
    """Runs do without them: a warning that says who needs them."""
    assert [each.status for each in checks.tools({"ssh": "/bin/ssh", "git": "/bin/git"})] == [OK]
    found = checks.tools({"ssh": None, "git": "/bin/git"})
    assert [each.status for each in found] == [OK, WARNING]
    assert "`snakemake-ec2 ssh` needs it" in found[1].text


@pytest.mark.parametrize(
    ("message", "text", "remedy"),
    [
        ("none was found: run `aws configure`", "none was found", "run `aws configure`"),
        ("it is gone; --ec2-ami names another", "it is gone", "--ec2-ami names another"),
        ("a: b is wrong", "a: b is wrong", "else"),
    ],
)
def test_an_error_and_what_to_do(message: str, text: str, remedy: str) -> None:
    """An error's own remedy is told apart from what is wrong; else the check's is given."""
    found = checks.of_error("x", ConfigurationError(message), "else")
    assert (found.status, found.text, found.remedy) == (PROBLEM, text, remedy)


def test_the_report() -> None:
    """Only a problem fails; the last line counts."""
    healthy = Report(findings=(ok("a", "b"), warning("c", "d", "e"), untested("f", "g")))
    assert healthy.exit_status == 0
    assert healthy.end()[-1].startswith("No problems, 1 warning, 1 not tested. Nothing was launched")
    ill = Report(findings=(problem("a", "b " * 80, "c"),))
    assert ill.exit_status == 1
    assert ill.letter() == ""
    assert [line[:11] for line in lines(ill.findings[0])[:2]] == ["problem    ", " " * 11]
