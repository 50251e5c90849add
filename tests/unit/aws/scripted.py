"""EC2 that answers from a script, for what neither moto nor AWS does on request: errors."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, cast

import botocore.session
from botocore import xform_name
from botocore.exceptions import ClientError

from snakemake_executor_ec2.aws.clients import Clients

Answer = dict[str, Any] | Exception | Callable[..., dict[str, Any]]


def client_error(code: str, message: str = "said so", *, status: int = 400) -> ClientError:
    """An error as boto3 raises it."""
    return ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},  # type: ignore[typeddict-item]
        },
        "Operation",
    )


class ScriptedEc2:
    """A boto3 client whose operations answer what a test has put in line; the last answer stays."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        """Operation and parameters of every call, in order."""
        self._script: dict[str, list[Answer]] = defaultdict(list)
        self._lock = threading.Lock()
        self.meta = _Meta()

    def answer(self, operation: str, *answers: Answer) -> None:
        """Put answers in line: dictionaries, exceptions, or functions of the parameters."""
        if operation not in _operations():
            raise AssertionError(f"AWS has no operation {operation!r}, so nobody would ask for it")
        self._script[operation].extend(answers)

    def called(self, operation: str) -> list[dict[str, Any]]:
        """The parameters of an operation's calls."""
        return [parameters for name, parameters in self.calls if name == operation]

    def get_paginator(self, operation: str) -> ScriptedPaginator:
        return ScriptedPaginator(self, operation)

    def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.calls.append((operation, parameters))
            line = self._script[operation]
            if not line:
                raise AssertionError(f"no answer for {operation}")
            found = line.pop(0) if len(line) > 1 else line[0]
        if isinstance(found, Exception):
            raise found
        return found(**parameters) if callable(found) else found

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        return lambda **parameters: self.call(operation, parameters)


class ScriptedPaginator:
    """One page for each call."""

    def __init__(self, client: ScriptedEc2, operation: str) -> None:
        self._client = client
        self._operation = operation

    def paginate(self, **parameters: Any) -> Iterator[dict[str, Any]]:
        yield self._client.call(self._operation, parameters)


class _Meta:
    """The part of a client that tells which parameters botocore knows."""

    endpoint_url = "http://127.0.0.1:9"

    @property
    def service_model(self) -> Any:
        return _ec2_model()


@cache
def _operations() -> frozenset[str]:
    """What may be asked, by boto3's names."""
    session = botocore.session.Session()
    models = [_ec2_model(), *(session.get_service_model(name) for name in ("ssm", "pricing", "sts"))]
    return frozenset(xform_name(each) for model in models for each in model.operation_names)


@cache
def _ec2_model() -> Any:
    return botocore.session.Session().get_service_model("ec2")


class ScriptedClients:
    """`Clients` with one scripted client for everything."""

    def __init__(self) -> None:
        self.ec2 = self.ec2_once = self.ssm = self.pricing = ScriptedEc2()
        self.region = "us-east-1"

    @property
    def as_clients(self) -> Clients:
        return cast("Clients", self)


def reservations(*instances: dict[str, Any]) -> dict[str, Any]:
    """DescribeInstances' answer."""
    return {"Reservations": [{"Instances": list(instances)}]}


def instance(machine_id: str, state: str = "running", **more: Any) -> dict[str, Any]:
    """One instance of it."""
    return {"InstanceId": machine_id, "State": {"Name": state}, **more}
