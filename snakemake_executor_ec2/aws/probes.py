"""Calls that show whether they are allowed, and do nothing: DryRun, a read of one row, IAM's simulator."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from botocore import xform_name
from botocore.exceptions import ClientError

from snakemake_executor_ec2.aws.errors import AWS_ERRORS, code_of, is_denied, is_transient, translate
from snakemake_executor_ec2.aws.images import NEWEST_PARAMETER
from snakemake_executor_ec2.model import Arch
from snakemake_executor_ec2.tags import RUN_TAG

if TYPE_CHECKING:
    from snakemake_executor_ec2.aws.clients import Clients

_WOULD_HAVE_WORKED = "DryRunOperation"
_REFUSED = re.compile(r"not authorized to perform: ([\w-]+:\w+)(?: on resource: (\S+))?")
_DENY = re.compile(r"with an explicit deny in an? ([\w -]+?policy)")
# Nothing has these ids: what may be done with a thing of ours is not tried on one that works.
_NO_MACHINE = "i-0123456789abcdef0"
_NO_GROUP = "sg-0123456789abcdef0"
_STANDARD_VCPUS = "L-1216C47A"


class Verdict(Enum):
    """Whether a permission is there."""

    GRANTED = "granted"
    MISSING = "missing"
    UNKNOWN = "not tested"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a probe brought to light."""

    verdict: Verdict
    action: str = ""
    """What is missing, which need not be the call's own action: `iam:PassRole`, `ec2:CreateTags`."""
    resource: str = ""
    """The ARN on which it is missing, if AWS says so."""
    denied_by: str = ""
    """The kind of policy that forbids it expressly, such as `service control policy`: then nothing that
    is granted helps."""
    error: str = ""
    """Why the call would fail although it is allowed, or why there was no answer."""


GRANTED = Answer(verdict=Verdict.GRANTED)


class Probes:
    """Made without any I/O. No method raises an error of AWS."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def look(self, action: str) -> Answer:
        """A read of the policy's: EC2's by DryRun, those of other services by the call itself."""
        calls: dict[str, Callable[[], object]] = {
            "pricing:GetProducts": lambda: self._clients.pricing.get_products(
                ServiceCode="AmazonEC2",
                MaxResults=1,
                Filters=[
                    {"Type": "TERM_MATCH", "Field": "regionCode", "Value": self._clients.region},
                    {"Type": "TERM_MATCH", "Field": "instanceType", "Value": "m5.large"},
                ],
            ),
            "servicequotas:GetServiceQuota": lambda: self._clients.service_quotas.get_service_quota(
                ServiceCode="ec2", QuotaCode=_STANDARD_VCPUS
            ),
            "ssm:GetParameter": lambda: self._clients.ssm.get_parameter(
                Name=NEWEST_PARAMETER.format(arch=Arch.X86_64.value)
            ),
        }
        return _answer(calls.get(action) or (lambda: self._dry_run(action)), action)

    def use(self, action: str) -> Answer:
        """Something that is done with a run's machine or group, tried on one that there is not. Only
        `GRANTED` tells: what there is not has no tag either, which the permission may depend on."""
        given: Mapping[str, Mapping[str, Any]] = {
            "ec2:TerminateInstances": {"InstanceIds": [_NO_MACHINE]},
            "ec2:GetConsoleOutput": {"InstanceId": _NO_MACHINE},
            "ec2:DeleteSecurityGroup": {"GroupId": _NO_GROUP},
            "ec2:AuthorizeSecurityGroupIngress": {
                "GroupId": _NO_GROUP,
                "IpPermissions": [
                    {
                        "IpProtocol": "tcp",
                        "FromPort": 22,
                        "ToPort": 22,
                        "IpRanges": [{"CidrIp": "192.0.2.1/32"}],
                    }
                ],
            },
        }
        return _answer(lambda: self._dry_run(action, **given[action]), action)

    def make_group(self, vpc_id: str | None) -> Answer:
        """A run's security group, which is not made."""
        tags = [{"Key": RUN_TAG, "Value": "doctor"}, {"Key": "Name", "Value": "snakemake-ec2-doctor"}]
        given: dict[str, Any] = {
            "GroupName": "snakemake-ec2-doctor",
            "Description": "Snakemake: a trial, not made",
            "TagSpecifications": [{"ResourceType": "security-group", "Tags": tags}],
        }
        if vpc_id is not None:
            given["VpcId"] = vpc_id
        return _answer(lambda: self._dry_run("ec2:CreateSecurityGroup", **given), "ec2:CreateSecurityGroup")

    def launch(self, request: Mapping[str, Any]) -> Answer:
        """A machine (see `run_instances_request`), which is not launched."""
        return _answer(lambda: self._dry_run("ec2:RunInstances", **request), "ec2:RunInstances")

    def simulate(self, who: str, action: str, resources: Sequence[str], context: Mapping[str, str]) -> Answer:
        """What IAM's simulator says to an action on all of some resources. `who` is the ARN of a user or
        role, `context` are condition keys with their values. `UNKNOWN`, with `action` set, if the simulator
        may not be asked."""
        entries = [
            {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
            for key, value in context.items()
        ]
        try:
            found = self._clients.iam.simulate_principal_policy(
                PolicySourceArn=who,
                ActionNames=[action],
                ResourceArns=list(resources),
                ContextEntries=entries,
            )["EvaluationResults"]
        except AWS_ERRORS as error:
            asked = "iam:SimulatePrincipalPolicy"
            told = translate(error, asked).message
            return Answer(verdict=Verdict.UNKNOWN, action=asked if is_denied(error) else "", error=told)
        refused = [row for row in found if row["EvalDecision"] != "allowed"]
        if found and not refused:
            return GRANTED
        if not found:
            return Answer(verdict=Verdict.UNKNOWN, error="IAM's simulator gave no answer")
        expressly = any(row["EvalDecision"] == "explicitDeny" for row in refused)
        return Answer(
            verdict=Verdict.MISSING,
            action=action,
            resource=_refused_resource(refused[0]),
            denied_by="policy" if expressly else "",
        )

    def role_arn(self, name: str) -> str | None:
        """A role's own ARN, which has a path that its sessions' ARNs lack; None if IAM does not say."""
        try:
            return str(self._clients.iam.get_role(RoleName=name)["Role"]["Arn"])
        except AWS_ERRORS:
            return None

    def _dry_run(self, action: str, **given: Any) -> None:
        method = getattr(self._clients.ec2, xform_name(action.partition(":")[2]))
        method(DryRun=True, **given)


def _answer(call: Callable[[], object], action: str) -> Answer:
    try:
        call()
    except ClientError as error:
        return _judged(error, action)
    except AWS_ERRORS as error:
        return Answer(verdict=Verdict.UNKNOWN, error=translate(error, action).message)
    return GRANTED


def _judged(error: ClientError, action: str) -> Answer:
    if code_of(error) == _WOULD_HAVE_WORKED:
        return GRANTED
    told = translate(error, action).message
    if not is_denied(error):
        # Whether EC2 looks at permissions before it looks at anything else is not documented.
        return Answer(verdict=Verdict.UNKNOWN, error="" if is_transient(error) else told)
    text = str(error.response.get("Error", {}).get("Message", ""))
    refused, deny = _REFUSED.search(text), _DENY.search(text)
    return Answer(
        verdict=Verdict.MISSING,
        action=refused[1] if refused else action,
        resource=(refused[2] or "") if refused else "",
        denied_by=deny[1] if deny else "",
    )


def _refused_resource(row: Mapping[str, Any]) -> str:
    """Of a simulator's result; the newer form has one for each resource in it."""
    for each in row.get("ResourceSpecificResults", ()):
        if each["EvalResourceDecision"] != "allowed":
            return str(each["EvalResourceName"])
    return str(row.get("EvalResourceName", ""))
