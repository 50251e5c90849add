"""Policies are evaluated as AWS documents it: its own examples, each with what it says of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_ec2.local.iam import Decision, Policy, PolicyError, Request

ALLOWED, NOT_ALLOWED, DENIED = Decision.ALLOWED, Decision.NOT_ALLOWED, Decision.DENIED
INSTANCE = "arn:aws:ec2:us-east-1:111122223333:instance/i-0abc"


def _decide(
    *statements: dict[str, Any],
    action: str = "ec2:StopInstances",
    resource: str = INSTANCE,
    version: str | None = "2012-10-17",
    **context: Any,
) -> Decision:
    document = {"Statement": list(statements), **({"Version": version} if version else {})}
    values = {key: [value] if isinstance(value, str) else value for key, value in context.items()}
    return Policy.parse(json.dumps(document)).decide(
        Request(action=action, resource=resource, context=values)
    )


def _allow(action: str | list[str] = "*", resource: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def _deny(action: str | list[str] = "*", resource: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    return {**_allow(action, resource, **more), "Effect": "Deny"}


def _met(condition: dict[str, Any], **context: Any) -> bool:
    return _decide(_allow(Condition=condition), **context) is ALLOWED


# --- the evaluation logic ------------------------------------------------------------------


def test_nothing_is_allowed_by_default() -> None:
    """No statement, or none that is about it, is an implicit deny."""
    assert _decide() is NOT_ALLOWED
    assert _decide(_allow("ec2:StartInstances")) is NOT_ALLOWED
    assert _decide(_deny("s3:*")) is NOT_ALLOWED


@pytest.mark.parametrize("turned", [False, True])
def test_an_explicit_deny_wins(turned: bool) -> None:
    """Over an allow, in whichever order they stand; and only for what it is about."""
    statements = [_allow("ec2:*"), _deny("ec2:TerminateInstances")]
    statements = statements[::-1] if turned else statements
    assert _decide(*statements, action="ec2:TerminateInstances") is DENIED
    assert _decide(*statements, action="ec2:StopInstances") is ALLOWED


@given(st.lists(st.sampled_from(["allow", "deny", "other"]), max_size=6))
def test_one_rule_decides_any_statements(kinds: list[str]) -> None:
    """Any deny denies; else any allow allows; else it is not allowed."""
    made = {"allow": _allow("ec2:*"), "deny": _deny("ec2:Stop*"), "other": _allow("s3:*")}
    expected = DENIED if "deny" in kinds else ALLOWED if "allow" in kinds else NOT_ALLOWED
    assert _decide(*(made[kind] for kind in kinds)) is expected


@pytest.mark.parametrize(
    ("pattern", "action", "matches"),
    [
        ("ec2:Describe*", "ec2:DescribeInstances", True),
        ("ec2:Describe*", "ec2:GetConsoleOutput", False),
        ("EC2:stopinstances", "ec2:StopInstances", True),
        ("iam:*AccessKey*", "iam:CreateAccessKey", True),
        ("ec2:?topInstances", "ec2:StopInstances", True),
        ("ec2:Stop", "ec2:StopInstances", False),
        ("*", "ssm:GetParameter", True),
        ("ec2.*", "ec2:StopInstances", False),
    ],
)
def test_actions(pattern: str, action: str, matches: bool) -> None:
    """Names are compared without regard to case; `*` and `?` are wildcards, and nothing else is."""
    assert (_decide(_allow(pattern), action=action) is ALLOWED) is matches


def test_not_action() -> None:
    """With Allow: all but these. With Deny: denies all but these, and allows none of them."""
    all_but_iam = {"Effect": "Allow", "NotAction": ["iam:*", "sts:*"], "Resource": "*"}
    assert _decide(all_but_iam, action="iam:CreateUser") is NOT_ALLOWED
    assert _decide(all_but_iam, action="ec2:StopInstances") is ALLOWED
    without_mfa = {
        "Effect": "Deny", "NotAction": "iam:*", "Resource": "*",
        "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}},
    }  # fmt: skip
    assert _decide(without_mfa, _allow("s3:*"), action="s3:GetObject") is DENIED
    assert _decide(without_mfa, action="iam:CreateUser") is NOT_ALLOWED
    assert _decide(without_mfa, _allow(), **{"aws:MultiFactorAuthPresent": "true"}) is ALLOWED


def test_not_resource() -> None:
    """All but these resources; AWS's example denies S3 outside of one folder."""
    deny = {"Effect": "Deny", "Action": "s3:*", "NotResource": "arn:aws:s3:::HRBucket/Payroll/*"}
    allow = _allow("s3:*")
    assert _decide(deny, allow, action="s3:GetObject", resource="arn:aws:s3:::HRBucket/Payroll/a") is ALLOWED
    assert _decide(deny, allow, action="s3:GetObject", resource="arn:aws:s3:::HRBucket/other") is DENIED


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        (INSTANCE, True),
        ("arn:aws:ec2:*:*:instance/*", True),
        ("arn:aws:ec2:us-east-?:*:instance/i-0ab?", True),
        ("arn:aws:ec2:eu-west-1:*:instance/*", False),
        ("arn:aws:ec2:*:*:volume/*", False),
        ("arn:aws:ec2:*::instance/*", False),
        ("arn:aws:ec2:*:*:INSTANCE/*", False),
    ],
)
def test_resources(pattern: str, matches: bool) -> None:
    """ARNs are compared with regard to case, with wildcards."""
    assert (_decide(_allow(resource=pattern)) is ALLOWED) is matches


# --- conditions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("department", "role", "matches"),
    [
        ("finance", "audit", True),
        ("hr", "audit", True),
        ("Finance", "audit", False),
        ("it", "audit", False),
        ("finance", "analyst", False),
        ("finance", None, False),
        (None, None, False),
    ],
)
def test_several_keys_and_values(department: str | None, role: str | None, matches: bool) -> None:
    """Operators and keys are joined by AND, the values of one key by OR; case counts."""
    tags = {"aws:PrincipalTag/department": department, "aws:PrincipalTag/role": role}
    condition = {
        "StringEquals": {
            "aws:PrincipalTag/department": ["finance", "hr", "legal"],
            "aws:PrincipalTag/role": ["audit", "security"],
        },
        "ArnLike": {"aws:PrincipalArn": ["arn:aws:iam::222222222222:user/Ana", "arn:aws:iam::*:user/M*"]},
    }
    given = {key: value for key, value in tags.items() if value is not None}
    assert _met(condition, **given, **{"aws:PrincipalArn": "arn:aws:iam::222222222222:user/Mary"}) is matches
    assert not _met(condition, **given, **{"aws:PrincipalArn": "arn:aws:iam::222222222222:role/Mary"})


@pytest.mark.parametrize(
    ("value", "matches"), [("hr", False), ("finance", False), ("it", True), ("HR", True), (None, True)]
)
def test_negated_operators(value: str | None, matches: bool) -> None:
    """None of the values may be the request's (NOR); it is met where the key is missing."""
    given = {} if value is None else {"aws:PrincipalTag/department": value}
    condition = {"StringNotEquals": {"aws:PrincipalTag/department": ["hr", "finance"]}}
    assert _met(condition, **given) is matches
    assert _met({"StringNotLike": {"aws:PrincipalTag/department": ["h?", "fin*"]}}, **given) is matches


@pytest.mark.parametrize(
    ("operator", "wanted", "value", "matches"),
    [
        ("StringEquals", "JohnDoe", "JohnDoe", True),
        ("StringEquals", "JohnDoe", "johndoe", False),
        ("StringEquals", "John*", "JohnDoe", False),
        ("StringEqualsIgnoreCase", "JohnDoe", "johndoe", True),
        ("StringNotEqualsIgnoreCase", "JohnDoe", "johndoe", False),
        ("StringLike", "${*}", "anything", False),
        ("StringLike", "home/*", "home/", True),
        ("StringLike", "home/*", "homes/", False),
        ("StringLike", "?*", "", False),
        ("Bool", "true", "true", True),
        ("Bool", True, "true", True),
        ("Bool", "true", "false", False),
        ("ArnLike", "arn:aws:sns:*:*:topic", "arn:aws:sns:us-east-1:1:topic", True),
        ("ArnEquals", "arn:aws:sns:*", "arn:aws:sns:us-east-1:1:topic", False),
        ("ArnNotLike", "arn:aws:sns:*:*:topic", "arn:aws:sns:us-east-1:1:topic", False),
    ],
)
def test_operators(operator: str, wanted: Any, value: str, matches: bool) -> None:
    """Each operator with a value that fits and one that does not."""
    assert _met({operator: {"aws:key": wanted}}, **{"aws:key": value}) is matches


@pytest.mark.parametrize("operator", ["StringEquals", "StringLike", "Bool", "ArnLike"])
def test_missing_keys(operator: str) -> None:
    """A key that the request has not meets no condition, unless the operator ends in IfExists."""
    assert not _met({operator: {"aws:key": "*"}})
    assert _met({f"{operator}IfExists": {"aws:key": "none"}})
    assert not _met({f"{operator}IfExists": {"aws:key": "none"}}, **{"aws:key": "other"})


def test_null() -> None:
    """`true`: the key must be missing; `false`: it must be there. A key without values is missing."""
    assert _met({"Null": {"aws:TokenIssueTime": "true"}})
    assert not _met({"Null": {"aws:TokenIssueTime": "true"}}, **{"aws:TokenIssueTime": "2026"})
    assert _met({"Null": {"aws:TokenIssueTime": False}}, **{"aws:TokenIssueTime": "2026"})
    assert not _met({"Null": {"aws:TagKeys": "false"}}, **{"aws:TagKeys": []})


@pytest.mark.parametrize(
    ("keys", "all_values", "any_value"),
    [
        (["environment", "cost-center"], True, True),
        (["environment"], True, True),
        (["environment", "department"], False, True),
        (["department"], False, False),
        ([], True, False),
    ],
)
def test_tag_keys(keys: list[str], all_values: bool, any_value: bool) -> None:
    """ForAllValues: each of the request's is among the policy's, or it has none. ForAnyValue: one is."""
    wanted = {"aws:TagKeys": ["environment", "cost-center"]}
    assert _met({"ForAllValues:StringEquals": wanted}, **{"aws:TagKeys": keys}) is all_values
    assert _met({"ForAnyValue:StringEquals": wanted}, **{"aws:TagKeys": keys}) is any_value
    both = {"ForAllValues:StringEquals": wanted, "Null": {"aws:TagKeys": "false"}}
    assert _met(both, **{"aws:TagKeys": keys}) is (all_values and bool(keys))


def test_denied_tag_prefixes() -> None:
    """AWS's example: tags with certain prefixes are denied, by one of them or by all."""
    key = {"aws:TagKeys": ["key1*", "restricted*"]}
    for_all, for_any = ({f"{name}:StringLike": key} for name in ("ForAllValues", "ForAnyValue"))
    mixed: dict[str, Any] = {"aws:TagKeys": ["key1abc", "free"]}
    assert _decide(_deny(Condition=for_all), _allow(), **mixed) is ALLOWED
    assert _decide(_deny(Condition=for_any), _allow(), **mixed) is DENIED
    assert _decide(_deny(Condition=for_all), _allow()) is DENIED  # with no tags at all, as AWS warns


@given(st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd"), min_size=1))
def test_sets_are_subsets_and_intersections(keys: set[str], wanted: set[str]) -> None:
    """ForAllValues is ⊆ and ForAnyValue is ∩ ≠ ∅, whatever the values are; negated, with the complement."""
    values = {"aws:TagKeys": sorted(wanted)}
    given_: dict[str, Any] = {"aws:TagKeys": sorted(keys)}
    assert _met({"ForAllValues:StringEquals": values}, **given_) is (keys <= wanted)
    assert _met({"ForAnyValue:StringEquals": values}, **given_) is bool(keys & wanted)
    assert _met({"ForAllValues:StringNotEquals": values}, **given_) is (not keys & wanted)
    assert _met({"ForAnyValue:StringNotEquals": values}, **given_) is bool(keys - wanted)


def test_tags_of_resource_and_request() -> None:
    """AWS's example: instances may be stopped whose tag Owner is the user's name; keys have no case."""
    own = _allow(
        "ec2:StopInstances", "arn:aws:ec2:*:*:instance/*",
        Condition={"StringEquals": {"aws:ResourceTag/Owner": "${aws:username}"}},
    )  # fmt: skip
    assert _decide(own, **{"aws:ResourceTag/Owner": "ana", "aws:username": "ana"}) is ALLOWED
    assert _decide(own, **{"aws:resourcetag/owner": "ana", "AWS:UserName": "ana"}) is ALLOWED
    assert _decide(own, **{"aws:ResourceTag/Owner": "ben", "aws:username": "ana"}) is NOT_ALLOWED
    assert _decide(own, **{"aws:RequestTag/Owner": "ana", "aws:username": "ana"}) is NOT_ALLOWED
    assert _decide(own, **{"aws:ResourceTag/Owner": "", "other": "x"}) is NOT_ALLOWED


def test_create_action() -> None:
    """AWS's example: tags may be given while instances are launched, and not to what there is."""
    statements = [
        _allow("ec2:RunInstances"),
        _allow(
            "ec2:CreateTags", "arn:aws:ec2:us-east-1:111122223333:*/*",
            Condition={"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        ),
    ]  # fmt: skip
    launch = {"ec2:CreateAction": "RunInstances"}
    assert _decide(*statements, action="ec2:CreateTags", **launch) is ALLOWED
    assert _decide(*statements, action="ec2:CreateTags") is NOT_ALLOWED
    assert (
        _decide(*statements, action="ec2:CreateTags", **{"ec2:CreateAction": "CreateVolume"}) is NOT_ALLOWED
    )


@pytest.mark.parametrize("value", ["*", "a*", "${aws:username}", "?", "$"])
def test_a_variables_value_is_no_pattern(value: str) -> None:
    """Whoever is named `*` matches only himself; variables began with version 2012-10-17."""
    condition = {"StringLike": {"aws:ResourceTag/owner": "${aws:username}"}}
    assert _met(condition, **{"aws:username": value, "aws:ResourceTag/owner": value})
    assert not _met(condition, **{"aws:username": value, "aws:ResourceTag/owner": "ab"})
    statement = _allow(Condition={"StringEquals": {"aws:ResourceTag/owner": "${aws:username}"}})
    old = {"version": "2008-10-17", "aws:username": "ana"}
    assert _decide(statement, **old, **{"aws:ResourceTag/owner": "ana"}) is NOT_ALLOWED
    assert _decide(statement, **old, **{"aws:ResourceTag/owner": "${aws:username}"}) is ALLOWED


def test_a_variables_default() -> None:
    """`${key, 'default'}` is the default where the request has not the key."""
    condition = {"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team, 'nobody'}"}}
    assert _met(condition, **{"aws:ResourceTag/team": "nobody"})
    assert not _met(condition, **{"aws:ResourceTag/team": "nobody", "aws:PrincipalTag/team": "x"})


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "{}",
        '{"Statement": 1}',
        '{"Statement": [{"Effect": "allow", "Action": "*", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Action": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}]}',
        *(
            json.dumps({"Statement": [_allow(Condition={operator: {"aws:key": "1"}})]})
            for operator in (
                "DateGreaterThan",
                "IpAddress",
                "NumericEquals",
                "NullIfExists",
                "ForSome:Bool",
                "x",
            )
        ),
    ],
)
def test_what_is_not_understood_is_refused(document: str) -> None:
    """Rather than taken as met, or as not met."""
    with pytest.raises(PolicyError):
        Policy.parse(document)
