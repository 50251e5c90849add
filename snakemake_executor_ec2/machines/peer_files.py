"""What one machine gets from the other machines of its run, and gives to them (see `peers.py`)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_ec2.agent.peer_client import PeerAgent
from snakemake_executor_ec2.agent.peer_terms import FetchedFiles, Served, Wanted
from snakemake_executor_ec2.agent.transfer import Progress
from snakemake_executor_ec2.errors import CloudError, ConfigurationError, StagingError
from snakemake_executor_ec2.machines.fan_out import Copy, File, Send
from snakemake_executor_ec2.machines.peers import Peers
from snakemake_executor_ec2.model import JobPlan
from snakemake_executor_ec2.ports import RemoteHost
from snakemake_executor_ec2.report import peers as words
from snakemake_executor_ec2.staging.identity import name_of_output, names_of
from snakemake_executor_ec2.staging.paths import PathMap, Sending

if TYPE_CHECKING:
    from snakemake_executor_ec2.machines.connection import Connection

LARGE = 4 << 20
"""Bytes from which on a file is worth a login."""
_AT_ONCE = 30
"""Files of one call: what they are called is in a certificate."""
_LOOK_S = 0.25
_TRIES = 2
"""With each machine that has a file."""
_IN_VAIN = 4
"""After so many failures in a row, a machine gets the rest of its job's files from the controller."""

Sender = Callable[[Collection[Sending], Progress], int]
"""Sends files to a machine and returns the bytes."""


@dataclass(kw_only=True, eq=False)
class _Needed:
    """A large file that a machine needs."""

    sending: Sending
    file: File
    name: str
    """In the machine's cache."""
    mode: int
    mtime_ns: int
    """On the controller."""
    tries: Counter[str] = field(default_factory=Counter)
    only_sent: bool = False

    @property
    def avoid(self) -> list[str]:
        return [machine_id for machine_id, number in self.tries.items() if number >= _TRIES]


@dataclass(kw_only=True)
class PeerFiles:
    """What one machine gets from others, and gives to them."""

    peers: Peers | None
    """None: it takes no part."""
    connection: Connection
    _in_vain: int = 0

    def stage(
        self, plan: JobPlan, missing: Sequence[Sending], names: Mapping[str, str], send: Sender, ahead_ns: int
    ) -> int:
        """Bring files to the machine, from other machines or with `send`; the bytes that were sent. `names`
        are those in its cache, by paths there. Raises StagingError."""
        if self.peers is None:
            return send(missing, _ignore)
        self._in_vain = 0
        try:
            return self._stage(self.peers, plan, missing, names, send, ahead_ns)
        finally:
            self.peers.settled(plan.key)

    def _stage(
        self,
        peers: Peers,
        plan: JobPlan,
        missing: Sequence[Sending],
        names: Mapping[str, str],
        send: Sender,
        ahead_ns: int,
    ) -> int:
        needed = self._needed(missing, names)
        large = {id(each.sending) for each in needed}
        rest, size = [each for each in missing if id(each) not in large], 0
        if not needed:
            return send(rest, _ignore)
        while needed or rest:
            to_send, holder, to_get = self._next(peers, needed, more_to_send=bool(rest))
            if rest or to_send:  # first what others may be waiting for
                size += self._send(peers, to_send, rest, send, ahead_ns)
                rest = []
                needed = [each for each in needed if each not in to_send]
            elif holder is not None:
                got = self._get(peers, plan, holder, to_get, ahead_ns)
                needed = [each for each in needed if each not in got]
            else:
                self.connection.pause(_LOOK_S)
        return size

    def made(self, paths: Collection[Path], path_map: PathMap, ahead_ns: int) -> None:
        """The machine has made these files, and the controller has got them."""
        if self.peers is None:
            return
        for path in paths:
            with suppress(OSError):
                if (name := name_of_output(path)) and os.lstat(path).st_size >= LARGE:
                    copy = self._copy(name, path_map.to_machine(path), path, ahead_ns)
                    with self.peers.lock:
                        self.peers.fan_out.has(name, copy)

    def has(
        self, sendings: Collection[Sending], names: Mapping[str, str], there: Collection[str], ahead_ns: int
    ) -> None:
        """The machine has kept these files of an earlier job."""
        if self.peers is not None:
            for each in self._needed([one for one in sendings if str(one.name) in there], names):
                self._has(self.peers, each, ahead_ns)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Let no other machine begin to get files from this one."""
        peers, machine_id = self.peers, self.connection.machine_id
        if peers is None:
            yield
            return
        with peers.lock:
            peers.fan_out.occupy(machine_id, occupied=True)
        try:
            yield
        finally:
            with peers.lock:
                peers.fan_out.occupy(machine_id, occupied=False)

    # --- helpers ------------------------------------------------------------------------------

    def _needed(self, sendings: Collection[Sending], names: Mapping[str, str]) -> list[_Needed]:
        found = []
        for each in sendings:
            try:
                status = os.lstat(each.content)
                key = names_of([each], 0).get(str(each.name))
                made = name_of_output(each.content)
            except OSError:
                continue  # sending it says so
            is_sparse = status.st_blocks * 512 < status.st_size // 2
            if key and made and str(each.name) in names and status.st_size >= LARGE and not is_sparse:
                found.append(
                    _Needed(
                        sending=each,
                        file=File(keys=(key, made), size=status.st_size),
                        name=names[str(each.name)],
                        mode=status.st_mode & 0o777,
                        mtime_ns=status.st_mtime_ns,
                    )
                )
        return found

    def _next(
        self, peers: Peers, needed: Sequence[_Needed], *, more_to_send: bool
    ) -> tuple[list[_Needed], Copy | None, list[tuple[_Needed, Copy]]]:
        """What is to be sent now, or got now, and from which machine: as good as begun."""
        machine_id, zone, now = self.connection.machine_id, self.connection.zone, peers.clock.monotonic()
        to_send: list[_Needed] = []
        to_get: list[tuple[_Needed, Copy]] = []
        with peers.lock:
            for each in needed:
                step = peers.fan_out.step(each.file, machine_id, zone, now, avoid=each.avoid)
                if isinstance(step, Send) or each.only_sent or peers.is_off or self._in_vain >= _IN_VAIN:
                    to_send.append(each)
                elif isinstance(step, Copy) and _fits(step, to_get):
                    to_get.append((each, step))
            if to_send or more_to_send:
                to_get = []
            holder = to_get[0][1] if to_get else None
            source = holder.machine_id if holder else None
            together = sum(one.file.size for one, _ in to_get)
            for each in (*to_send, *(one for one, _ in to_get)):
                peers.fan_out.begin(each.file, machine_id, zone, now, source, together=together)
        return to_send, holder, to_get

    def _send(
        self,
        peers: Peers,
        to_send: Sequence[_Needed],
        rest: Sequence[Sending],
        send: Sender,
        ahead_ns: int,
    ) -> int:
        machine_id, before = self.connection.machine_id, 0

        def progress(done: int, _: int) -> None:
            nonlocal before
            size, before = max(0, done - before), done  # a new attempt may begin anew
            with peers.lock:
                for each in to_send:
                    peers.fan_out.progressed(each.file, machine_id, size)

        try:
            size = send([*rest, *(each.sending for each in to_send)], progress if to_send else _ignore)
            for each in to_send:
                self._has(peers, each, ahead_ns)
        finally:
            self._ended(peers, to_send)
        return size

    def _get(
        self,
        peers: Peers,
        plan: JobPlan,
        holder: Copy,
        wanted: Sequence[tuple[_Needed, Copy]],
        ahead_ns: int,
    ) -> list[_Needed]:
        """Get files from another machine; those that are in place."""
        needed = [each for each, _ in wanted]
        started, placed, failure = peers.clock.monotonic(), list[_Needed](), ""
        reached = False
        for each in needed:
            each.tries[holder.machine_id] += 1
        try:
            if peers.opened() and not peers.is_gone(holder.machine_id):
                fetched = self._fetch(peers, holder, wanted)
                failure, reached = fetched.why, fetched.reached
                placed = self._place(plan, [each for each in needed if each.name in fetched.there], ahead_ns)
        except (CloudError, ConfigurationError, StagingError) as error:
            failure = error.message
            with suppress(StagingError):
                self.connection.call(lambda host: PeerAgent(host).end_fetch())
        finally:
            self._ended(peers, needed)
        with suppress(CloudError):
            if not (failure and peers.is_gone(holder.machine_id)):
                peers.got(holder, self.connection.machine_id, failure=failure, reached=reached)
        self._in_vain = 0 if placed else self._in_vain + bool(failure)
        for each in placed:
            self._has(peers, each, ahead_ns)
        if placed:
            sizes = [each.file.size for each in placed]
            peers.tell(words.passed(plan, sizes, holder.machine_id, peers.clock.monotonic() - started))
        return placed

    def _fetch(self, peers: Peers, holder: Copy, wanted: Sequence[tuple[_Needed, Copy]]) -> FetchedFiles:
        asked = {
            each.name: (each, Served(name=copy.name, path=copy.path, size=each.file.size))
            for each, copy in wanted
        }
        sums = {name: sum_ for name, (each, _) in asked.items() if (sum_ := self._sum(peers, each))}
        peer = peers.login(self.connection.machine_id, holder, [asked[name][1] for name in sums])
        if peer is None or not sums:
            return FetchedFiles()
        files = [Wanted(name=name, size=asked[name][0].file.size, sha256=sum_) for name, sum_ in sums.items()]
        calls = 0

        def fetch(host: RemoteHost) -> FetchedFiles:
            nonlocal calls
            calls += 1
            if calls > _TRIES:
                raise StagingError("the machine does not say whether it has got the files")
            return PeerAgent(host).fetch(peer, files)

        fetched = self.connection.call(fetch)
        with peers.lock:
            for name in fetched.missing | fetched.wrong:
                needed = asked[name][0]
                needed.tries[holder.machine_id] = _TRIES
                peers.fan_out.has_not(needed.file, holder.machine_id, reader=self.connection.machine_id)
        for name in fetched.wrong:
            content = asked[name][0].sending.content
            peers.tell(words.wrong(content, holder.machine_id, self.connection.machine_id))
        return fetched

    def _sum(self, peers: Peers, each: _Needed) -> str:
        """What the file has to be; empty if that changes just now, so that it is sent."""
        key = each.file.keys[0]
        with suppress(OSError):
            sum_ = peers.checksum(key, each.sending.content)
            if names_of([each.sending], 0).get(str(each.sending.name)) == key:
                return sum_
        each.only_sent = True
        return ""

    def _place(self, plan: JobPlan, got: Sequence[_Needed], ahead_ns: int) -> list[_Needed]:
        """Let files of the cache be where the job reads them."""
        if not got:
            return []
        files = {str(each.sending.name): each.name for each in got}
        status = {str(each.sending.name): (each.mode, each.mtime_ns + ahead_ns) for each in got}
        free_mib = plan.requirements.disk_mb * 10**6 // 2**20
        there = self.connection.call(lambda host: PeerAgent(host).take(files, free_mib, status=status))
        placed = [each for each in got if str(each.sending.name) in there]
        for each in got:
            each.only_sent = each not in placed
        return placed

    def _has(self, peers: Peers, each: _Needed, ahead_ns: int) -> None:
        copy = self._copy(each.name, each.sending.name, each.sending.content, ahead_ns)
        with peers.lock:
            peers.fan_out.has(each.file.keys[0], copy)

    def _copy(self, name: str, path: Path, content: Path, ahead_ns: int) -> Copy:
        return Copy(
            machine_id=self.connection.machine_id,
            zone=self.connection.zone,
            name=name,
            path=str(path),
            host_keys=self.connection.host_keys,
            ahead_s=ahead_ns / 1e9,
            content=content,
            size=os.lstat(content).st_size,
        )

    def _ended(self, peers: Peers, needed: Collection[_Needed]) -> None:
        with peers.lock:
            for each in needed:
                peers.fan_out.end(each.file, self.connection.machine_id)


def _fits(step: Copy, to_get: Sequence[tuple[_Needed, Copy]]) -> bool:
    """Whether a file can be got in the same call."""
    return len(to_get) < _AT_ONCE and (not to_get or step.machine_id == to_get[0][1].machine_id)


def _ignore(done: int, total: int) -> None:
    del done, total
