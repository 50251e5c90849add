"""Whether a run has the permissions of the policy: what is tested how, and what comes of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snakemake_executor_ec2.aws.identity import Identity
from snakemake_executor_ec2.aws.policy import Need, needs
from snakemake_executor_ec2.aws.probes import GRANTED, Answer, Probes, Verdict
from snakemake_executor_ec2.doctor.findings import Finding, Status, ok, problem, untested
from snakemake_executor_ec2.model import SpotUse
from snakemake_executor_ec2.tags import RUN_TAG

_READS = ("Look", "PricesAndLimits", "NewestImage")
_OWN = "UseAndEndOwn"
_RUN, _GROUP, _TAGS = "ec2:RunInstances", "ec2:CreateSecurityGroup", "ec2:CreateTags"
_SIMULATOR = "iam:SimulatePrincipalPolicy"

WITHOUT = {
    "ec2:DescribeImages": (Status.PROBLEM, "no machine can be launched"),
    "ec2:DescribeInstances": (Status.PROBLEM, "machines could not be watched, nor found again"),
    "ec2:DescribeInstanceStatus": (Status.WARNING, "a machine that has crashed is given up later"),
    "ec2:DescribeInstanceTypes": (Status.WARNING, "a dated list of machine types is used"),
    "ec2:DescribeInstanceTypeOfferings": (Status.WARNING, "every zone is tried"),
    "ec2:DescribeRegions": (Status.WARNING, "a region that is not enabled shows at the first launch"),
    "ec2:DescribeRouteTables": (Status.WARNING, "whether a subnet is public is taken from its own setting"),
    "ec2:DescribeSecurityGroups": (Status.PROBLEM, "a run cannot be resumed, and `gc` finds nothing"),
    "ec2:DescribeSpotPriceHistory": (Status.WARNING, "runs with spot machines fail"),
    "ec2:DescribeSubnets": (Status.PROBLEM, "no machine can be launched"),
    "pricing:GetProducts": (Status.WARNING, "dated prices of us-east-1 are used"),
    "servicequotas:GetServiceQuota": (Status.WARNING, "limits show when EC2 refuses a launch"),
    "ssm:GetParameter": (Status.WARNING, "the newest image is found by its name"),
    _RUN: (Status.PROBLEM, "no machine can be launched"),
    _GROUP: (Status.PROBLEM, "no machine can be launched"),
    _TAGS: (Status.PROBLEM, "no machine can be launched"),
    "ec2:TerminateInstances": (Status.PROBLEM, "machines can only end themselves"),
    "ec2:GetConsoleOutput": (Status.WARNING, "why a machine did not boot is not shown"),
    "ec2:AuthorizeSecurityGroupIngress": (Status.PROBLEM, "no machine can be reached"),
    "ec2:DeleteSecurityGroup": (Status.WARNING, "each run leaves an empty security group behind"),
}
"""What a run is like without an action, and how bad that is."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and what a run would launch, as far as that is known."""

    region: str
    vpc_id: str | None = None
    subnet_id: str | None = None
    ami: str | None = None
    request: Mapping[str, Any] | None = None
    """For RunInstances, without a security group; None if no launch can be described."""
    spot: SpotUse = SpotUse.NEVER


FEW = 5
"""More missing permissions than these are told together."""

Tested = dict[Need, Answer]
_FOR_ITS_GROUP = Answer(
    verdict=Verdict.UNKNOWN,
    error="EC2 refused a trial launch for the account's default security group only, as the policy means it "
    "to; a run's own group has the tag that the policy wants",
)


def probe_all(probes: Probes, place: Place, who: Identity | None) -> tuple[Tested, list[Answer]]:
    """What is known of each of the policy's permissions; and other refusals of the trial launch, such as
    that of an instance profile's role."""
    tested = {
        need: probes.look(need.action) if need.statement in _READS else Answer(verdict=Verdict.UNKNOWN)
        for need in needs()
    }
    others: list[Answer] = []
    _learn(tested, _GROUP, probes.make_group(place.vpc_id), others)
    if place.request is not None:
        _learn(tested, _RUN, probes.launch(place.request), others)
    for need in _unknown(tested):
        if need.statement == _OWN and need.action != _RUN:
            answer = probes.use(need.action)
            if answer.verdict is Verdict.GRANTED or answer.denied_by:
                tested[need] = answer
    if who is not None:
        _simulate(tested, probes, place, who)
    return tested, others


def _unknown(tested: Tested) -> list[Need]:
    return [need for need, answer in tested.items() if answer.verdict is Verdict.UNKNOWN]


def _learn(tested: Tested, action: str, answer: Answer, others: list[Answer]) -> None:
    """What one DryRun of something new says of the statements that it needs together."""
    same = [need for need in tested if need.action == action]
    if answer.verdict is Verdict.GRANTED:
        for need in (*same, *(each for each in tested if each.action == _TAGS)):
            if tested[need].verdict is Verdict.UNKNOWN:
                tested[need] = answer
    elif answer.verdict is Verdict.UNKNOWN:
        if answer.error:
            others.append(answer)
    elif answer.action == _TAGS:
        tested.update({need: answer for need in tested if need.action == _TAGS})
    elif answer.action != action:
        others.append(answer)
    elif answer.denied_by or (not answer.resource and action != _RUN):
        tested.update(dict.fromkeys(same, answer))
    else:
        # Without a word on which resource, a launch may have been refused for its group alone.
        statement = _statement_of(action, answer.resource) if answer.resource else None
        if statement is not None:
            tested[Need(statement, action)] = answer
        elif answer.resource:
            tested.update(dict.fromkeys(same, _FOR_ITS_GROUP))


def _statement_of(action: str, arn: str) -> str | None:
    """The statement that would have allowed an action on a resource; None for the security group of a trial
    launch: it is the account's default one, and a run has its own."""
    kind = arn.rpartition(":")[2].partition("/")[0]
    if kind == "security-group":
        return "MakeWithTag" if action == _GROUP else None
    return "MakeWithTag" if kind in ("instance", "volume", "network-interface") else "MakeFrom"


def _simulate(tested: Tested, probes: Probes, place: Place, who: Identity) -> None:
    """Ask IAM about what no call could show."""
    if not _unknown(tested):
        return
    if who.kind == "root":
        tested.update(dict.fromkeys(_unknown(tested), GRANTED))
        return
    arn = _principal(probes, who)
    for need in _unknown(tested):
        for resources, context in _situations(need, place, who):
            answer = probes.simulate(arn, need.action, resources, context)
            if answer.action == _SIMULATOR:
                return
            tested[need] = answer
            if answer.verdict is not Verdict.GRANTED:
                break


def _principal(probes: Probes, who: Identity) -> str:
    """The ARN that the simulator takes: of a session, that of its role."""
    if who.kind != "assumed-role":
        return who.arn
    return probes.role_arn(who.name) or f"arn:{who.partition}:iam::{who.account}:role/{who.name}"


def _situations(need: Need, place: Place, who: Identity) -> list[tuple[list[str], dict[str, str]]]:
    """On which resources a run needs a permission, and under which condition keys."""
    own = f"arn:{who.partition}:ec2:{place.region}:{who.account}:"
    new = {f"aws:RequestTag/{RUN_TAG}": "doctor"}
    made = [f"{own}{kind}/*" for kind in ("instance", "volume", "network-interface")]
    if need.statement == "MakeWithTag":
        return [([f"{own}security-group/*"] if need.action == _GROUP else made, new)]
    if need.statement == "MakeFrom":
        if need.action == _GROUP:
            return [([f"{own}vpc/{place.vpc_id or '*'}"], {})]
        from_ = [f"arn:{who.partition}:ec2:{place.region}::image/{place.ami or '*'}"]
        from_ += [f"{own}subnet/{place.subnet_id or '*'}"]
        spot = [f"{own}spot-instances-request/*"] if place.spot is not SpotUse.NEVER else []
        return [([*from_, *spot], {})]
    if need.statement == "TagWhatIsMade":
        return [
            (made, {**new, "ec2:CreateAction": "RunInstances"}),
            ([f"{own}security-group/*"], {**new, "ec2:CreateAction": "CreateSecurityGroup"}),
        ]
    if need.statement == _OWN:
        machine = need.action in ("ec2:TerminateInstances", "ec2:GetConsoleOutput")
        resource = "instance/i-0123456789abcdef0" if machine else "security-group/sg-0123456789abcdef0"
        tag = {f"{prefix}:ResourceTag/{RUN_TAG}": "doctor" for prefix in ("aws", "ec2")}
        return [([own + resource], tag)]
    return [(["*"], {})]


# --- what comes of it ----------------------------------------------------------------------


def missing(tested: Tested) -> list[Need]:
    """In the policy's order."""
    return [need for need, answer in tested.items() if answer.verdict is Verdict.MISSING]


def to_ask_for(tested: Tested) -> list[Need]:
    """What to ask an administrator for, once: what is missing, with what could not be tested. Nothing if
    nothing is known to be missing."""
    if not missing(tested):
        return []
    return [need for need, answer in tested.items() if answer.verdict is not Verdict.GRANTED]


def findings(tested: Tested, *, spot: SpotUse) -> list[Finding]:
    """One for all that is granted, one for each that is missing, one for all that cannot be tested."""
    granted = [need for need, answer in tested.items() if answer.verdict is Verdict.GRANTED]
    rows = []
    if granted:
        all_of_them = len(granted) == len(tested)
        count = f"all {len(tested)}" if all_of_them else f"{len(granted)} of {len(tested)}"
        rows.append(ok("permissions", f"{count} that a run may need are granted"))
    lacking = missing(tested)
    each = [_missing(need, tested[need], spot) for need in lacking]
    rows += each if len(lacking) <= FEW else _together(lacking, each)
    told = {need.action for need in lacking}
    unknown = list(dict.fromkeys(need.action for need in _unknown(tested) if need.action not in told))
    if _RUN in unknown and _FOR_ITS_GROUP in tested.values():
        unknown.remove(_RUN)
        rows.append(untested("permissions", f"{_RUN}: {_FOR_ITS_GROUP.error}"))
    if unknown:
        rows.append(
            untested(
                "permissions",
                f"cannot be tested without a machine or a security group: {', '.join(unknown)}",
                "compare yours with the policy that `snakemake-ec2 doctor --policy` prints; with the "
                f"permission {_SIMULATOR} on yourself, doctor tests them as well",
            )
        )
    return rows


def _together(lacking: list[Need], each: list[Finding]) -> list[Finding]:
    """So many lack that there is no policy at all: one line for those that a run needs, one for the rest."""
    rows = []
    for status, without in ((Status.PROBLEM, "no run works"), (Status.WARNING, "runs do less well")):
        names = [need.action for need, found in zip(lacking, each, strict=True) if found.status is status]
        if names:
            text = f"{', '.join(dict.fromkeys(names))} are missing: without them {without}"
            rows.append(
                Finding(about="permissions", status=status, text=text, remedy="the policy below grants them")
            )
    return rows


def _missing(need: Need, answer: Answer, spot: SpotUse) -> Finding:
    status, without = WITHOUT[need.action]
    if need.action == "ec2:DescribeSpotPriceHistory" and spot is not SpotUse.NEVER:
        status, without = Status.PROBLEM, "spot machines cannot be chosen"
    remedy = f"the statement {need.statement} below grants it"
    if answer.denied_by:
        remedy = _denied(answer)
    return Finding(
        about="permissions", status=status, text=f"{need.action} is missing: {without}", remedy=remedy
    )


def _denied(answer: Answer) -> str:
    return (
        f"a {answer.denied_by} denies it, which no other policy outweighs: the administrator of the AWS "
        "account has to change that one"
    )


def statements_for(answers: list[Answer]) -> list[dict[str, Any]]:
    """Statements for what the trials met and the policy does not have, such as passing a role on."""
    return [
        {"Effect": "Allow", "Action": answer.action, "Resource": answer.resource or "*"}
        for answer in dict.fromkeys(answers)
        if answer.verdict is Verdict.MISSING and not answer.denied_by
    ]


def other_findings(answers: list[Answer]) -> list[Finding]:
    """What else the trials met: a role that may not be passed on, a launch that EC2 would refuse."""
    rows = []
    for answer in dict.fromkeys(answers):
        if answer.verdict is Verdict.UNKNOWN:
            rows.append(problem("launch", answer.error, "change what it names, and call doctor again"))
            continue
        on = f" on {answer.resource}" if answer.resource else ""
        rows.append(
            problem(
                "permissions",
                f"{answer.action} is missing{on}: EC2 refuses the launch",
                _denied(answer) if answer.denied_by else "the last statement below grants it",
            )
        )
    return rows
