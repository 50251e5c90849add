"""Machines between two jobs: for whom they wait, for how long, and their end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.formatting import TellOnce
from snakemake_executor_ec2.model import JobPlan, Machine, Requirements
from snakemake_executor_ec2.report import idle as idle_words
from snakemake_executor_ec2.report import messages
from snakemake_executor_ec2.sizing.reuse import Reuse, Used

if TYPE_CHECKING:
    from snakemake_executor_ec2.cancellation import CancelToken
    from snakemake_executor_ec2.machines.connection import Connection
    from snakemake_executor_ec2.ports import Clock, Cloud, Launches, Session
    from snakemake_executor_ec2.records.ledger import Ledger, MachineEntry


@dataclass(frozen=True, kw_only=True)
class ReadyMachine:
    """A machine that can be logged in to, with the agent on it."""

    machine: Machine
    cloud: Cloud
    """The EC2 that it is on, as the run that launched it sees it."""
    connection: Connection
    session: Session
    lease_s: float
    launched_for: Requirements
    """Those of its first job."""


@dataclass(frozen=True, kw_only=True, eq=False)
class IdleMachine:
    """A clean machine without a job."""

    ready: ReadyMachine
    on: MachineEntry
    used: Used
    has: frozenset[Path]
    """What its last job has read and made."""
    until: float
    """How long it waits, by the monotonic clock."""


class IdleMachines:
    """Those of a run. Threads share it.

    No more wait than there are jobs to come, none for longer than `idle_s`, and none after `close`.
    """

    def __init__(
        self,
        *,
        reuse: Reuse,
        idle_s: float,
        clock: Clock,
        ledger: Ledger,
        launcher: Callable[[], Launches],
        tell: Callable[[str], None],
        pause: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ) -> None:
        """`launcher` is asked for what gets the run's machines, which in turn asks for `room`. `pause` waits
        until something has changed, for so long at most; tests let their own time pass."""
        self._reuse = reuse
        self._idle_s = idle_s
        self._clock = clock
        self._ledger = ledger
        self._launcher = launcher
        self._tell = tell
        self._pause = pause
        self.tell_once = TellOnce(tell)
        self._changed = threading.Condition(threading.RLock())
        self._idle: list[IdleMachine] = []
        self._coming: Mapping[str, int] = {}
        self._wanting: dict[str, str] = {}
        """Rules by jobs' keys."""
        self._closed = reuse is Reuse.NEVER
        self._watching = False

    # --- who needs one --------------------------------------------------------------------

    def expect(self, coming: Mapping[str, int]) -> None:
        """So many jobs of each rule are still to be handed over. Machines that none of them needs end."""
        with self._changed:
            self._coming = dict(coming)
            surplus = self._surplus()
        self.end(surplus)

    def want(self, plan: JobPlan) -> None:
        """A job needs a machine, until it `has_one`."""
        with self._changed:
            self._wanting[plan.key] = plan.rule

    def has_one(self, plan: JobPlan) -> None:
        """A job has a machine, or needs none any more."""
        with self._changed:
            self._wanting.pop(plan.key, None)

    def has_use_for(self, rule: str) -> bool:
        """Whether a machine whose job, of this rule, has ended would get another one, as far as is known."""
        with self._changed:
            return not self._closed and self._jobs_for(rule) > sum(
                self._alike(each, rule) for each in self._idle
            )

    # --- one after the other --------------------------------------------------------------

    def put(self, ready: ReadyMachine, on: MachineEntry, used: Used, last: JobPlan) -> bool:
        """Let a clean machine wait for its next job, after its `last` one; False if there is no use for
        it."""
        with self._changed:
            if not self.has_use_for(used.rule):
                return False
            wait_s = min(self._idle_s, ready.lease_s / 2)
            until = self._clock.monotonic() + wait_s
            has = frozenset((*last.inputs, *last.outputs))
            # Before others see it: they may give it its next job, or end it, at once.
            self._launcher().idle(ready.machine, wait_s)
            self._idle.append(IdleMachine(ready=ready, on=on, used=used, has=has, until=until))
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="idle machines", daemon=True).start()
            self._changed.notify_all()
        return True

    def take(self, plan: JobPlan) -> IdleMachine | None:
        """The machine that suits a job best; None: there is none."""
        with self._changed:
            allowed = [each for each in self._idle if self._alike(each, plan.rule)]
            for each in sorted(allowed, key=lambda each: _rank(each, plan)):
                if self._launcher().reuse(each.used, plan.requirements):
                    self._idle.remove(each)
                    return each
        return None

    def wait_for(self, plan: JobPlan, cancel: CancelToken, seconds: float) -> IdleMachine | None:
        """Take a machine for a job as soon as one that suits it comes free; None: none did in that time.
        Raises Cancelled; whoever cancels has to `wake`."""
        until = self._clock.monotonic() + seconds
        with self._changed:
            while True:
                cancel.check()
                if found := self.take(plan):
                    return found
                left_s = until - self._clock.monotonic()
                if left_s <= 0:
                    return None
                self._pause(self._changed, left_s)

    def wake(self) -> None:
        """End the waits of those that were cancelled."""
        with self._changed:
            self._changed.notify_all()

    def make_room(self, plan: JobPlan) -> bool:
        """A limit is in the way of a job's machine: end those that are idle, unless one of them suits it.
        False: none is idle."""
        with self._changed:
            suits = any(
                self._alike(each, plan.rule) and self._launcher().suits(each.used, plan.requirements)
                for each in self._idle
            )
            ending, self._idle = ([], self._idle) if suits else (self._idle, [])
        self.end(ending)
        return suits or bool(ending)

    # --- their end ------------------------------------------------------------------------

    def close(self) -> None:
        """None waits any more, now and later."""
        with self._changed:
            self._closed = True
            ending, self._idle = self._idle, []
            self._changed.notify_all()
        self.end(ending)

    def end(self, ending: Collection[IdleMachine]) -> None:
        """Terminate machines that are not among the idle ones any more. Raises nothing of ours."""
        if not ending:
            return
        try:
            # All are of this run: one call.
            next(iter(ending)).ready.cloud.terminate([each.ready.machine.id for each in ending])
            for each in ending:
                self._ledger.ended(each.on)
                self._tell(idle_words.ended(each.on, self._clock.now()))
        except Ec2ExecutorError as error:
            for each in ending:
                goes = each.ready.session.let_go()
                self._tell(messages.not_terminated(each.ready.machine, error, goes=goes))
        finally:
            for each in ending:
                self._launcher().released(each.ready.machine)
                each.ready.connection.close()

    # --- helpers, with the lock held --------------------------------------------------------

    def _alike(self, each: IdleMachine, rule: str) -> bool:
        return self._reuse is Reuse.RUN or each.used.rule == rule

    def _jobs_for(self, rule: str) -> int:
        if self._reuse is Reuse.RUN:
            return sum(self._coming.values()) + len(self._wanting)
        return self._coming.get(rule, 0) + sum(each == rule for each in self._wanting.values())

    def _surplus(self) -> list[IdleMachine]:
        """Remove the idle machines for which there is no job."""
        surplus, kept = list[IdleMachine](), list[IdleMachine]()
        for each in self._idle:
            rivals = sum(self._alike(other, each.used.rule) for other in kept)
            (kept if rivals < self._jobs_for(each.used.rule) else surplus).append(each)
        self._idle = kept
        return surplus

    def _watch(self) -> None:
        """End machines whose time is over; in a thread of its own, while there are any."""
        while True:
            with self._changed:
                now = self._clock.monotonic()
                over = [each for each in self._idle if each.until <= now]
                self._idle = [each for each in self._idle if each.until > now]
                if not over:
                    if not self._idle:
                        self._watching = False
                        return
                    self._changed.wait(min(each.until for each in self._idle) - now)
            self.end(over)


def _rank(each: IdleMachine, plan: JobPlan) -> tuple[int, bool, float, float]:
    """First the one that has most of what the job reads, then that of its rule, then the cheapest."""
    price = each.used.machine.price
    shared = len(each.has.intersection(plan.inputs))
    return -shared, each.used.rule != plan.rule, price.usd_per_hour if price else 0.0, -each.until
