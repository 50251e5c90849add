"""Machines for jobs that are not ready yet, so that boot and software are over when they are.

Nothing waits for it: where it guesses wrong, a machine that was launched ahead waits like any other without a
job (`idle.py`), ends, and is told. When to launch is decided in `sizing/ahead.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from snakemake_executor_ec2 import threads
from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.controller.idle import IdleMachines, Promise, ReadyMachine
from snakemake_executor_ec2.controller.machine import JobMachines, without_job
from snakemake_executor_ec2.errors import ConfigurationError, Ec2ExecutorError
from snakemake_executor_ec2.model import JobOutcome, JobPlan, JobResult, Phase, Requirements
from snakemake_executor_ec2.records.rows import UNUSED
from snakemake_executor_ec2.report import idle as idle_words
from snakemake_executor_ec2.sizing.ahead import (
    Demand,
    Graph,
    Key,
    Pace,
    Paces,
    Step,
    Supply,
    ready_s,
    to_launch,
)
from snakemake_executor_ec2.sizing.late import software_for
from snakemake_executor_ec2.sizing.reuse import Reuse

if TYPE_CHECKING:
    from snakemake_executor_ec2.controller.context import RunContext
    from snakemake_executor_ec2.ports import Clock, Launches
    from snakemake_executor_ec2.records.ledger import Entry
    from snakemake_executor_ec2.sizing.reuse import Used

_FETCHED_MIB_PER_S = 1.0
"""How fast results come, if none of the rule's jobs has shown it; what a job has written is their limit."""
_AMOUNTS = ("threads", "mem_mb", "disk_mb", "runtime_min", "gpus", "gpu_mem_mb", "nvme_gb", "network_gbps",
            "disk_mbps", "disk_iops", "staged_mib")  # fmt: skip
"""What a rule may compute from its job's files; all else is the options' of this run."""
_LATE = 2.0
"""A job that takes so many times as long as others of its rule may end at any time."""
_LATE_S = 10.0
"""Beside that: short jobs vary more."""
_AGAIN_S = 1.0
"""A job waits for a machine: look again when it has one."""
_PAUSE_S = 0.2
"""Between two looks: what happens together is looked at once."""


def get_ahead(promise: Promise, context: RunContext, cancel: CancelToken) -> JobOutcome:
    """Launch a promised machine and prepare it, and let it wait for its job. What goes wrong is told, and
    harms no job."""
    plan, entry, is_kept = promise.plan, None, False
    machines = JobMachines(plan, context, cancel)
    try:
        cancel.check()
        host_key = context.new_key_pair()
        entry = context.ledger.open(plan, host_key.public, ahead=True)
        ready = machines.acquire_ahead(entry, host_key)
        if ready is None:
            context.ledger.discard(entry)
            entry = None
            return JobOutcome(ok=False)
        try:
            is_kept = _prepared(promise, ready, entry, context)
        finally:
            if not is_kept:
                machines.release(entry, ready)
    except Ec2ExecutorError as error:
        if entry is not None:
            entry.end_reason, entry.error = UNUSED, error.message
        if not cancel.cancelled:
            context.tell(idle_words.not_ready_ahead(plan, error))
    finally:
        context.idle.drop(promise)
        if entry is not None and not is_kept:
            context.ledger.close(entry)
    return JobOutcome(ok=is_kept)


def _prepared(promise: Promise, ready: ReadyMachine, entry: Entry, context: RunContext) -> bool:
    """Install what the job will need, then let the machine wait; False: it has no use any more."""
    plan, ledger = promise.plan, context.ledger
    with ledger.phase(entry, Phase.PREPARE), context.leases.renewing(ready.lease_s, ready.session):
        ready.session.install_software(software_for(plan, context.software))
    # First on the disk: its next job takes the place of this entry.
    entry.end_reason, entry.on.ready_at = UNUSED, context.clock.now()
    ledger.close(entry)
    free_mib = -(-plan.requirements.disk_mb * 10**6 // 2**20)  # it was made to have this much
    used = context.launcher.used(ready.machine, plan.requirements, rule=plan.rule, free_mib=free_mib)
    return used is not None and context.idle.keep(promise, ready, entry.on, replace(used, ahead=True))


class _Stage(Enum):
    GETTING = auto()
    """It has no machine, or a new one that is being prepared."""
    PREPARING = auto()
    """It has a machine that was ready."""
    RUNNING = auto()
    RAN = auto()
    """Its command has ended well; results are being fetched."""


@dataclass(kw_only=True)
class _UnderWay:
    """A job that was handed over."""

    rule: str
    stage: _Stage
    since: float
    """By the monotonic clock."""
    used: Used | None = None
    """Its machine, once it has one."""
    wrote_mib: int = 0


class LookAhead:
    """Follows a run's jobs, and launches machines ahead. Threads share it."""

    def __init__(
        self,
        *,
        run_id: str,
        reuse: Reuse,
        idle: IdleMachines,
        launcher: Launches,
        clock: Clock,
        begin: Callable[[Promise], None] | None,
        history: Callable[[Paces], Mapping[str, Requirements]] = lambda _: {},
    ) -> None:
        """`begin` has a machine launched in a thread (see `get_ahead`); None: nothing is launched ahead.
        `history` adds what jobs took in earlier runs, and returns what they needed, by their labels; asked
        once, if it is needed."""
        self._run_id = run_id
        self._reuse = reuse
        self._idle = idle
        self._launcher = launcher
        self._clock = clock
        self._begin = begin
        self._history = history
        self._paces = Paces()
        self._before: Mapping[str, Requirements] | None = None
        """By labels."""
        self._changed = threading.Condition(threading.RLock())
        self._has_changed = False
        self._closed = begin is None
        self._at_a_time = 0
        self._graph = Graph({})
        self._rules: set[str] = set()
        self._late: dict[str, bool] = {}
        """By rules: whether their software comes late, if at all."""
        self._ready: set[Key] = set()
        """Jobs that could be handed over, and are not yet."""
        self._handed_over: set[Key] = set()
        self._done: set[Key] = set()
        self._jobs: dict[Key, _UnderWay] = {}
        self._step_of: dict[str, Key] = {}
        """By plans' keys."""
        self._launched: set[tuple[Key, bool]] = set()
        """Jobs for which a machine was launched ahead, and whether it was certain that they come."""

    def start(self) -> None:
        """From now on, look whenever something has changed."""
        if not self._closed and threads.start(self._watch, "look ahead") is None:
            self._closed = True  # jobs launch their machines themselves

    # --- what Snakemake has in mind ---------------------------------------------------------

    def plan(self, steps: Mapping[Key, Step], *, at_a_time: int) -> None:
        """These jobs are not done; so many may be under way at a time."""
        with self._changing():
            self._at_a_time = at_a_time
            self._graph = graph = Graph(steps)
            self._rules = {step.rule for step in steps.values()}
            self._late = {step.rule: step.needs.direct is not None for step in steps.values() if step.needs}
            for key in self._done & set(steps):
                graph.done(key)
            here = {key for key, step in steps.items() if step.here}
            self._ready = set(graph.ready()) - here - self._handed_over - self._done

    def handed_over(self, step: Key) -> None:
        """A job need not be waited for any more, whatever becomes of it."""
        with self._changing():
            self._handed_over.add(step)
            self._ready.discard(step)

    def ended(self, step: Key, *, ok: bool) -> None:
        """Snakemake hears of a job's end."""
        with self._changing():
            self._ready.discard(step)
            job = self._jobs.pop(step, None)
            if ok and job and job.stage is _Stage.RAN:
                self._paces.add(job.rule, "fetch", self._clock.monotonic() - job.since)
            if ok:
                self._done.add(step)
                steps = self._graph.steps
                self._ready |= {key for key in self._graph.done(step) if not steps[key].here}
                self._ready -= self._handed_over

    # --- what becomes of jobs ---------------------------------------------------------------

    def getting(self, plan: JobPlan, step: Key | None = None) -> None:
        """A job needs a machine: `step`, which is handed over, or one that has lost its machine."""
        with self._changing():
            if step is not None:
                self._step_of[plan.key] = step
            if (known := self._step_of.get(plan.key)) is not None:
                now = self._clock.monotonic()
                self._jobs[known] = _UnderWay(rule=plan.rule, stage=_Stage.GETTING, since=now)

    def has_machine(self, plan: JobPlan, ready: ReadyMachine, *, new: bool) -> None:
        """A job has got a machine: a `new` one, which is not prepared yet, or one that was idle."""
        free_mib = ready.machine.disk_gib * 1024
        used = self._launcher.used(ready.machine, ready.launched_for, rule=plan.rule, free_mib=free_mib)
        with self._changing():
            if job := self._job(plan):
                job.used = used
                if not new:
                    self._enter(job, _Stage.PREPARING)

    def running(self, plan: JobPlan) -> None:
        """A job's command runs."""
        with self._changing():
            if job := self._job(plan):
                self._enter(job, _Stage.RUNNING)

    def ran(self, plan: JobPlan, result: JobResult) -> None:
        """A job's command has ended well."""
        with self._changing():
            if job := self._job(plan):
                took_s = self._clock.monotonic() - job.since
                self._paces.add(job.rule, "run", max(took_s, result.seconds))
                job.wrote_mib = result.usage.peak_disk_mib
                self._enter(job, _Stage.RAN)

    def close(self) -> None:
        """Nothing is launched ahead any more; what was, ends."""
        with self._changing():
            self._closed = True
        self._idle.withdraw()

    # --- what is launched -------------------------------------------------------------------

    def look(self) -> float | None:
        """Launch what is to be launched now. In how many seconds to look again; None: when something has
        changed."""
        with self._changed:
            room = self._at_a_time - len(self._ready) - self._idle.ahead()
            room -= sum(job.stage is not _Stage.RAN for job in self._jobs.values())
            if self._closed or room <= 0 or not self._jobs:
                return None
            if self._idle.is_short():
                return _AGAIN_S
        if self._before is None:
            self._before = self._history(self._paces)  # which may take a moment
        with self._changed:
            pace = {rule: self._paces.of(rule) for rule in self._rules}
            rests_s = {key: self._rest_s(job, pace) for key, job in self._jobs.items()}
            launches, again_s = to_launch(self._demands(rests_s, pace), self._supplies(rests_s), room)
            promises = [each for key in launches if (each := self._promised(key))]
        for promise in promises:
            assert self._begin is not None
            self._begin(promise)
        return again_s

    def _demands(self, rests_s: Mapping[Key, float | None], pace: Mapping[str, Pace]) -> list[Demand]:
        steps, late = self._graph.steps, self._late
        alike = {way: [pace[rule] for rule in late if late[rule] is way] for way in (False, True)}
        new_s = {rule: ready_s(pace[rule], alike[late[rule]]) for rule in late}
        longest_s = max(new_s.values(), default=0.0)
        found = []
        for at_s, key in self._graph.soon_ready(rests_s, pace.__getitem__):
            step = steps[key]
            if self._needed(step) is not None and key not in self._handed_over:
                may = self._may_launch(key, step)
                found.append(Demand(key=key, ready_s=at_s, new_s=new_s[step.rule], launch=may))
            if at_s > longest_s:
                break
        return found

    def _may_launch(self, key: Key, step: Step) -> bool:
        """Once by a guess and once when the job is certain to come, unless that was in vain for its rule."""
        certain = self._is_certain(step)
        return (key, certain) not in self._launched and not self._idle.was_in_vain(step.rule, certain=certain)

    def _is_certain(self, step: Step) -> bool:
        """Whether all that a job waits for has run well."""
        waits_for = [self._jobs.get(key) for key in step.after if key not in self._done]
        return all(job is not None and job.stage is _Stage.RAN for job in waits_for)

    def _supplies(self, rests_s: Mapping[Key, float | None]) -> list[Supply]:
        found = [Supply(free_s=0.0, serves=self._asked(each)) for each in self._idle.serving()]
        if self._reuse is Reuse.NEVER:
            return found
        for running, job in self._jobs.items():
            rest_s, used = rests_s[running], job.used
            if rest_s is not None and used is not None:

                def serves(rule: str, needed: Requirements, used: Used = used) -> bool:
                    alike = self._reuse is Reuse.RUN or used.rule == rule
                    return alike and self._launcher.suits(used, needed)

                found.append(Supply(free_s=rest_s, serves=self._asked(serves)))
        return found

    def _asked(self, serves: Callable[[str, Requirements], bool]) -> Callable[[Key], bool]:
        """Whether a machine serves a job; asked once for all jobs that need the same."""
        known: dict[tuple[str, Requirements], bool] = {}

        def ask(key: Key) -> bool:
            step = self._graph.steps[key]
            needed = self._needed(step)
            assert needed is not None
            what = step.rule, needed
            if what not in known:
                known[what] = False
                with suppress(ConfigurationError):  # what it needed before may not be allowed any more
                    known[what] = serves(*what)
            return known[what]

        return ask

    def _promised(self, key: Key) -> Promise | None:
        step = self._graph.steps[key]
        needed, certain = self._needed(step), self._is_certain(step)
        assert step.needs is not None
        assert needed is not None
        self._launched.add((key, certain))
        plan = without_job(
            key=f"{self._run_id}.ahead.{key}.{len(self._launched)}",
            rule=step.rule,
            label=idle_words.label_ahead(step.rule),
            needed=needed,
            tools=step.needs.tools,
            direct=step.needs.direct,
        )
        return self._idle.promise(plan, certain=certain)

    def _needed(self, step: Step) -> Requirements | None:
        """What a job will need, as far as that is known now: settled, as in an earlier run, or the least."""
        if (needs := step.needs) is None or needs.settled:
            return needs.requirements if needs else None
        if before := (self._before or {}).get(needs.label):
            return replace(needs.requirements, **{name: getattr(before, name) for name in _AMOUNTS})
        return None if needs.unknown else needs.requirements

    # --- how long jobs take -----------------------------------------------------------------

    def _rest_s(self, job: _UnderWay, paces: Mapping[str, Pace]) -> float | None:
        """Until a job ends; None: nobody knows."""
        pace, now = paces.get(job.rule) or self._paces.of(job.rule), self._clock.monotonic()
        fetch_s = pace.fetch_s
        if fetch_s is None and job.stage is _Stage.RAN:
            fetch_s = job.wrote_mib / _FETCHED_MIB_PER_S
        parts = {
            _Stage.GETTING: (pace.new_s, pace.run_s, fetch_s),
            _Stage.PREPARING: (pace.next_s, pace.run_s, fetch_s),
            _Stage.RUNNING: (pace.run_s, fetch_s),
            _Stage.RAN: (fetch_s,),
        }[job.stage]
        took_s = now - job.since
        if any(part is None for part in parts) or took_s > _LATE * (parts[0] or 0.0) + _LATE_S:
            return None
        first_s, *others_s = (part or 0.0 for part in parts)
        return max(0.0, first_s - took_s) + sum(others_s)

    def _job(self, plan: JobPlan) -> _UnderWay | None:
        step = self._step_of.get(plan.key)
        return None if step is None else self._jobs.get(step)

    def _enter(self, job: _UnderWay, stage: _Stage) -> None:
        job.stage, job.since = stage, self._clock.monotonic()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._changed:
            yield
            self._has_changed = True
            self._changed.notify_all()

    def _watch(self) -> None:
        while not self._closed:
            with self._changed:
                self._has_changed = False
            again_s = self.look()
            with self._changed:
                if not self._has_changed and not self._closed:
                    self._changed.wait(again_s)
            self._clock.sleep(_PAUSE_S)
