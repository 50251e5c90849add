"""A job's machine, from its launch, or from an earlier job or run, to its termination or its next job.

    acquire or adopt → ReadyMachine → release

From the moment EC2 has launched it, it is terminated on every way out but four. For three of them
`MachineEntry.kept_reason` has the reason: the user detached, the machine has results that could not be
fetched, or its job failed and it is kept to be looked at. The fourth: its job has ended well, and it waits,
clean, for the next one (`idle.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.controller.context import Inherited, RunContext
from snakemake_executor_ec2.controller.idle import IdleMachine, ReadyMachine
from snakemake_executor_ec2.errors import Ec2ExecutorError, InstanceLost, NotFetched, PreparationError
from snakemake_executor_ec2.machines.connection import Connection
from snakemake_executor_ec2.model import JobPlan, KeyPair, Machine, Phase, Requirements
from snakemake_executor_ec2.ports import Cloud, Connector
from snakemake_executor_ec2.records.ledger import Entry
from snakemake_executor_ec2.report import idle as idle_words
from snakemake_executor_ec2.report import messages

_METAL_BOOTS_S = 1800.0
"""How long a bare-metal machine may take to boot: up to 20 minutes are usual."""
_EC2_KNOWS_AFTER_S = (0.0, 1.0, 2.0)
"""Pauses before EC2 is asked whether a machine is ending: its answers are up to 2 s old."""


def without_job(*, key: str, rule: str, label: str, needed: Requirements, **more: Any) -> JobPlan:
    """What stands in the journal and in a launch for the job of a machine that has none."""
    return JobPlan(
        key=key,
        rule=rule,
        label=label,
        command="",
        workdir=Path.cwd(),
        env={},
        requirements=needed,
        sources=(),
        inputs=(),
        outputs=(),
        **more,
    )


class JobMachines:
    """Launches machines for one job, one after the other, and terminates them."""

    def __init__(self, plan: JobPlan, context: RunContext, cancel: CancelToken) -> None:
        self._plan = plan
        self._context = context
        self._cancel = cancel
        self._tell = context.tell

    def acquire(self, entry: Entry, host_key: KeyPair, machine_no: int, reclaimed: int) -> ReadyMachine:
        """A machine for the job, with the agent: an idle one, or a new one. Raises Ec2ExecutorError: then
        none is left."""
        while True:
            self._context.idle.want(self._plan)
            try:
                found = self._find(entry, host_key, machine_no, reclaimed)
            finally:
                self._context.idle.has_one(self._plan)
            if isinstance(found, Machine):
                ready: ReadyMachine | None = self._booted(entry, found, host_key)
            else:
                ready = self._reused(entry, found)
            if ready is not None:
                self._context.ahead.has_machine(self._plan, ready, new=isinstance(found, Machine))
                return ready

    def acquire_ahead(self, entry: Entry, host_key: KeyPair) -> ReadyMachine | None:
        """A new machine for a job that is not ready, with the agent; None: there is none to be had now.
        Raises Ec2ExecutorError: then none is left."""
        with self._context.ledger.phase(entry, Phase.LAUNCH):
            machine = self._context.launcher.launch_now(self._plan, host_key, self._cancel)
        return None if machine is None else self._booted(entry, machine, host_key)

    def _find(
        self, entry: Entry, host_key: KeyPair, machine_no: int, reclaimed: int
    ) -> Machine | IdleMachine:
        """A machine that has just been launched, or one that is idle."""
        idle, launcher, plan = self._context.idle, self._context.launcher, self._plan
        free: list[IdleMachine] = []

        def came_free(wait_s: float) -> bool:
            # Not another spot machine, once too many were taken back.
            wanted = replace(plan, requirements=launcher.wanted(plan.requirements, reclaimed))
            if found := idle.wait_for(wanted, self._cancel, wait_s):
                free.append(found)
            return bool(free)

        self._cancel.on_cancel(idle.wake)
        with self._context.ledger.phase(entry, Phase.LAUNCH):
            machine = launcher.launch(
                plan, host_key, machine_no, self._cancel, reclaimed=reclaimed, unless=came_free
            )
        return free[0] if machine is None else machine

    def _reused(self, entry: Entry, idle: IdleMachine) -> ReadyMachine | None:
        """A machine that was idle; None if it is not there any more: it did the job no harm."""
        context, before = self._context, idle.ready
        connection = before.connection.handed_over(self._cancel)
        ready = replace(
            before,
            connection=connection,
            session=context.session(connection),
            lease_s=context.lease_of(before.machine, self._plan),
        )
        try:
            with context.ledger.phase(entry, Phase.PREPARE):
                ready.session.move_in(ready.lease_s, used=True)
            context.ledger.move(entry, idle.on)
            context.ledger.leased(entry.on, ready.lease_s)
        except BaseException as error:
            context.idle.end([replace(idle, ready=ready)])
            if isinstance(error, (InstanceLost, PreparationError)) and not self._cancel.cancelled:
                return None
            raise
        self._tell(idle_words.reused(self._plan, entry.on))
        return ready

    def _booted(self, entry: Entry, machine: Machine, host_key: KeyPair) -> ReadyMachine:
        """A machine that was launched for the job, once the agent is on it."""
        context = self._context
        entry.on.machine = machine
        ready = self._ready(machine, context.cloud, context.connector, (host_key.public,))
        with self._released_if_it_fails(entry, ready):
            self._tell(messages.launched(self._plan, machine))
            self._cancel.check()
            with context.ledger.phase(entry, Phase.BOOT):
                metal_s = _METAL_BOOTS_S if ".metal" in machine.instance_type else 0.0
                ready.connection.open(max(context.boot_timeout_s, metal_s))
            with context.ledger.phase(entry, Phase.PREPARE):
                self._move_in(entry, ready)
        return ready

    def adopt(self, entry: Entry, inherited: Inherited) -> ReadyMachine:
        """The machine on which an earlier run started the job. If that fails, it is released."""
        attempt = inherited.attempt
        machine, saved_state = attempt.machine, attempt.saved_state
        assert machine is not None
        assert saved_state is not None
        self._context.launcher.adopted(machine, self._plan.requirements)
        ready = self._ready(machine, inherited.cloud, inherited.connector, attempt.on.host_keys)
        with self._released_if_it_fails(entry, ready):
            self._tell(messages.adopted(self._plan, machine))
            ready.session.resume(saved_state)
        self._context.ahead.has_machine(self._plan, ready, new=False)
        return ready

    def set_free(self, entry: Entry, ready: ReadyMachine) -> bool:
        """Clean the machine of a job that has ended well, and let it wait for the next one. False: it is to
        be released, because there is no next one, or something cannot be undone."""
        context, plan = self._context, self._plan
        if entry.on.inherited or not context.idle.has_use_for(plan.rule):
            return False
        # First on the disk: were we killed, an attempt that seems to go on would start again in what is left.
        entry.end_reason = "done"
        if not context.ledger.close(entry):
            return False
        with context.ledger.phase(entry, Phase.CLEAN):
            cleaned = ready.session.clean(plan)
        if cleaned.changed and not self._cancel.cancelled:
            context.idle.tell_once(
                idle_words.not_reused(plan, ready.machine, cleaned), about=f"not reused {plan.rule}"
            )
        if cleaned.changed:
            return False
        used = context.launcher.used(
            ready.machine, ready.launched_for, rule=plan.rule, free_mib=cleaned.free_mib
        )
        return used is not None and context.idle.put(ready, entry.on, used, plan)

    def release(self, entry: Entry, ready: ReadyMachine, error: BaseException | None = None) -> None:
        """Terminate it, unless `MachineEntry.kept_reason` says why not. `error` is what ended the job on it.

        Raises InstanceLost if `error` came of the machine's own end.
        """
        lost: InstanceLost | None = None
        try:
            if isinstance(error, Ec2ExecutorError) and not self._cancel.cancelled:
                lost = self._lost_behind(error, ready)
        finally:
            try:
                if entry.on.kept_reason:
                    self._tell(messages.left(self._plan, ready.machine, entry.on.kept_reason))
                else:
                    self._terminate(entry, ready)
                no_capacity = lost is not None and lost.for_want_of_capacity
                self._context.launcher.released(ready.machine, no_capacity=no_capacity)
            finally:
                ready.connection.close()
        if lost is not None and lost is not error:
            raise lost from error

    # --- helpers ------------------------------------------------------------------------------

    def _ready(
        self, machine: Machine, cloud: Cloud, connector: Connector, host_keys: tuple[str, ...]
    ) -> ReadyMachine:
        context = self._context
        connection = Connection(
            cloud=cloud,
            connector=connector,
            clock=context.clock,
            cancel=self._cancel,
            machine=machine,
            host_keys=host_keys,
            patience_s=context.lease_s,
            lost_after_s=context.lost_after_s,
            reachability=context.reachability,
            tell=self._tell,
        )
        return ReadyMachine(
            machine=machine,
            cloud=cloud,
            connection=connection,
            session=context.session(connection),
            lease_s=context.lease_of(machine, self._plan),
            launched_for=self._plan.requirements,
        )

    @contextmanager
    def _released_if_it_fails(self, entry: Entry, ready: ReadyMachine) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.release(entry, ready, error)
            raise

    def _move_in(self, entry: Entry, ready: ReadyMachine) -> None:
        """Install the agent, start the lease, rotate the host key.

        No data is sent before the machine has a host key that only it knows."""

        def pin(*host_keys: str) -> None:
            ready.connection.host_keys = host_keys
            self._context.ledger.pinned(entry.on, host_keys)

        ready.session.move_in(ready.lease_s)
        self._context.ledger.leased(entry.on, ready.lease_s)
        ready.session.rotate_host_key(pin)

    def _terminate(self, entry: Entry, ready: ReadyMachine) -> None:
        machine, clock = ready.machine, self._context.clock
        self._context.lingering.gone(machine.id)
        with self._context.ledger.phase(entry, Phase.TERMINATE):
            try:
                ready.cloud.terminate([machine.id])
                entry.on.ended_at = clock.now()
            except Ec2ExecutorError as error:
                # The results are fetched. Credentials may have expired: the machine needs none to power
                # itself off, and the last sweep of the run tries again.
                goes = ready.session.let_go()
                self._tell(messages.not_terminated(machine, error, goes=goes))
        if entry.on.ended_at is not None:
            self._tell(messages.terminated(self._plan, entry, clock.now()))

    def _lost_behind(self, error: Ec2ExecutorError, ready: ReadyMachine) -> InstanceLost | None:
        """The InstanceLost behind an error, if the machine has ended; None if it has not.

        A machine that shuts down kills what runs on it before it closes the connection: an installation
        or a transfer then fails like any other. EC2 knows that the machine has ended, and why.
        """
        lost = error if isinstance(error, InstanceLost) else None
        if isinstance(error, NotFetched) or (lost and lost.reason):
            return lost
        for pause_s in _EC2_KNOWS_AFTER_S:
            self._context.clock.sleep(pause_s)
            with suppress(Ec2ExecutorError):
                status = ready.cloud.status(ready.machine.id)
                if status.state.is_gone:
                    text = lost.message if lost else messages.gone(ready.machine, status)
                    return InstanceLost(text, reason=status.reason or status.state)
        return lost
