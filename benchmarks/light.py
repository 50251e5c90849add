"""Light hosts: EC2's machines, hundreds in one process, that cost time and nothing else.

A run that is told to use them (`light_hosts`) is a whole one: Snakemake, the executor, its journal, `aws/`
with its calls to EC2, the agent's commands and archives. What answers is `FakeEc2Api`, which keeps AWS's
pace, and machines that know the agent's commands and take as long for each as was measured on EC2: they boot,
install software and run jobs by waiting. Left out are sshd, the network's bandwidth, and what botocore needs
to read an answer of AWS's.
"""

from __future__ import annotations

import json
import re
import shlex
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, TypeVar, cast
from unittest.mock import patch

import yaml

from snakemake_executor_ec2.agent.archive import Entry, write_archive
from snakemake_executor_ec2.aws.network import Subnet
from snakemake_executor_ec2.errors import ConnectError, ConnectionLost, HostKeyMismatch
from snakemake_executor_ec2.model import KeyPair
from snakemake_executor_ec2.ports import ANSWER_BYTES, Completed
from snakemake_executor_ec2.timing import SystemClock
from tests.fakes.cloud import FakeCloud
from tests.fakes.ec2_api import FakeClients, FakeEc2Api

T = TypeVar("T")

_COMMAND = re.compile(r'agent\.pyz" (.*)')
_NEW_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{:020d}"
_FREE_MIB = 20_000


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What EC2 is like, times in seconds. The defaults are those of Amazon Linux 2023."""

    boot: float = 25.0
    software: float = 40.0
    command: float = 0.2
    """One of the agent's: a Python start and three round trips of 30 ms."""
    request: float = 0.06
    """The same, if it is asked for in a conversation: a process and a round trip."""
    connect: float = 0.3
    job: float = 10.0
    limit: int | None = None
    """So many machines the account may have; None: any number."""
    calls: Mapping[str, float] = field(
        default_factory=lambda: {
            "run_instances": 1.5,
            "describe_instances": 0.3,
            "terminate_instances": 0.5,
        }
    )


class LightMachine:
    """What a machine knows and does, by the agent's commands; any transport may ask."""

    def __init__(self, host_key: str, costs: Costs, number: int = 0) -> None:
        self.host_key = host_key
        self.costs = costs
        self.new_key = _NEW_KEY.format(number)
        self._has_software = False
        self._ends: dict[str, float] = {}

    def answer(self, command: str, stdin: bytes, *, took_s: float | None = None) -> bytes:
        """What a command prints that ends at once."""
        time.sleep(self.costs.command if took_s is None else took_s)
        name = self.arguments(command)[0]
        request = json.loads(stdin or b"{}") if name in ("workdir", "start", "pack") else {}
        return b"\n" + json.dumps(self._answer(name, request)).encode() + b"\n"

    @staticmethod
    def arguments(command: str) -> list[str]:
        """The agent's arguments; `install` for the command that brings it."""
        found = _COMMAND.search(command)
        return shlex.split(found.group(1)) if found else ["install"]

    def _answer(self, name: str, request: Mapping[str, Any]) -> dict[str, Any]:
        match name:
            case "guard":
                return {"now": time.time()}
            case "new-host-key":
                return {"host_key": self.new_key}
            case "rotate-host-key":
                self.host_key = self.new_key
            case "software":
                if not self._has_software:
                    time.sleep(self.costs.software)
                self._has_software = True
                took = self.costs.software
                return {"python": "/usr/bin/python3", "path": [], "how": "uv", "seconds": took, "locked": []}
            case "workdir":
                return {"answers": [{"ok": True}] * (len(request["paths"]) + len(request["parents"]))}
            case "take":
                return {"there": []}
            case "start":
                self._ends.setdefault(request["key"], time.monotonic() + self.costs.job)
                return {"state": "running"}
            case "left":
                return {"files": []}
            case "clean":
                return {"changed": "", "free_mib": _FREE_MIB}
        return {}

    def left_s(self, command: str) -> float:
        """How long the job of a `follow` still runs."""
        return self._ends[self.arguments(command)[1]] - time.monotonic()

    def ended(self) -> bytes:
        """What `follow` prints when it has."""
        usage = {"peak_mem_mib": 10, "cpu_seconds": 0.1, "peak_disk_mib": 1}
        event = {"type": "finished", "t": time.time(), "exit_code": 0, "failure": None, **usage}
        return json.dumps({"at": [0, 0], "event": {**event, "seconds": self.costs.job}}).encode()

    def pack(self, stdin: bytes, stream: BinaryIO) -> None:
        """The archive of what is asked for: all that must be there is."""
        time.sleep(self.costs.command)
        request = json.loads(stdin)
        found = {path: {"kind": "missing"} for path in request["paths"]}
        found |= {path: {"kind": "file", "bytes": 5} for path in request["must"]}
        with NamedTemporaryFile() as file:
            file.write(b"done\n")
            file.flush()
            entries = (Entry(file.name, path) for path in request["must"])
            write_archive(stream, entries, begin={"paths": found})


PULSE = b'{"at": [0, 0], "pulse": true}'
"""The answer of `follow` to a heartbeat."""


class LightConnector:
    """`ports.Connector` to the machines of an API."""

    def __init__(self, api: FakeEc2Api, costs: Costs) -> None:
        self._api = api
        self._costs = costs
        self._lock = threading.Lock()
        self._machines: dict[str, LightMachine] = {}
        self._by_address: dict[str, str] = {}

    def connect(
        self,
        address: str,
        *,
        name: str = "",  # noqa: ARG002 - the address will do
        host_keys: Collection[str],
        timeout_s: float,  # noqa: ARG002 - it answers or not
    ) -> LightHost:
        """See the port."""
        machine_id, machine = self._machine(address)
        row = self._api.machines[machine_id]
        if row["Ended"] is not None or time.monotonic() - row["Began"] < self._costs.boot:
            raise ConnectError(f"{address} does not answer.")
        time.sleep(self._costs.connect)
        if machine.host_key not in host_keys:
            raise HostKeyMismatch(f"The computer that answers at {address} is not the run's machine.")
        return LightHost(machine, lambda: row["Ended"] is not None)

    def _machine(self, address: str) -> tuple[str, LightMachine]:
        with self._lock:
            if address not in self._by_address:
                self._by_address |= {row["Address"]: name for name, row in [*self._api.machines.items()]}
            machine_id = self._by_address[address]
            if machine_id not in self._machines:
                config = yaml.load(self._api.machines[machine_id]["UserData"], yaml.CSafeLoader)
                first = config["ssh_keys"]["ed25519_public"]
                self._machines[machine_id] = LightMachine(first, self._costs, len(self._machines))
            return machine_id, self._machines[machine_id]


class LightHost:
    """`ports.RemoteHost` on a light machine."""

    round_trip_s = 0.0
    bulk_bytes = 0

    def __init__(self, machine: LightMachine, is_gone: Callable[[], bool]) -> None:
        self._machine = machine
        self._is_gone = is_gone
        self._closed = threading.Event()

    def run(
        self,
        command: str,
        *,
        stdin: bytes = b"",
        timeout_s: float | None = None,  # noqa: ARG002 - it answers
        most_bytes: int = ANSWER_BYTES,  # noqa: ARG002 - briefly
    ) -> Completed:
        """See the port."""
        self._check()
        answer = self._machine.answer(command, stdin)
        self._check()
        return Completed(exit_code=0, stdout=answer, stderr=b"")

    def pin(self, host_keys: Collection[str]) -> None:
        """See the port."""

    def upload(
        self,
        command: str,
        write: Callable[[BinaryIO], None],
        *,
        bulk: bool = False,  # noqa: ARG002 - it is little
    ) -> Completed:
        """See the port."""
        write(cast("BinaryIO", BytesIO()))
        return self.run(command)

    def download(
        self,
        command: str,  # noqa: ARG002 - there is one
        read: Callable[[BinaryIO], T],
        *,
        stdin: bytes = b"",
        bulk: bool = False,  # noqa: ARG002 - as above
    ) -> T:
        """See the port."""
        self._check()
        stream = BytesIO()
        self._machine.pack(stdin, stream)
        stream.seek(0)
        return read(stream)

    def lines(
        self,
        command: str,
        *,
        heartbeat_s: float | None = None,
        silence_s: float | None = None,  # noqa: ARG002 - it is never silent
    ) -> Iterator[bytes]:
        """See the port."""
        pulse_s = heartbeat_s or 60.0
        while (left := self._machine.left_s(command)) > 0:
            self._closed.wait(min(left, pulse_s))
            self._check()
            yield PULSE
        yield self._machine.ended()

    def converse(self, command: str) -> LightConversation:  # noqa: ARG002 - there is one
        """See the port."""
        self._check()
        time.sleep(self._machine.costs.command)
        return LightConversation(self)

    def ask(self, arguments: str, stdin: bytes) -> bytes:
        """What a command prints that is asked for in a conversation."""
        self._check()
        return self._machine.answer(f'agent.pyz" {arguments}', stdin, took_s=self._machine.costs.request)

    def close(self) -> None:
        """See the port."""
        self._closed.set()

    def _check(self) -> None:
        if self._closed.is_set() or self._is_gone():
            raise ConnectionLost("The connection broke off.")


class LightConversation:
    """`talk` on a light machine."""

    def __init__(self, host: LightHost) -> None:
        self._host = host
        self._lines = [b'{"talks": true}']

    def send(self, data: bytes) -> None:
        """See the port."""
        head, _, rest = data.partition(b"\n")
        if head.startswith(b"{"):  # else it is the agent
            printed = self._host.ask(" ".join(json.loads(head)["arguments"]), rest)
            self._lines += [*printed.splitlines(), b'{"ended": 0, "said": ""}']

    def line(self, deadline: float | None) -> bytes | None:  # noqa: ARG002 - it is there
        """See the port."""
        return self._lines.pop(0)

    def end(self) -> Completed:
        """See the port."""
        return Completed(exit_code=0, stdout=b"", stderr=b"")

    def close(self) -> None:
        """See the port."""


class _LightRegion:
    """`aws.region.Region` without AWS: a small catalogue, one subnet in each zone."""

    def __init__(self, *_: Any, **__: Any) -> None:
        known = FakeCloud(SystemClock())
        self.instance_types, self.zones, self.prices = known.instance_types, known.zones, known.prices
        self.quota, self.image = known.quota, known.image

    def subnets(self) -> tuple[Subnet, ...]:
        return tuple(
            Subnet(id=f"subnet-{zone}", vpc_id="vpc-1", zone=zone, zone_id=zone, public=True)
            for zone in self.zones("m7i.large")
        )


@contextmanager
def light_hosts(costs: Costs, server: Mapping[str, str] | None = None) -> Iterator[FakeEc2Api]:
    """Runs of this process use light hosts during the block; those of a `benchmarks.light_server`, with this
    host key, if one is given."""
    api = FakeEc2Api(SystemClock())
    api.pending_s, api.takes_s, api.limit = costs.boot / 3, costs.calls, costs.limit
    connector = LightConnector(api, costs)
    if server:
        api.pending_s, api.network = costs.boot, "127.18"
        key = KeyPair(private=server["private"], public=server["public"])
    clients = FakeClients(api)
    prefix = "snakemake_executor_ec2"
    with (
        patch(f"{prefix}.aws.cloud.Clients", lambda **_: clients),
        patch(f"{prefix}.aws.cloud.Region", _LightRegion),
        patch(f"{prefix}.aws.cloud.Ec2Cloud.check", lambda _: None),
        patch(f"{prefix}.controller.run.new_key_pair", lambda: key)
        if server
        else patch(f"{prefix}.controller.compose.Logins.connector", lambda *_: connector),
    ):
        yield api
