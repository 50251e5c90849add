"""What EC2 says of the run's machines: one call for all of them, shared by all threads."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from snakemake_executor_ec2.aws.errors import AWS_ERRORS, AwsError, is_transient, translate
from snakemake_executor_ec2.model import MachineState, MachineStatus
from snakemake_executor_ec2.ports import Clock
from snakemake_executor_ec2.tags import RUN_TAG
from snakemake_executor_ec2.timing import growing_s

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

    from snakemake_executor_ec2.aws.clients import Clients

MAX_AGE_S = 2.0
"""How old an answer may be (twice as old for hundreds of machines). It is also the least time between two
calls."""
GONE_AFTER_S = 60.0
"""A machine that was seen and then is absent for this long counts as gone."""

_MAX_BACKOFF_S = 30.0
_PAGE = 1000
_VALUES = 200
"""What one filter takes at most."""
_MANY = 500
"""To read what EC2 says of 1,000 machines takes a second of CPU: above so many it is asked half as often."""
_AT_WORK = (MachineState.PENDING, MachineState.RUNNING)


class StatusBoard:
    """The last answer of DescribeInstances, asked for again when a thread needs a newer one.

    EC2 goes on to list machines that have ended, for an hour: it is asked for those at work, and then, by
    their ids, for those that it has not shown, until it says how they ended.
    """

    def __init__(self, clients: Clients, *, run_id: str, clock: Clock, private: bool = False) -> None:
        """`private`: machines are reached at their private addresses, also if they have public ones."""
        self._clients = clients
        self._run_id = run_id
        self._clock = clock
        self._lock = threading.Lock()
        self._next_call = 0.0
        self._answered_at = 0.0
        self._failures = 0
        self._known: dict[str, MachineStatus] = {}
        self._seen_at: dict[str, float] = {}
        self._private = private
        self._public: set[str] = set()
        self._asked: set[str] = set()
        """Since the last call."""
        self._ending: set[str] = set()
        self._covered: set[str] = set()
        """By the last answer: what it does not show of these is not there."""
        self._launched_at: dict[str, float] = {}
        self._addresses: dict[str, str] = {}
        """Private ones."""

    def launched(self, machine_id: str) -> None:
        """This machine has just been launched: it takes EC2 a moment to show it."""
        with self._lock:
            self._launched_at[machine_id] = self._clock.monotonic()

    def ending(self, machine_ids: Collection[str]) -> None:
        """We have ended these: no other machine is to reach them any more. EC2 is asked about them only if
        somebody else asks."""
        with self._lock:
            self._ending.update(machine_ids)

    def expect_public(self, machine_id: str) -> None:
        """This machine gets a public address: its private one is not to be used before."""
        self._public.add(machine_id)

    def status(self, machine_id: str) -> MachineStatus:
        """See `Cloud.status`. Failures that pass leave the last answer standing; others raise."""
        with self._lock:
            now = self._clock.monotonic()
            self._asked.add(machine_id)
            if now >= self._next_call or self._is_overlooked(machine_id, now):
                self._refresh(now)
            return self._status(machine_id)

    def private_address(self, machine_id: str) -> str | None:
        """See `Cloud.private_address`."""
        if machine_id in self._ending or self.status(machine_id).state.is_gone:
            return None
        with self._lock:
            if machine_id not in self._addresses:
                self._refresh(self._clock.monotonic())  # it was launched since the last answer
            return self._addresses.get(machine_id)

    def _is_overlooked(self, machine_id: str, now: float) -> bool:
        """Whether EC2 was not asked about a machine when it has answered last: one that has ended."""
        new = now - self._launched_at.get(machine_id, -MAX_AGE_S) < MAX_AGE_S
        return self._failures == 0 and not new and machine_id not in self._covered

    def _status(self, machine_id: str) -> MachineStatus:
        status = self._known.get(machine_id)
        if status is None:
            # EC2's answers lag behind its own launches: not (yet) shown is not gone.
            return MachineStatus(state=MachineState.UNKNOWN)
        missing_s = self._clock.monotonic() - self._seen_at[machine_id]
        if missing_s > GONE_AFTER_S and self._failures == 0:
            return MachineStatus(state=MachineState.TERMINATED, reason=status.reason)
        return status

    def _refresh(self, now: float) -> None:
        try:
            rows = describe_run(self._clients.ec2_once, self._run_id, _AT_WORK)
            shown = {row["InstanceId"] for row in rows}
            unshown = self._unshown(shown)
            rows += _by_id(self._clients.ec2_once, unshown)
        except AWS_ERRORS as error:
            self._back_off(error, now)
            return
        self._asked.clear()
        self._covered = shown.union(unshown, self._over)
        asked_at = self._clock.monotonic()
        self._next_call = asked_at + MAX_AGE_S * (2 if len(rows) > _MANY else 1)
        if self._failures or asked_at - self._answered_at > GONE_AFTER_S / 2:
            # Nobody looked for a while: absence counts from now on.
            self._failures = 0
            self._seen_at = dict.fromkeys(self._seen_at, asked_at)
        self._answered_at = asked_at
        for row in rows:
            machine_id = row["InstanceId"]
            self._known[machine_id] = status_of(row, public=machine_id in self._public, private=self._private)
            self._seen_at[machine_id] = asked_at
            if private := row.get("PrivateIpAddress"):
                self._addresses[machine_id] = private

    def _unshown(self, shown: set[str]) -> list[str]:
        """Machines that are not at work, as far as EC2 has shown, and whose end it has not told yet."""
        return sorted((self._known.keys() - self._ending | self._asked) - self._over - shown)

    @property
    def _over(self) -> set[str]:
        return {name for name, status in self._known.items() if status.state is MachineState.TERMINATED}

    def _back_off(self, error: AwsError, now: float) -> None:
        if not is_transient(error):
            raise translate(error, "ec2:DescribeInstances") from error
        self._failures += 1
        self._next_call = now + growing_s(self._failures, MAX_AGE_S, _MAX_BACKOFF_S)


def describe_run(ec2: EC2Client, run_id: str, states: tuple[MachineState, ...] = ()) -> list[InstanceTypeDef]:
    """The run's instances, all or those in some states. Raises boto3's errors."""
    filters: list[dict[str, object]] = [{"Name": f"tag:{RUN_TAG}", "Values": [run_id]}]
    if states:
        filters.append({"Name": "instance-state-name", "Values": [each.value for each in states]})
    return _described(ec2, filters)


def _by_id(ec2: EC2Client, machine_ids: Sequence[str]) -> list[InstanceTypeDef]:
    """Those of some instances that EC2 knows. Raises boto3's errors."""
    return [
        row
        for first in range(0, len(machine_ids), _VALUES)
        for row in _described(ec2, [{"Name": "instance-id", "Values": machine_ids[first : first + _VALUES]}])
    ]


def describe_machine(ec2: EC2Client, machine_id: str) -> list[InstanceTypeDef]:
    """One instance, if EC2 knows it (a filter is no error if it fits none). Raises boto3's errors."""
    return _by_id(ec2, [machine_id])


def _described(ec2: EC2Client, filters: list[dict[str, object]]) -> list[InstanceTypeDef]:
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=filters,  # type: ignore[arg-type]
        PaginationConfig={"PageSize": _PAGE},
    )
    return [
        instance
        for page in pages
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    ]


def status_of(row: InstanceTypeDef, *, public: bool, private: bool = False) -> MachineStatus:
    """One instance of DescribeInstances. With `public`, its private address is left out until it
    runs: the public one comes a moment later, and the private one may be somebody else's here.
    `private`: no other is wanted."""
    state = MachineState(row["State"]["Name"])
    address = None if private else row.get("PublicIpAddress")
    if not address and (private or not (public and state is MachineState.PENDING)):
        address = row.get("PrivateIpAddress")
    why = row.get("StateReason", {})
    return MachineStatus(
        state=state, address=address or None, reason=why.get("Code", ""), message=why.get("Message", "")
    )
