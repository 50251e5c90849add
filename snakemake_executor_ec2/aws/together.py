"""Launches that come together are one call of RunInstances.

EC2 counts calls: five at once, then two a second. The first one leads: while it waits for its turn,
others whose machine is to be the same join it. EC2 may give fewer machines than it was asked for; what it
has to say to the rest is heard by asking again. If a call was not answered it may have started machines, so
its members stay together: a member that asks again asks for all of them, with the same token. The machine of
a member that gives up, and does not ask again, is ended; if all of them do, their machines are looked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from snakemake_executor_ec2 import tags, threads
from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import (
    Cancelled,
    CapacityError,
    CredentialsExpired,
    QuotaError,
    ThrottledError,
)
from snakemake_executor_ec2.model import LaunchSpec, Machine
from snakemake_executor_ec2.ports import Clock
from snakemake_executor_ec2.timing import RateLimiter

MOST = 100
"""Machines of one call: AWS advises to ask for more in several."""
GATHER_S = 0.1
"""How long the first one waits for others at least."""

NO_ADDRESSES = "InsufficientFreeAddressesInSubnet"

Ask = Callable[[Sequence[LaunchSpec]], Sequence[Machine]]
"""Asks EC2 for a machine for each spec, alike but for their tokens; gives at least one, in a stable order."""


_Answer = Future[Sequence[Machine] | None]
"""The machines of a call, in its members' order; None: the thread that was to ask has not asked."""


class _Call:
    """One call and who takes part in it."""

    def __init__(self, opened_at: float) -> None:
        self.opened_at = opened_at
        self.asked = False
        """EC2 was asked, and has not said that it launched nothing."""
        self.specs: list[LaunchSpec] = []
        self.numbers: dict[str, int] = {}
        """By token: which of the machines is whose."""
        self.answer: _Answer = Future()
        self.taken: set[str] = set()
        """Tokens of those that have their machine."""
        self.given_up: set[str] = set()
        """Tokens of those that will not ask again."""

    def add(self, spec: LaunchSpec) -> None:
        self.numbers[spec.token] = len(self.specs)
        self.specs.append(spec)


class Together:
    """Threads share it."""

    def __init__(
        self,
        pace: RateLimiter,
        clock: Clock,
        end: Callable[[Sequence[str]], object] = lambda _: None,
        end_unanswered: Callable[[str], object] = lambda _: None,
    ) -> None:
        """`end` terminates machines that nobody takes; `end_unanswered` finds those of a token before."""
        self._end = end
        self._end_unanswered = end_unanswered
        self._pace = pace
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[object, _Call] = {}
        """Calls that others may still join, by what their machines are to be."""
        self._calls: dict[str, _Call] = {}
        """By token: a spec belongs to one call, whose machine it gets whenever it asks."""
        self._refused: dict[object, tuple[float, CapacityError | QuotaError]] = {}
        """When EC2 has last had none of what was asked for, and what it said."""

    def launch(self, spec: LaunchSpec, ask: Ask, cancel: CancelToken | None = None) -> Machine:
        """The machine of a spec; its thread may be the one that calls `ask` for many. Raises Cancelled if
        it is to end before it has asked; one of the others asks then."""
        while True:
            call, answer, leads = self._join(spec)
            if leads:
                self._lead(call, answer, _shape(spec), ask, cancel)
            machines = answer.result()
            if machines is None:
                continue
            number = call.numbers[spec.token]
            if number < len(machines):
                with self._lock:
                    call.taken.add(spec.token)
                return machines[number]
            with self._lock:
                self._calls.pop(spec.token, None)

    def _join(self, spec: LaunchSpec) -> tuple[_Call, _Answer, bool]:
        """The call of a spec, its answer to come, and whether this thread is the one that asks."""
        shape = _shape(spec)
        with self._lock:
            if known := self._calls.get(spec.token):
                answer = known.answer
                again = answer.done() and (answer.exception() is not None or answer.result() is None)
                if again:
                    known.answer = Future()
                return known, known.answer, again
            call = self._open.get(shape)
            leads = call is None or len(call.specs) >= MOST
            if call is None or leads:
                call = self._open[shape] = _Call(self._clock.monotonic())
            call.add(spec)
            self._calls[spec.token] = call
            return call, call.answer, leads

    def _lead(
        self, call: _Call, answer: _Answer, shape: object, ask: Ask, cancel: CancelToken | None
    ) -> None:
        wait = self._clock.sleep if cancel is None else cancel.wait
        try:
            try:
                if not call.asked:
                    wait(GATHER_S)
                wait(self._pace.turn())
            finally:
                self._seal(call, shape)
            self._check_refused(call, shape)
            machines = self._ask_for_fewer(call, ask, wait)
        except Cancelled:
            if not call.asked:
                self._forget(call)
            answer.set_result(None)
            raise
        except BaseException as error:
            if isinstance(error, (CapacityError, QuotaError)):
                with self._lock:
                    self._refused[shape] = self._clock.monotonic(), error
            if not isinstance(error, (ThrottledError, CredentialsExpired)):
                self._forget(call)
            answer.set_exception(error)
        else:
            call.specs.clear()  # only their tokens count from now on
            answer.set_result(machines)
            self._end_untaken(call)

    def give_up(self, token: str) -> None:
        """A member whose call was not answered does not ask again."""
        with self._lock:
            call = self._calls.get(token)
            if call is not None:
                call.given_up.add(token)
        if call is not None:
            self._end_untaken(call)

    def _end_untaken(self, call: _Call) -> None:
        """End the machines of those that gave up, in a thread: who is cancelled does not wait."""
        with self._lock:
            answer, untaken = call.answer, call.given_up - call.taken
            if not answer.done() or not untaken:
                return
            machines = answer.result() if answer.exception() is None else None
            if machines is None:
                if not call.asked or not call.numbers.keys() <= call.given_up | call.taken:
                    return  # it has launched nothing, or somebody asks again
                end = partial(self._end_unanswered, token_of(call.specs))
            else:
                names = [machines[n].id for each in untaken if (n := call.numbers[each]) < len(machines)]
                if not names:
                    return
                end = partial(self._end, names)
            call.taken |= untaken
        threads.start_or_run(end, "not taken")

    def _forget(self, call: _Call) -> None:
        """Its members are in no call any more: it has launched nothing."""
        with self._lock:
            for token in call.numbers:
                self._calls.pop(token, None)

    def _ask_for_fewer(self, call: _Call, ask: Ask, wait: Callable[[float], None]) -> Sequence[Machine]:
        """Ask for all of them; if some limit is in the way, for half as many, down to one: nobody says
        whether EC2 then gives as many as it can, or none."""
        while True:
            call.asked = True
            try:
                return ask(call.specs)
            except (CapacityError, QuotaError) as error:
                limited = isinstance(error, QuotaError) or error.code == NO_ADDRESSES
                if not limited or len(call.specs) == 1:
                    raise
            call.asked = False  # that was an answer
            del call.specs[len(call.specs) // 2 :]
            wait(self._pace.turn())

    def _seal(self, call: _Call, shape: object) -> None:
        """Let no more join."""
        with self._lock:
            if self._open.get(shape) is call:
                del self._open[shape]

    def _check_refused(self, call: _Call, shape: object) -> None:
        """Raise what EC2 has said to others like them while they waited, except if they were asked for
        before: then there may be machines."""
        with self._lock:
            refused_at, error = self._refused.get(shape, (call.opened_at, None))
        if error is not None and refused_at > call.opened_at and not call.asked:
            raise error


def token_of(specs: Sequence[LaunchSpec]) -> str:
    """The ClientToken of a call for these."""
    return specs[0].token if len(specs) == 1 else tags.client_token(*(each.token for each in specs))


def _shape(spec: LaunchSpec) -> object:
    """What EC2 is told, but for the second at which the machine ends on its own."""
    told = tuple(sorted((name, value) for name, value in spec.tags.items() if name != tags.EXPIRES_TAG))
    disk = spec.disk_gib, spec.disk_mbps, spec.disk_iops
    return spec.offer, spec.zone, spec.image, disk, spec.user_data, spec.instance_profile, told
