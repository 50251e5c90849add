"""DescribeInstances that stays quick: moto writes an instance's XML at a change, not at every poll.

Somebody who follows a thousand jobs asks for a thousand instances every few seconds; moto takes two
milliseconds for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .backend import backend
from .calls import Call, Response, ec2_response

_INSTANCES_A_PAGE = 1000
_QUIET_ACTIONS = ("Describe", "Get", "RunInstances", "TerminateInstances")
_OPEN, _CLOSE = "<reservationSet>", "</reservationSet>"


class Descriptions:
    """What moto wrote, by the instances and states that it wrote it of. Callers hold the backend's lock."""

    def __init__(self) -> None:
        self._written: dict[tuple[tuple[str, str], ...], str] = {}

    def take_note_of(self, call: Call) -> None:
        """A call of EC2 was answered; most kinds may change anything."""
        if not call.action.startswith(_QUIET_ACTIONS):
            self._written.clear()

    def describe(self, call: Call, ask_moto: Callable[[Call], Response]) -> Response:
        """As moto answers, to the byte that matters."""
        if call.listed("InstanceId") or call.flag("DryRun"):
            return ask_moto(call)
        reservations = backend(call.region).describe_instances(filters=call.filters() or None)
        start = _start(call.params.get("NextToken"), [reservation.id for reservation in reservations])
        size = int(call.params.get("MaxResults") or _INSTANCES_A_PAGE)
        page = reservations[start : start + size]
        items = [self._item(call, reservation.instances, ask_moto) for reservation in page]
        more = page[-1].id if len(reservations) > start + size else ""
        token = f"<nextToken>{more}</nextToken>" if more else ""
        return ec2_response("DescribeInstances", f"{_OPEN}{''.join(items)}{_CLOSE}{token}")

    def _item(self, call: Call, instances: list[Any], ask_moto: Callable[[Call], Response]) -> str:
        key = tuple((each.id, each.state) for each in instances)
        if key not in self._written:
            params = {f"InstanceId.{number}": each.id for number, each in enumerate(instances, start=1)}
            params |= {name: call.params[name] for name in ("Action", "Version")}
            text = ask_moto(replace(call, params=params)).body.decode()
            self._written[key] = text.partition(_OPEN)[2].partition(_CLOSE)[0]
        return self._written[key]


def _start(token: str | None, ids: list[str]) -> int:
    return ids.index(token) + 1 if token in ids else 0
