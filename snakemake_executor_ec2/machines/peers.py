"""Large files go from one machine of the run to another, and leave the user's computer once.

The machine that needs a file logs in to one that has it, by a key that is made for this one time, for this
one command, for some minutes and from this address, and that is with the machine only before its job starts.
Whatever goes wrong, the controller sends the file, as it would without all this. Who gets what from whom is
decided in `fan_out.py`.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from snakemake_executor_ec2.agent.peer_terms import Peer, Served, serving
from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.formatting import TellOnce
from snakemake_executor_ec2.machines.fan_out import Copy, FanOut
from snakemake_executor_ec2.model import KeyPair
from snakemake_executor_ec2.ports import Clock, Cloud
from snakemake_executor_ec2.report import peers as words
from snakemake_executor_ec2.ssh.certificates import certify
from snakemake_executor_ec2.ssh.keys import new_key_pair
from snakemake_executor_ec2.staging.identity import sha256

_CLOCKS_S = 300.0
"""By how much a machine's clock may be wrong, beside what is known."""
_VALID_S = 300.0
_FAILURES, _READERS = 3, 2
"""After so many machines in a row could not be reached, by so many others, none is asked any more."""


class Peers:
    """A run's machines, as far as they pass on files. Threads share it."""

    def __init__(
        self,
        *,
        cloud: Cloud,
        clock: Clock,
        authority: KeyPair,
        user: str,
        port: int,
        tell: Callable[[str], None],
    ) -> None:
        """`authority` is what certifies keys: the machines were told of it when they were launched."""
        self._cloud = cloud
        self.clock = clock
        self._authority = authority
        self._user = user
        self._port = port
        self.tell = TellOnce(tell)
        self.lock = threading.Lock()
        self.fan_out = FanOut()
        self._opening = threading.Lock()
        self._open = self._off = False
        self._failing: set[tuple[str, str]] = set()
        """Machines that could not be reached, and by whom."""
        self._sums: dict[str, str] = {}
        self._summing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @property
    def is_off(self) -> bool:
        """Whether the controller sends everything."""
        return self._off

    def opened(self) -> bool:
        """Let machines reach each other, at the first call; whether they may."""
        with self._opening:
            if not (self._open or self._off):
                try:
                    self._cloud.allow_ssh_between_machines()
                    self._open = True
                except Ec2ExecutorError as error:
                    self._off = True
                    self.tell(words.not_allowed(error.message))
            return self._open

    def is_gone(self, machine_id: str) -> bool:
        """Whether a machine has ended, or was told to; then nobody asks it again. Raises CloudError."""
        if self._cloud.private_address(machine_id) is not None:
            return False
        self.gone(machine_id)
        return True

    def expect(self, reader: str, paths: Collection[Path]) -> None:
        """A job will need files."""
        with self.lock:
            self.fan_out.expect(reader, paths)

    def settled(self, reader: str) -> None:
        """It has them, or has ended."""
        with self.lock:
            self.fan_out.settled(reader)

    def needs(self, machine_id: str, *, least: int) -> bool:
        """See `FanOut.needed`."""
        with self.lock:
            return not self._off and self.fan_out.needed(machine_id, self.clock.monotonic(), least=least)

    def leaves(self, machine_id: str, *, least: int) -> bool:
        """See `FanOut.leave`."""
        with self.lock:
            if not self._off:
                return self.fan_out.leave(machine_id, self.clock.monotonic(), least=least)
            self.fan_out.gone(machine_id)
            return True

    def gone(self, machine_id: str) -> None:
        """A machine is about to end: it is asked for nothing any more."""
        with self.lock:
            self.fan_out.gone(machine_id)

    def login(self, machine_id: str, holder: Copy, files: Sequence[Served]) -> Peer | None:
        """How a machine gets files from another one; None: that one is not there any more."""
        address = self._cloud.private_address(holder.machine_id)
        source = self._cloud.private_address(machine_id)
        if address is None or source is None:
            return None
        key, now = new_key_pair(), self.clock.now() + holder.ahead_s
        certificate = certify(
            self._authority,
            key.public,
            user=self._user,
            command=serving(files),
            source=source,
            since_s=now - _CLOCKS_S,
            until_s=now + _CLOCKS_S + _VALID_S,
        )
        return Peer(
            address=address,
            port=self._port,
            user=self._user,
            host_keys=holder.host_keys,
            key=key.private,
            certificate=certificate,
        )

    def checksum(self, key: str, path: Path) -> str:
        """The SHA-256 of a file in the state that the key stands for; it is read once. Raises OSError."""
        with self.lock:
            summing = self._summing[key]
        with summing:
            if key not in self._sums:
                self._sums[key] = sha256(path)
            return self._sums[key]

    def got(self, holder: Copy, machine_id: str, *, failure: str, reached: bool) -> None:
        """A machine was asked for files by another one; `failure` is why it did not give all (empty: it
        did), `reached` whether it has answered at all: then there is a way between machines."""
        with self.lock:
            failed = bool(failure) and not reached
            self._failing = {*self._failing, (holder.machine_id, machine_id)} if failed else set()
            holders, readers = ({pair[end] for pair in self._failing} for end in (0, 1))
            self._off = self._off or (len(holders) >= _FAILURES and len(readers) >= _READERS)
            off = self._off
        if failure:
            self.tell(words.failed(failure, for_good=off), about=f"failed {off}")
