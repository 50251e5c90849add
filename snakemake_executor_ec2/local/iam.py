"""What an IAM policy allows: AWS's evaluation of identity-based policies, for one policy. Pure.

By AWS's IAM guide ("Policy evaluation logic", "Condition operators", "Conditions with multiple context keys
or values"). What is not evaluated here, such as dates and addresses, is refused when the policy is read: a
condition that is not understood must not count as met.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

_ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_WITH_VARIABLES = "2012-10-17"

Context = Mapping[str, Sequence[str]]


class PolicyError(Exception):
    """A document that is no policy, or one that cannot be evaluated here."""


class Decision(Enum):
    """What comes of a request."""

    ALLOWED = "allowed"
    NOT_ALLOWED = "no statement allows it"
    DENIED = "a statement denies it"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One action on one resource. A call that touches several resources is several requests."""

    action: str
    resource: str
    """An ARN; `*` for an action that knows no resources."""
    context: Context
    """Condition keys and their values. Keys are compared without regard to case."""


@dataclass(frozen=True, kw_only=True)
class _Statement:
    allows: bool
    actions: tuple[str, ...]
    not_actions: bool
    resources: tuple[str, ...]
    not_resources: bool
    conditions: tuple[tuple[_Operator, str, tuple[str, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy document. Made by `parse`."""

    statements: tuple[_Statement, ...]
    variables: bool
    """Whether `${aws:username}` stands for a value."""

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Read a document. Raises PolicyError."""
        try:
            document = json.loads(text)
            statements = document["Statement"]
            rows = [statements] if isinstance(statements, dict) else list(statements)
            return cls(
                statements=tuple(_statement(row) for row in rows),
                variables=document.get("Version") == _WITH_VARIABLES,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PolicyError(f"not an IAM policy: {error!r}") from error

    def decide(self, request: Request) -> Decision:
        """A statement that denies beats all that allow; without any that allows it is denied as well."""
        context: dict[str, list[str]] = {}
        for key, values in request.context.items():
            context.setdefault(key.lower(), []).extend(values)
        effects = {each.allows for each in self.statements if self._applies(each, request, context)}
        if False in effects:
            return Decision.DENIED
        return Decision.ALLOWED if effects else Decision.NOT_ALLOWED

    def _applies(self, statement: _Statement, request: Request, context: Context) -> bool:
        def expand(values: Iterable[str]) -> list[str]:
            return _expand(values, context) if self.variables else list(map(_literal_variables, values))

        acts = any(_like(name, request.action.lower()) for name in statement.actions)
        touches = any(_like(arn, request.resource) for arn in expand(statement.resources))
        if acts is statement.not_actions or touches is statement.not_resources:
            return False
        return all(
            operator.holds(context.get(key, ()), expand(values))
            for operator, key, values in statement.conditions
        )


@dataclass(frozen=True)
class Policies:
    """All policies of one identity. One that denies beats all that allow."""

    each: tuple[Policy, ...]

    def decide(self, request: Request) -> Decision:
        """What comes of a request, as of one policy with all their statements."""
        decisions = {policy.decide(request) for policy in self.each}
        for decision in (Decision.DENIED, Decision.ALLOWED):
            if decision in decisions:
                return decision
        return Decision.NOT_ALLOWED


@dataclass(frozen=True, kw_only=True)
class _Operator:
    """A condition operator, with what its name adds: `ForAllValues:`, `Not`, `IfExists`."""

    same: Callable[[str, str], bool]
    """Of a policy's value and a request's."""
    negated: bool = False
    if_exists: bool = False
    is_null: bool = False
    for_all: bool = False
    for_any: bool = False

    def holds(self, given: Sequence[str], wanted: Sequence[str]) -> bool:
        """Whether a condition is met by the request's values of its key; none where it has no such key."""
        if self.is_null:
            return any((value.lower() == "true") is (not given) for value in wanted)
        if not given and self.if_exists:
            return True
        met = [self._meets(value, wanted) for value in given]
        if self.for_all:
            return all(met)
        if self.for_any or not self.negated:
            return any(met)
        return all(met)  # of a key that is missing, it is true that it has not the value

    def _meets(self, value: str, wanted: Sequence[str]) -> bool:
        """One of several values is enough; with a negated operator none may be the same."""
        return any(self.same(one, value) for one in wanted) is not self.negated


def _arn_like(pattern: str, arn: str) -> bool:
    """Each of an ARN's six parts is compared with its own."""
    patterns, parts = pattern.split(":", 5), arn.split(":", 5)
    return len(patterns) == len(parts) and all(map(_like, patterns, parts))


_SAME: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, given: _unmark(wanted) == given,
    "StringEqualsIgnoreCase": lambda wanted, given: _unmark(wanted).lower() == given.lower(),
    "StringLike": lambda wanted, given: _like(wanted, given),
    "Bool": lambda wanted, given: wanted.lower() == given.lower(),
    "ArnLike": _arn_like,
    "ArnEquals": _arn_like,
    "Null": lambda _wanted, _given: True,
}
_NEGATED = {name.replace("String", "StringNot", 1).replace("Arn", "ArnNot", 1): name for name in _SAME}


def _operator(name: str) -> _Operator:
    """Raises PolicyError for one that is not evaluated here."""
    sets, _, plain = name.rpartition(":")
    if_exists = plain.endswith("IfExists")
    plain = plain.removesuffix("IfExists")
    negated = plain not in _SAME and plain in _NEGATED
    base = _NEGATED[plain] if negated else plain
    if base not in _SAME or sets not in ("", "ForAllValues", "ForAnyValue") or (if_exists and base == "Null"):
        raise PolicyError(f"the condition operator {name} is not evaluated here")
    return _Operator(
        same=_SAME[base],
        negated=negated,
        if_exists=if_exists,
        is_null=base == "Null",
        for_all=sets == "ForAllValues",
        for_any=sets == "ForAnyValue",
    )


def _statement(row: dict[str, Any]) -> _Statement:
    unknown = set(row) - _ELEMENTS
    if unknown:
        raise PolicyError(f"elements that an identity's policy has not: {', '.join(sorted(unknown))}")
    if row["Effect"] not in ("Allow", "Deny"):
        raise PolicyError(f"Effect is {row['Effect']!r}, and has to be Allow or Deny")
    actions, not_actions = _either(row, "Action")
    resources, not_resources = _either(row, "Resource")
    return _Statement(
        allows=row["Effect"] == "Allow",
        actions=tuple(name.lower() for name in actions),
        not_actions=not_actions,
        resources=resources,
        not_resources=not_resources,
        conditions=tuple(
            (_operator(name), key.lower(), _listed(values))
            for name, keys in row.get("Condition", {}).items()
            for key, values in keys.items()
        ),
    )


def _either(row: dict[str, Any], name: str) -> tuple[tuple[str, ...], bool]:
    """`Action` or `NotAction`, and whether it is the second. Raises PolicyError for both or none."""
    if (name in row) is (f"Not{name}" in row):
        raise PolicyError(f"a statement has either {name} or Not{name}")
    return (_listed(row[name]), False) if name in row else (_listed(row[f"Not{name}"]), True)


def _listed(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(str(each).lower() if isinstance(each, bool) else str(each) for each in values)


# --- values with variables and wildcards ---------------------------------------------------

_MARKS = {"*": "\ue000", "?": "\ue001", "$": "\ue002"}
"""Stand for characters that mean themselves: those of `${*}`, and those that a variable's value has."""


def _mark(text: str) -> str:
    return "".join(_MARKS.get(char, char) for char in text)


def _unmark(text: str) -> str:
    for char, mark in _MARKS.items():
        text = text.replace(mark, char)
    return text


def _literal_variables(text: str) -> str:
    return text.replace("$", _MARKS["$"])


def _expand(values: Iterable[str], context: Context) -> list[str]:
    """Values with their variables replaced; one whose variable the request has not matches nothing."""
    found = []
    for text in values:
        with_all = True

        def put(match: re.Match[str]) -> str:
            nonlocal with_all
            name, _, default = (part.strip() for part in match[1].partition(","))
            if name in _MARKS:
                return _MARKS[name]
            given = context.get(name.lower(), ())
            with_all = with_all and bool(given or default)
            return _mark(given[0] if given else default.strip("'"))

        expanded = _VARIABLE.sub(put, text)
        if with_all:
            found.append(expanded)
    return found


def _like(pattern: str, text: str) -> bool:
    """`*` is any number of characters, also none; `?` is one."""
    parts = re.split(r"([*?])", pattern)
    regex = "".join({"*": ".*", "?": "."}.get(part, re.escape(_unmark(part))) for part in parts)
    return re.fullmatch(regex, text, re.DOTALL) is not None
