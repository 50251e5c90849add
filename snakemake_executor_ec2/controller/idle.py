"""Machines between two jobs: for whom they wait, for how long, and their end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from snakemake_executor_ec2 import threads
from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import Ec2ExecutorError
from snakemake_executor_ec2.formatting import TellOnce
from snakemake_executor_ec2.model import JobPlan, Machine, Requirements
from snakemake_executor_ec2.report import idle as idle_words
from snakemake_executor_ec2.report import messages
from snakemake_executor_ec2.sizing.reuse import Reuse, Used

if TYPE_CHECKING:
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
    ahead: Promise | None = None
    """What it keeps, if it was launched ahead and has had no job."""

    def serves(self, launcher: Launches, requirements: Requirements) -> bool:
        """Whether such a job may run there."""
        return launcher.suits(self.used, requirements)


@dataclass(kw_only=True, eq=False)
class Promise:
    """A machine that is launched ahead of its job, and is not ready yet."""

    plan: JobPlan
    """Stands for the job."""
    certain: bool = False
    """All that the job waits for has run well."""
    cancel: CancelToken = field(default_factory=CancelToken)
    """Ends it before it is ready."""
    for_job: str = ""
    """The key of the job that waits for it; empty: none does yet."""

    def serves(self, launcher: Launches, requirements: Requirements) -> bool:  # noqa: ARG002
        """Whether such a job may run there."""
        return self.plan.requirements == requirements


_M = TypeVar("_M", IdleMachine, Promise)
_PROMISED_S = 60.0
"""A promise is kept or dropped, whatever happens; looked at again all the same."""


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
        going: Callable[[str], None] = lambda _: None,
        pause: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ) -> None:
        """`launcher` is asked for what gets the run's machines, which in turn asks for `room`. `going` is
        told of machines that are about to end. `pause` waits until something has changed, for so long at
        most; tests let their own time pass."""
        self._reuse = reuse
        self._idle_s = idle_s
        self._clock = clock
        self._ledger = ledger
        self._launcher = launcher
        self._tell = tell
        self._going = going
        self._pause = pause
        self.tell_once = TellOnce(tell)
        self._changed = threading.Condition(threading.RLock())
        self._idle: list[IdleMachine] = []
        self._promised: list[Promise] = []
        self._in_vain: set[tuple[str, bool]] = set()
        """Rules for which a machine was launched ahead that got no job, and whether one was certain."""
        self._coming: Mapping[str, int] = {}
        self._wanting: dict[str, str] = {}
        """Rules by jobs' keys."""
        self._closed = False
        self._watching = False

    # --- who needs one --------------------------------------------------------------------

    def expect(self, coming: Mapping[str, int]) -> None:
        """So many jobs of each rule are still to be handed over. Machines that none of them needs end."""
        with self._changed:
            self._coming = dict(coming)
            surplus = self._surplus()
            unwanted = self._unwanted()
        self.end(surplus)
        for promise in unwanted:
            promise.cancel.cancel()

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
            waiting = sum(self._alike(each.used.rule, rule) for each in self._idle)
            ends = self._closed or self._reuse is Reuse.NEVER
            return not ends and self._jobs_for(rule) > waiting

    # --- launched ahead -------------------------------------------------------------------

    def promise(self, plan: JobPlan, *, certain: bool = False) -> Promise | None:
        """A machine is launched ahead for a job that the plan stands for; None: none may be any more."""
        with self._changed:
            if self._closed:
                return None
            promise = Promise(plan=plan, certain=certain)
            self._promised.append(promise)
        return promise

    def keep(self, promise: Promise, ready: ReadyMachine, on: MachineEntry, used: Used) -> bool:
        """A promised machine is ready, and waits for its job; False if it is not wanted any more."""
        with self._changed:
            if self._closed or promise.cancel.cancelled:
                return False
            self._promised.remove(promise)
            return self._enter(ready, on, used, ahead=promise)

    def drop(self, promise: Promise) -> None:
        """A promise is kept, or will not be."""
        with self._changed:
            if promise in self._promised:
                self._promised.remove(promise)
                self._note_in_vain(promise)
            self._changed.notify_all()

    def withdraw(self) -> None:
        """End what is promised."""
        with self._changed:
            promised = list(self._promised)
        for promise in promised:
            promise.cancel.cancel()

    def ahead(self) -> int:
        """How many machines were launched ahead, and have no job yet."""
        with self._changed:
            return len(self._promised) + sum(each.ahead is not None for each in self._idle)

    def serving(self) -> list[Callable[[str, Requirements], bool]]:
        """Of each machine that is idle or promised: whether a job of a rule may run there."""
        with self._changed:
            found: list[IdleMachine | Promise] = [*self._idle]
            found += [each for each in self._promised if not each.for_job]
            return [partial(self._serves, each) for each in found]

    def is_short(self) -> bool:
        """Whether a job needs a machine, and none is promised to it."""
        with self._changed:
            return len(self._wanting) > sum(bool(each.for_job) for each in self._promised)

    def was_in_vain(self, rule: str, *, certain: bool) -> bool:
        """Whether a machine was launched ahead for a job of this rule, and got none, although one was certain
        to come, or (not `certain`) in any case."""
        with self._changed:
            return (rule, True) in self._in_vain or (not certain and (rule, False) in self._in_vain)

    # --- one after the other --------------------------------------------------------------

    def put(self, ready: ReadyMachine, on: MachineEntry, used: Used, last: JobPlan) -> bool:
        """Let a clean machine wait for its next job, after its `last` one; False if there is no use for
        it."""
        with self._changed:
            if not self.has_use_for(used.rule):
                return False
            return self._enter(ready, on, used, has=frozenset((*last.inputs, *last.outputs)))

    def take(self, plan: JobPlan) -> IdleMachine | None:
        """The machine that suits a job best; None: there is none."""
        with self._changed:
            allowed = [each for each in self._idle if self._alike(each.used.rule, plan.rule)]
            for each in sorted(allowed, key=lambda each: _rank(each, plan)):
                if self._launcher().reuse(each.used, plan.requirements):
                    self._idle.remove(each)
                    return each
        return None

    def wait_for(self, plan: JobPlan, cancel: CancelToken, seconds: float) -> IdleMachine | None:
        """Take a machine for a job as soon as one that suits it comes free; None: none did in that time. One
        that is promised is waited for until it is there. Raises Cancelled; who cancels has to `wake`."""
        until = self._clock.monotonic() + seconds
        promise: Promise | None = None
        with self._changed:
            try:
                while True:
                    cancel.check()
                    if found := self.take(plan):
                        return found
                    promise = self._promised_to(plan)
                    left_s = _PROMISED_S if promise else until - self._clock.monotonic()
                    if left_s <= 0:
                        return None
                    self._pause(self._changed, left_s)
            finally:
                if promise is not None:
                    promise.for_job = ""

    def wake(self) -> None:
        """End the waits of those that were cancelled."""
        with self._changed:
            self._changed.notify_all()

    def make_room(self, plan: JobPlan) -> bool:
        """A limit is in the way of a job's machine: end those that are idle or promised to nobody, unless one
        that is idle suits it. False: there is none."""
        with self._changed:
            suits = any(self._serves(each, plan.rule, plan.requirements) for each in self._idle)
            if suits:
                return True
            ending, self._idle = self._idle, []
            unwanted = [each for each in self._promised if not each.for_job and not each.cancel.cancelled]
        self.end(ending)
        for promise in unwanted:
            promise.cancel.cancel()
        return bool(ending)

    # --- their end ------------------------------------------------------------------------

    def close(self) -> None:
        """None waits any more, now and later."""
        with self._changed:
            self._closed = True
            ending, self._idle = self._idle, []
            self._changed.notify_all()
        self.withdraw()
        self.end(ending)

    def end(self, ending: Collection[IdleMachine]) -> None:
        """Terminate machines that are not among the idle ones any more. Raises nothing of ours."""
        if not ending:
            return
        with self._changed:
            for each in ending:
                if each.ahead is not None:
                    self._note_in_vain(each.ahead)
        for each in ending:
            self._going(each.ready.machine.id)
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

    def _note_in_vain(self, promise: Promise) -> None:
        self._in_vain.add((promise.plan.rule, promise.certain))

    def _enter(
        self,
        ready: ReadyMachine,
        on: MachineEntry,
        used: Used,
        *,
        has: frozenset[Path] = frozenset(),
        ahead: Promise | None = None,
    ) -> bool:
        """A machine waits from now on; False: nobody could end it in time."""
        if not self._watching and threads.start(self._watch, "idle machines") is None:
            return False
        self._watching = True
        wait_s = min(self._idle_s, ready.lease_s / 2)
        until = self._clock.monotonic() + wait_s
        # Before others see it: they may give it its next job, or end it, at once.
        self._launcher().idle(ready.machine, wait_s)
        self._idle.append(IdleMachine(ready=ready, on=on, used=used, has=has, until=until, ahead=ahead))
        self._changed.notify_all()
        return True

    def _alike(self, its_rule: str, rule: str) -> bool:
        return self._reuse is Reuse.RUN or its_rule == rule

    def _serves(self, each: IdleMachine | Promise, rule: str, needed: Requirements) -> bool:
        return self._alike(_rule_of(each), rule) and each.serves(self._launcher(), needed)

    def _promised_to(self, plan: JobPlan) -> Promise | None:
        """The promise that a job waits for, from now on if it did not before."""
        for each in sorted(self._promised, key=lambda each: each.for_job != plan.key):
            serves = self._serves(each, plan.rule, plan.requirements)
            if serves and each.for_job in ("", plan.key) and not each.cancel.cancelled:
                each.for_job = plan.key
                return each
        return None

    def _jobs_for(self, rule: str) -> int:
        if self._reuse is Reuse.RUN:
            return sum(self._coming.values()) + len(self._wanting)
        return self._coming.get(rule, 0) + sum(each == rule for each in self._wanting.values())

    def _surplus(self) -> list[IdleMachine]:
        """Remove the idle machines for which there is no job."""
        kept, surplus = self._for_jobs(self._idle, [])
        self._idle = kept
        return surplus

    def _unwanted(self) -> list[Promise]:
        """The promised machines for which there is no job, beside the idle ones."""
        return self._for_jobs([each for each in self._promised if not each.for_job], self._idle)[1]

    def _for_jobs(self, some: Sequence[_M], others: Sequence[IdleMachine]) -> tuple[list[_M], list[_M]]:
        """Those for which there are jobs, beside others, and the rest."""
        needed: list[_M] = []
        rest: list[_M] = []
        for each in some:
            rule = _rule_of(each)
            rivals = sum(self._alike(other.used.rule, rule) for other in others)
            rivals += sum(self._alike(_rule_of(other), rule) for other in needed)
            (needed if rivals < self._jobs_for(rule) else rest).append(each)
        return needed, rest

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
            try:
                self.end(over)
            except BaseException:  # a bug: the next machine that waits gets a thread again
                self._watching = False
                raise


def _rule_of(each: IdleMachine | Promise) -> str:
    return each.plan.rule if isinstance(each, Promise) else each.used.rule


def _rank(each: IdleMachine, plan: JobPlan) -> tuple[int, bool, float, float]:
    """First the one that has most of what the job reads, then that of its rule, then the cheapest."""
    price = each.used.machine.price
    shared = len(each.has.intersection(plan.inputs))
    return -shared, each.used.rule != plan.rule, price.usd_per_hour if price else 0.0, -each.until
