"""`FakeEc2Api`: a boto3 client of an EC2 in memory that keeps AWS's pace.

It is for what runs through `aws/` with more machines than moto can bear: requests and machines come out of
buckets, an answer takes its time, new machines are not shown at once, fewer may come than were asked for, and
an answer may be lost. What is in `user_data` is for the machines' side (`benchmarks/light.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from botocore.exceptions import ConnectionClosedError

from snakemake_executor_ec2.aws.clients import Clients
from snakemake_executor_ec2.ports import Clock
from tests.unit.aws.scripted import _Meta, client_error

REQUESTS = 5, 2.0
"""RunInstances: calls at once, and how many come back in a second."""
MACHINES = 1000, 2.0
TERMINATIONS = 1000, 20.0
TERMINATING = 100, 5.0
"""TerminateInstances: calls."""


class Bucket:
    """AWS's token bucket. The caller holds a lock."""

    def __init__(self, most: float, per_s: float, clock: Clock) -> None:
        self._most = self._there = most
        self._per_s = per_s
        self._clock = clock
        self._at = clock.monotonic()

    def take(self, count: int) -> bool:
        now = self._clock.monotonic()
        self._there = min(self._most, self._there + (now - self._at) * self._per_s)
        self._at = now
        if self._there < count:
            return False
        self._there -= count
        return True


class FakeEc2Api:
    """Threads share it. Its attributes may be changed while it works."""

    def __init__(self, clock: Clock) -> None:
        self.calls: list[tuple[str, dict[str, Any], float]] = []
        """Operation, parameters and time of every call, those that were refused, too."""
        self.machines: dict[str, dict[str, Any]] = {}
        """Rows of DescribeInstances by id, with `UserData`; `Began` and `Ended` by the monotonic clock."""
        self.capacity: int | None = None
        """So many machines can be alive; None: any number."""
        self.limit: int | None = None
        """The account's: a call that would go beyond it starts nothing."""
        self.lose_replies = 0
        """So many launches start their machines, and their answers are lost."""
        self.network = "198.18"
        """What their addresses begin with."""
        self.pending_s = 8.0
        self.hidden_s = 1.0
        self.ending_s = 20.0
        self.takes_s: Mapping[str, float] = {}
        """How long an operation takes."""
        self.meta = _Meta()
        self._clock = clock
        self._lock = threading.Lock()
        self._by_token: dict[str, tuple[dict[str, Any], list[str]]] = {}
        self._requests = Bucket(*REQUESTS, clock)
        self._starts = Bucket(*MACHINES, clock)
        self._ends = Bucket(*TERMINATIONS, clock)
        self._ending = Bucket(*TERMINATING, clock)

    @property
    def alive(self) -> list[str]:
        """Machines that are billed."""
        with self._lock:
            return [name for name, row in self.machines.items() if row["Ended"] is None]

    def called(self, operation: str) -> list[dict[str, Any]]:
        """The parameters of an operation's calls."""
        with self._lock:
            return [parameters for name, parameters, _ in self.calls if name == operation]

    # --- the operations -------------------------------------------------------------------

    def run_instances(self, **request: Any) -> dict[str, Any]:
        with self._noted("run_instances", request):
            if not self._requests.take(1):
                raise client_error("RequestLimitExceeded", status=503)
            token = request["ClientToken"]
            known = self._by_token.get(token)
            if known is not None and known[0] != request:
                raise client_error("IdempotentParameterMismatch")
            names = known[1] if known else self._start(request)
            self._by_token[token] = request, names
            if self.lose_replies:
                self.lose_replies -= 1
                raise ConnectionClosedError(endpoint_url="https://ec2")
            return {"Instances": [self._row(each) for each in names]}

    def terminate_instances(self, **request: Any) -> dict[str, Any]:
        with self._noted("terminate_instances", request):
            names = request["InstanceIds"]
            if not (self._ending.take(1) and self._ends.take(len(names))):
                raise client_error("RequestLimitExceeded", status=503)
            for each in names:
                row = self.machines[each]
                row["Ended"] = row["Ended"] or self._clock.monotonic()
                row["StateReason"] = {"Code": "Client.UserInitiatedShutdown", "Message": ""}
        return {}

    def describe_instance_status(self, **request: Any) -> dict[str, Any]:
        with self._noted("describe_instance_status", request):
            return {"InstanceStatuses": []}

    def get_paginator(self, operation: str) -> _Pages:
        assert operation == "describe_instances"
        return _Pages(self._described)

    def create_security_group(self, **request: Any) -> dict[str, Any]:
        with self._noted("create_security_group", request):
            return {"GroupId": "sg-1"}

    def authorize_security_group_ingress(self, **request: Any) -> dict[str, Any]:
        with self._noted("authorize_security_group_ingress", request):
            return {}

    def delete_security_group(self, **request: Any) -> dict[str, Any]:
        with self._noted("delete_security_group", request):
            return {}

    def describe_security_groups(self, **request: Any) -> dict[str, Any]:
        with self._noted("describe_security_groups", request):
            return {"SecurityGroups": []}

    # --- helpers; the lock is held -----------------------------------------------------------

    def _noted(self, operation: str, request: dict[str, Any]) -> threading.Lock:
        if seconds := self.takes_s.get(operation):
            self._clock.sleep(seconds)
        with self._lock:
            self.calls.append((operation, request, self._clock.monotonic()))
        return self._lock

    def _start(self, request: dict[str, Any]) -> list[str]:
        count = request["MaxCount"]
        alive = sum(row["Ended"] is None for row in self.machines.values())
        if self.limit is not None and alive + count > self.limit:
            raise client_error("VcpuLimitExceeded")
        if self.capacity is not None:
            count = min(count, self.capacity - alive)
        if count < request["MinCount"]:
            raise client_error("InsufficientInstanceCapacity", status=500)
        if not self._starts.take(count):
            raise client_error("RequestLimitExceeded", status=503)
        first = len(self.machines)
        tags = request["TagSpecifications"][0]["Tags"]
        names = [f"i-{number:017x}" for number in range(first + 1, first + count + 1)]
        for index, name in enumerate(names):
            number = first + index
            self.machines[name] = {
                "InstanceId": name,
                "InstanceType": request["InstanceType"],
                "AmiLaunchIndex": index,
                "ClientToken": request["ClientToken"],
                "LaunchTime": datetime.fromtimestamp(self._clock.now(), UTC),
                "Tags": tags,
                "Address": f"{self.network}.{number // 250}.{number % 250 + 1}",
                "UserData": request["UserData"],
                "Began": self._clock.monotonic(),
                "Ended": None,
            }
        return names

    def _row(self, name: str) -> dict[str, Any]:
        row = self.machines[name]
        now = self._clock.monotonic()
        state = "pending" if now - row["Began"] < self.pending_s else "running"
        if row["Ended"] is not None:
            state = "shutting-down" if now - row["Ended"] < self.ending_s else "terminated"
        own = {
            key: value for key, value in row.items() if key not in ("Address", "UserData", "Began", "Ended")
        }
        shown = {"PublicIpAddress": row["Address"]} if state == "running" else {}
        return {**own, "State": {"Name": state}, **shown}

    def _described(self, request: dict[str, Any]) -> dict[str, Any]:
        wanted = {each["Name"]: set(each["Values"]) for each in request["Filters"]}
        with self._noted("describe_instances", request):
            now = self._clock.monotonic()
            rows = [
                self._row(name)
                for name, row in self.machines.items()
                if now - row["Began"] >= self.hidden_s
                and (not (ids := wanted.get("instance-id")) or name in ids)
            ]
        states = wanted.get("instance-state-name")
        fitting = [row for row in rows if not states or row["State"]["Name"] in states]
        for name, values in wanted.items():
            if name.startswith("tag:"):
                pair = [{"Key": name.removeprefix("tag:"), "Value": value} for value in values]
                fitting = [row for row in fitting if any(each in row["Tags"] for each in pair)]
        return {"Reservations": [{"Instances": fitting}]}


class _Pages:
    def __init__(self, ask: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._ask = ask

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        yield self._ask(request)


class FakeClients:
    """`Clients` with that one client."""

    region = "us-east-1"
    account = None

    def __init__(self, api: FakeEc2Api) -> None:
        self.ec2 = self.ec2_once = api

    @property
    def as_clients(self) -> Clients:
        return cast("Clients", self)

    def require_credentials(self) -> None:
        """There are some."""
