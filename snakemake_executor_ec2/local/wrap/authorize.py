"""What a call has to be allowed: its action on each resource, with the tags it brings and those they have.

By AWS's list of actions, resources and condition keys of each service. A launch is authorized for all that it
makes and all that it uses, and once more, as CreateTags, for the tags that it brings.
"""

from __future__ import annotations

from collections.abc import Iterator

from moto.core.models import DEFAULT_ACCOUNT_ID

from ..iam import Decision, Policies, Policy, Request
from .backend import backend
from .calls import ApiError, Call, Response, query_response
from .launches import market_of

EVALUATED = ("ec2", "pricing", "servicequotas", "ssm", "sts")
"""Services whose calls are understood; of the others' only the method is known."""

_FREE = ("sts", "GetCallerIdentity")
"""Everybody may ask who they are, whatever a policy says."""
_SIMULATION = ("iam", "SimulatePrincipalPolicy")
_WHO = f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:user/rehearsal"
_FIELDS = {
    "TerminateInstances": "InstanceId",
    "StopInstances": "InstanceId",
    "StartInstances": "InstanceId",
    "RebootInstances": "InstanceId",
    "GetConsoleOutput": "InstanceId",
    "DescribeInstanceAttribute": "InstanceId",
    "ModifyInstanceAttribute": "InstanceId",
    "CreateTags": "ResourceId",
    "DeleteTags": "ResourceId",
    "DeleteSecurityGroup": "GroupId",
    "DeleteSnapshot": "SnapshotId",
    "DeregisterImage": "ImageId",
    "AuthorizeSecurityGroupIngress": "GroupId",
    "AuthorizeSecurityGroupEgress": "GroupId",
    "RevokeSecurityGroupIngress": "GroupId",
    "RevokeSecurityGroupEgress": "GroupId",
}
"""Actions on what there is, and the fields that name it. Those that are not here know no resources."""
_KINDS = {
    "i": "instance",
    "sg": "security-group",
    "vol": "volume",
    "eni": "network-interface",
    "subnet": "subnet",
    "vpc": "vpc",
    "ami": "image",
    "snap": "snapshot",
}


def is_evaluated(call: Call) -> bool:
    """Whether it is known here which permissions a call needs."""
    return call.service in EVALUATED or (call.service, call.action) == _SIMULATION


def caller_identity(call: Call) -> Response:
    """STS's GetCallerIdentity, of the holder of the cloud's own key, or of an instance's role."""
    user = f"AROAREHEARSAL:{call.role_session.rpartition('/')[2]}" if call.role_session else "AIDAREHEARSAL"
    fields = {"Arn": _who(call), "UserId": user, "Account": DEFAULT_ACCOUNT_ID}
    content = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return query_response("GetCallerIdentity", content, namespace="https://sts.amazonaws.com/doc/2011-06-15/")


def check(policy: Policy | Policies, call: Call) -> None:
    """Raise ApiError, in the words of the call's service, for a call that a policy does not allow. The caller
    holds the backend's lock."""
    if (call.service, call.action) == _FREE:
        return
    for request in requests(call):
        decision = policy.decide(request)
        if decision is not Decision.ALLOWED:
            raise refusal(call, request.action, request.resource, decision)


def refusal(
    call: Call, action: str, resource: str = "*", decision: Decision = Decision.NOT_ALLOWED
) -> ApiError:
    """What the service answers to somebody who may not do it."""
    on = "" if resource == "*" else f" on resource: {resource}"
    why = (
        "with an explicit deny in an identity-based policy"
        if decision is Decision.DENIED
        else f"because no identity-based policy allows the {action} action"
    )
    message = f"User: {_who(call)} is not authorized to perform: {action}{on} {why}"
    if call.service == "ec2":
        return ApiError(
            "UnauthorizedOperation",
            f"You are not authorized to perform this operation. {message}",
            status=403,
        )
    if call.is_json:
        return ApiError("AccessDeniedException", message)
    return ApiError("AccessDenied", message, status=403)


def requests(call: Call) -> Iterator[Request]:
    """All that has to be allowed for a call."""
    action = f"{call.service}:{call.action}"
    match call.service, call.action:
        case "ec2", "RunInstances":
            yield from _launch(call)
        case "ec2", "CreateImage":
            yield _used(call, str(call.params.get("InstanceId", "")))
            yield _made(call, "image")
            yield _made(call, "snapshot")
            yield from _tagged(call)
        case "ec2", "CreateSecurityGroup":
            yield _made(call, "security-group")
            yield _used(call, str(call.params.get("VpcId") or "vpc-default"))
            yield from _tagged(call)
        case "ec2", name if name in _FIELDS:
            field = _FIELDS[name]
            ids = [*call.listed(field), *filter(None, [call.params.get(field)])]
            given = _tags_of_request(call.pairs("Tag"))
            for each in ids or ["none"]:
                yield _used(call, str(each), given)
        case "ssm", "GetParameter":
            name = str(call.params.get("Name", "")).lstrip("/")
            owner = "" if name.startswith("aws/") else DEFAULT_ACCOUNT_ID
            yield request_of(call, action, f"arn:aws:ssm:{call.region}:{owner}:parameter/{name}")
        case "servicequotas", "GetServiceQuota":
            quota = f"{call.params.get('ServiceCode')}/{call.params.get('QuotaCode')}"
            yield request_of(
                call, action, f"arn:aws:servicequotas:{call.region}:{DEFAULT_ACCOUNT_ID}:{quota}"
            )
        case "iam", "SimulatePrincipalPolicy":
            yield request_of(call, action, str(call.params.get("PolicySourceArn", "")))
        case _:
            yield request_of(call, action, "*")


def _launch(call: Call) -> Iterator[Request]:
    params, nic = call.params, "NetworkInterface.1"
    yield _used(call, str(params.get("ImageId", "")))
    yield _made(
        call,
        "instance",
        {
            "ec2:InstanceType": [str(params.get("InstanceType", "m1.small"))],
            "ec2:InstanceMarketType": [market_of(call)],
            "ec2:MetadataHttpTokens": [str(params.get("MetadataOptions.HttpTokens", "optional"))],
        },
    )
    yield _made(
        call, "volume", {"ec2:Encrypted": [str(params.get("BlockDeviceMapping.1.Ebs.Encrypted", "false"))]}
    )
    existing = params.get(f"{nic}.NetworkInterfaceId")
    yield _used(call, str(existing)) if existing else _made(call, "network-interface")
    subnet = params.get("SubnetId") or params.get(f"{nic}.SubnetId")
    yield _used(call, str(subnet or "subnet-default"))
    groups = [*call.listed("SecurityGroupId"), *call.listed(f"{nic}.SecurityGroupId")]
    for group in groups or ["sg-default"]:
        yield _used(call, group)
    for name, value in params.items():
        if name.startswith("BlockDeviceMapping.") and name.endswith(".Ebs.SnapshotId"):
            yield _used(call, str(value))
    if params.get("KeyName"):
        yield request_of(call, "ec2:RunInstances", _arn(call, "key-pair", str(params["KeyName"])))
    if market_of(call) == "spot":
        yield _made(call, "spot-instances-request")
    yield from _tagged(call)
    profile = params.get("IamInstanceProfile.Name") or params.get("IamInstanceProfile.Arn")
    if profile:
        role = str(profile).rpartition("/")[2]
        to = {"iam:PassedToService": ["ec2.amazonaws.com"]}
        yield request_of(call, "iam:PassRole", f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/{role}", to)


def _tagged(call: Call) -> Iterator[Request]:
    """Tags that a call gives to what it makes are CreateTags, too."""
    for kind, tags in call.tag_specifications():
        context = {"ec2:CreateAction": [call.action], **_tags_of_request(tags)}
        yield request_of(call, "ec2:CreateTags", _arn(call, kind), context)


def _made(call: Call, kind: str, context: dict[str, list[str]] | None = None) -> Request:
    """The call's action on something that it makes, with the tags that it will have."""
    tags = [pair for each, pairs in call.tag_specifications() if each == kind for pair in pairs]
    given = {**(context or {}), **_tags_of_request(tags)}
    return request_of(call, f"ec2:{call.action}", _arn(call, kind), given)


def _used(call: Call, resource_id: str, context: dict[str, list[str]] | None = None) -> Request:
    """The call's action on something that there is, with the tags that it has. What there is not has none."""
    kind = _KINDS.get(resource_id.partition("-")[0], "unknown")
    arn = _arn(call, kind, resource_id)
    ec2 = backend(call.region)
    tags = ec2.tags.get(resource_id, {})
    if kind == "security-group" and ec2.get_security_group_from_id(resource_id) is None:
        tags = {}  # moto remembers those of groups that were removed
    own = {f"{prefix}:ResourceTag/{key}": [value] for key, value in tags.items() for prefix in ("aws", "ec2")}
    return request_of(call, f"ec2:{call.action}", arn, {**own, **(context or {})})


def request_of(
    call: Call, action: str, resource: str, context: dict[str, list[str]] | None = None
) -> Request:
    """An action on a resource, with what is known of every call."""
    common = {
        "aws:RequestedRegion": [call.region],
        "ec2:Region": [call.region],
        **({} if call.role_session else {"aws:username": [_WHO.rpartition("/")[2]]}),
        "aws:PrincipalArn": [_role_of(call.role_session) if call.role_session else _WHO],
        "aws:SecureTransport": ["true"],
    }
    return Request(action=action, resource=resource, context={**common, **(context or {})})


def _who(call: Call) -> str:
    return call.role_session or _WHO


def _role_of(session: str) -> str:
    """The role's own ARN, which conditions see, of that of a session."""
    return f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/{session.split('/')[1]}"


def _arn(call: Call, kind: str, name: str = "*") -> str:
    owner = "" if kind in ("image", "snapshot") else DEFAULT_ACCOUNT_ID
    return f"arn:aws:ec2:{call.region}:{owner}:{kind}/{name}"


def _tags_of_request(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    if not pairs:
        return {}
    return {
        "aws:TagKeys": [key for key, _ in pairs],
        **{f"aws:RequestTag/{key}": [value] for key, value in pairs},
    }
