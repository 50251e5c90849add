"""IAM's SimulatePrincipalPolicy: what the cloud's policy would say to actions that nobody carries out."""

from __future__ import annotations

from xml.sax.saxutils import escape

from ..iam import Decision, Policy
from .authorize import request_of
from .calls import Call, Response, query_response

_WORDS = {
    Decision.ALLOWED: "allowed",
    Decision.NOT_ALLOWED: "implicitDeny",
    Decision.DENIED: "explicitDeny",
}


def principal_policy(policy: Policy | None, call: Call) -> Response:
    """The decision on each action and resource, with the context that the call names. As IAM does today:
    one result for each action, with the strictest decision and those on the resources."""
    resources = call.listed("ResourceArns.member") or ["*"]
    context = _context(call)
    results = []
    for action in call.listed("ActionNames.member"):
        decisions = {
            each: Decision.ALLOWED
            if policy is None
            else policy.decide(request_of(call, action, each, context))
            for each in resources
        }
        strictest = max(decisions.values(), key=list(_WORDS).index)
        results.append(_result(action, strictest, decisions))
    content = f"<IsTruncated>false</IsTruncated><EvaluationResults>{''.join(results)}</EvaluationResults>"
    return query_response(
        "SimulatePrincipalPolicy", content, namespace="https://iam.amazonaws.com/doc/2010-05-08/"
    )


def _context(call: Call) -> dict[str, list[str]]:
    found, number = {}, 1
    while name := call.params.get(f"ContextEntries.member.{number}.ContextKeyName"):
        prefix = f"ContextEntries.member.{number}.ContextKeyValues.member"
        found[str(name)] = call.listed(prefix)
        number += 1
    return found


def _result(action: str, strictest: Decision, decisions: dict[str, Decision]) -> str:
    each = "".join(
        f"<member><EvalResourceName>{escape(resource)}</EvalResourceName>"
        f"<EvalResourceDecision>{_WORDS[decision]}</EvalResourceDecision></member>"
        for resource, decision in decisions.items()
    )
    return (
        f"<member><EvalActionName>{escape(action)}</EvalActionName>"
        f"<EvalResourceName>{escape(next(iter(decisions)))}</EvalResourceName>"
        f"<EvalDecision>{_WORDS[strictest]}</EvalDecision>"
        f"<ResourceSpecificResults>{each}</ResourceSpecificResults></member>"
    )
