"""Machines that stay without a job, because others get files from them (see `machines/peers.py`)."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_ec2 import threads
from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.report import idle as idle_words
from snakemake_executor_ec2.report import messages
from snakemake_executor_ec2.sizing.cost import MINIMUM_BILLED_S

if TYPE_CHECKING:
    from snakemake_executor_ec2.controller.idle import ReadyMachine
    from snakemake_executor_ec2.machines.peers import Peers
    from snakemake_executor_ec2.model import JobPlan, Machine
    from snakemake_executor_ec2.ports import Clock, Launches
    from snakemake_executor_ec2.records.ledger import Entry, Ledger, MachineEntry

_LOOK_S = 0.25
_NO_FILE = 1 << 62
_WORTH = 100 * 10**6
"""Bytes for which a machine stays after its first minute, which is paid in any case."""
_JOIN_S = 60.0
_SERVES_S = 600.0
"""How much longer a machine stays while it serves a file: what is cut off is sent by the controller."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A job that is to read files which another one makes."""

    job: int
    """Snakemake's number of it."""
    paths: tuple[Path, ...]
    after: frozenset[int]
    """The jobs that it waits for."""


@dataclass
class Lingering:
    """Those of a run. None stays longer than `idle_s`, unless it serves a file just then, or after `close`.
    Threads share it."""

    peers: Peers | None
    """None: machines give no files away, and none stays."""
    idle_s: float
    clock: Clock
    ledger: Ledger
    _: KW_ONLY
    launcher: Callable[[], Launches]
    tell: Callable[[str], None]
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _readers: dict[int, Reader] = field(default_factory=dict)
    _after: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    _submitted: set[int] = field(default_factory=set)
    _done: set[int] = field(default_factory=set)
    _staying: dict[str, tuple[threading.Thread, threading.Event]] = field(default_factory=dict)

    def expect(self, plan: JobPlan) -> None:
        """A job was submitted, which will need its inputs."""
        if self.peers is not None:
            self.peers.expect(plan.key, plan.inputs)
            self.peers.settled(_reader(_job(plan)))
        with self._lock:
            self._submitted.add(_job(plan))

    def read_later(self, readers: Collection[Reader]) -> None:
        """These jobs will be submitted when all that they wait for have ended."""
        with self._lock:
            for each in readers:
                known = self._readers.get(each.job)
                paths = (*known.paths, *each.paths) if known else each.paths
                self._readers[each.job] = replace(each, paths=paths)
                for before in each.after:
                    self._after[before].add(each.job)

    def ended(self, plan: JobPlan, *, ok: bool) -> None:
        """It has ended."""
        if ok:
            self._over(plan)
        if self.peers is not None:
            self.peers.settled(plan.key)

    def take(self, plan: JobPlan, entry: Entry, ready: ReadyMachine) -> bool:
        """Let a machine stay whose job has ended well; False: it is to be released."""
        self._over(plan)
        machine_id = ready.machine.id
        if self._closed or entry.on.inherited or entry.on.kept_reason or self._leaves(ready.machine):
            return False
        entry.end_reason = "done"
        if not self.ledger.close(entry):
            return False
        self.launcher().idle(ready.machine, self.idle_s)
        leave = threading.Event()
        # At its end, the thread is no longer among those that stay: it must be there before.
        with self._lock:
            thread = threads.start(partial(self._stay, ready, entry.on, leave), f"stays {machine_id}")
            if thread is not None:
                self._staying[machine_id] = thread, leave
        return thread is not None

    def gone(self, machine_id: str) -> None:
        """A machine is about to end: no other one is to get files from it, or to rely on what it has."""
        if self.peers is not None:
            self.peers.gone(machine_id)

    def make_room(self) -> bool:
        """A limit is in the way of a job's machine: all end soon. False: none that was not told before."""
        staying = [leave for _, leave in list(self._staying.values()) if not leave.is_set()]
        for leave in staying:
            leave.set()
        return bool(staying)

    def close(self) -> None:
        """End them all, now and later."""
        self._closed = True
        self.make_room()
        for thread, _ in list(self._staying.values()):
            thread.join(_JOIN_S)

    def _stay(self, ready: ReadyMachine, on: MachineEntry, leave: threading.Event) -> None:
        machine = ready.machine
        until = self.clock.monotonic() + self.idle_s
        try:
            while not self._leaves(machine) and self._in_time(machine, until) and not self._closed:
                if leave.wait(_LOOK_S):
                    break
        finally:
            self._end(ready, on)

    def _end(self, ready: ReadyMachine, on: MachineEntry) -> None:
        machine = ready.machine
        self.gone(machine.id)
        try:
            ready.cloud.terminate([machine.id])
            self.ledger.ended(on)
            self.tell(idle_words.ended(on, self.clock.now()))
        except Ec2ExecutorError as error:
            goes = ready.session.let_go()
            self.tell(messages.not_terminated(machine, error, goes=goes))
        finally:
            self.launcher().released(machine)
            ready.connection.close()
            with self._lock:
                self._staying.pop(machine.id, None)

    def _over(self, plan: JobPlan) -> None:
        """Expect the jobs for which it was the last one that they waited for."""
        with self._lock:
            self._done.add(_job(plan))
            waited = [self._readers[job] for job in self._after.pop(_job(plan), ()) if job in self._readers]
            ready = [each for each in waited if each.after <= self._done]
            for each in ready:
                del self._readers[each.job]
            coming = [each for each in ready if each.job not in self._submitted]
        for each in coming:
            if self.peers is not None:
                self.peers.expect(_reader(each.job), each.paths)

    def _in_time(self, machine: Machine, until: float) -> bool:
        now = self.clock.monotonic()
        serves = self.peers is not None and self.peers.needs(machine.id, least=_NO_FILE)
        return now < until or (serves and now < until + _SERVES_S)

    def _leaves(self, machine: Machine) -> bool:
        """Whether it is needed no more."""
        is_paid = self.clock.now() - machine.launched_at < MINIMUM_BILLED_S
        return self.peers is None or self.peers.leaves(machine.id, least=0 if is_paid else _WORTH)


def _job(plan: JobPlan) -> int:
    """Snakemake's number of a job, which is in its key (`Run.key_for`); -1 if it is none of Snakemake's."""
    run, *parts = plan.key.split(".")
    return int(parts[0]) if run and len(parts) == 2 and parts[0].isdecimal() else -1


def _reader(job: int) -> str:
    return f"job {job}"
