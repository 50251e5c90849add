"""Many machines that need the same files, each in a thread of its own, and a network that may fail."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from snakemake_executor_ec2.errors import PermissionDenied
from snakemake_executor_ec2.machines.connection import Connection
from snakemake_executor_ec2.machines.peer_files import LARGE, PeerFiles
from snakemake_executor_ec2.machines.peers import Peers
from snakemake_executor_ec2.model import JobPlan
from snakemake_executor_ec2.ports import Completed, RemoteHost
from snakemake_executor_ec2.ssh.keys import new_key_pair
from snakemake_executor_ec2.staging.identity import names_of
from snakemake_executor_ec2.staging.paths import PathMap, Sending
from snakemake_executor_ec2.timing import SystemClock
from tests.unit.machines import launchers

T = TypeVar("T")


class Network:
    """Machines on which `fetch` and `take` succeed unless a test says otherwise. What was sent is counted."""

    def __init__(self, folder: Path) -> None:
        self.said: list[str] = []
        self.sent: Counter[str] = Counter()
        self.fetched: Counter[str] = Counter()
        self.at_once: Counter[str] = Counter()
        self.most_at_once = 0
        self.fetch: Callable[[dict[str, Any]], dict[str, Any]] = lambda answer: answer
        self.ended: set[str] = set()
        self.refuse: Exception | None = None
        self.lock = threading.Lock()
        self.large, self.small = folder / "large", folder / "small"
        self.large.write_bytes(os.urandom(LARGE))
        self.small.write_text("small")
        self.peers = Peers(
            cloud=cast("Any", self),
            clock=SystemClock(),
            authority=new_key_pair(),
            user="ec2-user",
            port=22,
            tell=self.said.append,
        )

    def allow_ssh_between_machines(self) -> None:
        if self.refuse:
            raise self.refuse

    def private_address(self, machine_id: str) -> str | None:
        return None if machine_id in self.ended else f"10.0.0.{machine_id}"

    def stage(self, machine_id: str) -> int:
        """What a job does that reads both files."""
        machine = Machine(self, machine_id)
        sendings = [Sending(content=path, name=path) for path in (self.large, self.small)]

        def send(files: Collection[Sending], progress: Callable[[int, int], None]) -> int:
            time.sleep(0.05)
            progress(1, 1)
            with self.lock:
                self.sent.update(each.content.name for each in files)
            return sum(each.content.stat().st_size for each in files)

        files = PeerFiles(peers=self.peers, connection=cast("Connection", machine))
        return files.stage(
            plan(machine_id), sendings, names_of(sendings, int(machine_id)), send, int(machine_id)
        )

    def all_stage(self, number: int) -> list[int]:
        with ThreadPoolExecutor(number) as pool:
            return list(pool.map(self.stage, map(str, range(number))))


def plan(machine_id: str) -> JobPlan:
    return launchers.plan(f"run-1.{machine_id}.1")


class Machine:
    """A connection to a machine, and the host behind it."""

    zone = "a"
    host_keys = ("ssh-ed25519 AAAA",)

    def __init__(self, network: Network, machine_id: str) -> None:
        self.machine_id = machine_id
        self._network = network

    def call(self, use: Callable[[RemoteHost], T]) -> T:
        return use(cast("RemoteHost", self))

    def pause(self, seconds: float) -> None:
        time.sleep(seconds / 25)

    def run(self, command: str, *, stdin: bytes = b"", **_: object) -> Completed:
        request = json.loads(stdin)
        if command.endswith("take"):
            answer: dict[str, Any] = {"there": list(request["files"])}
        else:
            answer = self._fetch(request)
        return Completed(exit_code=0, stdout=json.dumps(answer).encode() + b"\n", stderr=b"")

    def _fetch(self, request: dict[str, Any]) -> dict[str, Any]:
        network, names = self._network, [name for name, _, _ in request["files"]]
        if not names:
            return {}
        source = request["address"]
        with network.lock:
            network.fetched[source] += 1
            network.at_once[source] += 1
            network.most_at_once = max(network.most_at_once, *network.at_once.values())
        time.sleep(0.05)
        with network.lock:
            network.at_once[source] -= 1
        return network.fetch({"there": names, "missing": [], "wrong": [], "why": ""})


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path)


def test_twenty_machines_at_once(network: Network) -> None:
    """The large file is sent to one, and no machine serves more than two others at a time."""
    sizes = network.all_stage(20)
    assert network.sent == {"large": 1, "small": 20}
    assert sum(sizes) == LARGE + 20 * 5
    assert network.fetched.total() == 19
    assert network.most_at_once <= 2


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"there": [], "why": "cut"}, "(cut); your computer sends"),
        ({"there": [], "wrong": "all"}, "with other content than your computer"),
        ({"there": [], "missing": "all"}, ""),
    ],
    ids=["fails", "has something else", "has it no more"],
)
def test_what_cannot_be_got_is_sent(network: Network, answer: dict[str, Any], told: str) -> None:
    """To each machine, if no other one helps; it is tried a few times only."""

    def fetch(good: dict[str, Any]) -> dict[str, Any]:
        return good | {kind: good["there"] if value == "all" else value for kind, value in answer.items()}

    network.fetch = fetch
    network.all_stage(5)
    assert network.sent["large"] == 5
    assert network.fetched.total() <= 20
    assert [line for line in network.said if told in line] or not told


@pytest.mark.parametrize("lie", ["wrong", "missing"])
def test_a_reader_that_speaks_ill_of_good_machines(network: Network, lie: str) -> None:
    """It gets the file from the controller, however many it asks; others get it from them as before."""
    network.all_stage(4)
    network.fetch = lambda good: good | {"there": [], lie: good["there"]}
    for _ in range(3):
        network.stage("9")
    network.fetch = lambda good: good
    sent, fetched = network.sent["large"], network.fetched.total()
    network.peers.gone("9")
    network.stage("5")
    assert network.sent["large"] == sent
    assert network.fetched.total() == fetched + 1
    assert all(
        network.peers.fan_out._copies[key].keys() >= {*"0123"} for key in network.peers.fan_out._copies
    )


def test_a_machine_that_gets_through_to_none_does_not_ask_them_all(network: Network) -> None:
    """Each failure costs time, for which it is paid: after four in a row the controller sends."""
    network.all_stage(10)
    network.fetched.clear()
    network.fetch = lambda good: good | {"there": [], "why": "refused"}
    network.stage("10")
    assert network.fetched.total() == 4
    assert network.sent["large"] == 2
    network.fetch = lambda good: good
    network.stage("11")
    assert network.sent["large"] == 2


def test_a_network_that_may_not_be_opened(network: Network) -> None:
    """Nobody is asked, and all is sent."""
    network.refuse = PermissionDenied("no", action="ec2:AuthorizeSecurityGroupIngress")
    network.all_stage(5)
    assert network.sent["large"] == 5
    assert not network.fetched


def test_a_machine_that_has_ended(network: Network) -> None:
    """It is not asked, and that it is gone is no failure."""
    network.stage("1")
    network.ended.add("1")
    network.stage("2")
    network.stage("3")
    assert network.sent["large"] == 2
    assert network.fetched == {"10.0.0.2": 1}
    assert not any("your computer sends" in line for line in network.said)


def test_what_a_job_has_made_does_not_leave_the_controller(network: Network) -> None:
    """Once it has come home, its machine has it; also after Snakemake has touched it here."""
    maker = PeerFiles(peers=network.peers, connection=cast("Connection", Machine(network, "1")))
    paths = PathMap(here=network.large.parent, there=network.large.parent)
    maker.made([network.large, network.small], paths, 0)
    os.utime(network.large)
    network.stage("2")
    assert network.sent == {"small": 1}
    # Another file in its place is another one, once its size differs; the checksum tells where it does not.
    network.large.write_bytes(os.urandom(LARGE + 1))
    network.stage("3")
    assert network.sent["large"] == 1
