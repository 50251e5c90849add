"""A connection to one machine that is opened again when it breaks, for as long as the machine may exist."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import (
    ConnectError,
    ConnectionLost,
    Ec2ExecutorError,
    HostKeyMismatch,
    InstanceLost,
    LoginRefused,
    PermissionDenied,
)
from snakemake_executor_ec2.formatting import duration
from snakemake_executor_ec2.machines.failure_detector import FailureDetector, InVain, Reachability
from snakemake_executor_ec2.model import Machine, MachineStatus
from snakemake_executor_ec2.ports import Clock, Cloud, Connector, RemoteHost
from snakemake_executor_ec2.report import messages

T = TypeVar("T")

_ATTEMPT_S = 10.0
"""How long one attempt to connect may take: longer than a SYN that is sent again twice (7 s)."""
_PAUSES_S = (0.5, 0.5, 0.5, 1.0, 2.0, 5.0)
"""Between attempts. The first ones are short: a machine that boots answers from one moment on."""
_STEADY_S = 60.0
"""A connection that stood for so long is opened again at once; after shorter ones there are pauses, too."""
_ADDRESS_CHECK_S = 20.0
"""After so long without an answer, check whether this computer's own address has changed."""
_ASK_EC2_AFTER_S = 20.0
"""After so long without an answer EC2 is asked about the machine; most boot in about that time."""
_TELL_AFTER_S = 60.0
"""After so long without an answer the user is warned."""


class Connection:
    """Runs things on a machine over a connection that is opened again when it was lost.

    What is run must be safe to run again. `host_keys` are the only ones that are accepted;
    they may be replaced when the machine's key is rotated. `patience_s`: how long a machine is
    waited for that may be there; `lost_after_s`: how long one that seems to have crashed is
    (see `machines/failure_detector.py`).
    """

    def __init__(
        self,
        *,
        cloud: Cloud,
        connector: Connector,
        clock: Clock,
        cancel: CancelToken,
        machine: Machine,
        host_keys: tuple[str, ...],
        patience_s: float,
        lost_after_s: float,
        reachability: Reachability,
        tell: Callable[[str], None],
        host: RemoteHost | None = None,
    ) -> None:
        """`host`: a connection that is open already."""
        self._cloud = cloud
        self._connector = connector
        self._clock = clock
        self._cancel = cancel
        self._machine = machine
        self.machine_id = machine.id
        self.zone = machine.zone
        self._patience_s = patience_s
        self._lost_after_s = lost_after_s
        self._reachability = reachability
        self._tell = tell
        self._host = host
        self._last: MachineStatus | None = None
        self._lock = threading.Lock()
        self._host_keys = host_keys
        cancel.on_cancel(self.close)

    @property
    def host_keys(self) -> tuple[str, ...]:
        """The only ones that are accepted."""
        return self._host_keys

    @host_keys.setter
    def host_keys(self, host_keys: tuple[str, ...]) -> None:
        self._host_keys = host_keys
        if (host := self._host) is not None:
            host.pin(host_keys)

    def open(self, timeout_s: float) -> None:
        """Connect for the first time, to a machine that may still be booting.

        Raises after `timeout_s`, in which EC2 answered, HostKeyMismatch or LoginRefused, which
        another machine would do as well, or InstanceLost, as when it ends.
        """
        with self._lock:
            self._host = self._reach(timeout_s, first=True)

    def call(self, use: Callable[[RemoteHost], T]) -> T:
        """The result of `use`, which is called again on a new connection if one breaks.

        Raises InstanceLost if the machine is gone, seems to have crashed, could not be reached for
        `patience_s`, or breaks off whatever is done there.
        """
        lost, in_vain = 0, None
        while True:
            host = self._connected()
            began = self._clock.monotonic()
            try:
                result = use(host)
            except ConnectionLost as error:
                self._cancel.check()
                self._drop(host)
                failure = error
            else:
                self._works()
                return result
            stood = self._clock.monotonic() - began > _STEADY_S
            lost = 0 if stood else lost + 1
            if stood or failure.came_further:
                in_vain = None
                self._works()
            else:
                in_vain = in_vain or self._failing_since(began)
                self._check_use(in_vain, failure)
            if lost > 1:  # a line that lets us log in and then breaks, again and again
                self._cancel.wait(_PAUSES_S[min(lost - 1, len(_PAUSES_S)) - 1])

    def _works(self) -> None:
        self._reachability.note_work(self._machine.id, self._clock.monotonic())

    def _failing_since(self, began: float) -> InVain:
        return InVain(began=began, last=began, lost_after_s=self._lost_after_s, patience_s=self._patience_s)

    def _check_use(self, in_vain: InVain, failure: ConnectionLost) -> None:
        """Raise InstanceLost if a machine that lets us log in has broken off all calls for too long."""
        machine, now = self._machine, self._clock.monotonic()
        if self._is_impaired() is None:
            in_vain.ec2_is_silent(now)
            return
        in_vain.broke_off(now)
        if in_vain.is_over(alone=self._reachability.is_alone_in_failing(machine.id, in_vain.began)):
            raise InstanceLost(messages.breaks_off(machine, in_vain.seconds, failure))

    def once(self, use: Callable[[RemoteHost], T]) -> T | None:
        """The result of `use` over the connection that stands; None if none does, or it breaks."""
        host = self._host
        with suppress(ConnectError):
            return use(host) if host is not None else None
        return None

    def pause(self, seconds: float) -> None:
        """Wait; raises Cancelled at once if the job is cancelled."""
        self._cancel.wait(seconds)

    def handed_over(self, cancel: CancelToken) -> Connection:
        """The same line for another job, which is cancelled for itself."""
        with self._lock:
            host, self._host = self._host, None
        return Connection(
            cloud=self._cloud,
            connector=self._connector,
            clock=self._clock,
            cancel=cancel,
            machine=self._machine,
            host_keys=self.host_keys,
            patience_s=self._patience_s,
            lost_after_s=self._lost_after_s,
            reachability=self._reachability,
            tell=self._tell,
            host=host,
        )

    def close(self) -> None:
        """Close the connection; a call that is under way ends with ConnectionLost."""
        host = self._host
        if host is not None:
            host.close()

    def _connected(self) -> RemoteHost:
        with self._lock:
            if self._host is None:
                self._host = self._reach(self._patience_s, first=False)
            return self._host

    def _allow_ssh(self, address: str) -> None:
        # The launch has done so once: whether it was needed again shows at the next attempt.
        with suppress(Ec2ExecutorError):
            self._cloud.allow_ssh_from_here(address)

    def _console(self) -> str:
        with suppress(Ec2ExecutorError):
            return self._cloud.console_output(self._machine.id)
        return ""

    def _status(self) -> MachineStatus:
        """What EC2 says. If it says nothing (no network to it, credentials that ran out), what
        it said last: the machine itself may still be reachable."""
        try:
            self._last = self._cloud.status(self._machine.id)
        except Ec2ExecutorError:
            if self._last is None:
                raise
        return self._last

    def _drop(self, host: RemoteHost) -> None:
        host.close()
        with self._lock:
            if self._host is host:
                self._host = None

    def _reach(self, timeout_s: float, *, first: bool) -> RemoteHost:
        machine, clock = self._machine, self._clock
        started = last_check = clock.monotonic()
        detector = FailureDetector(began=started, lost_after_s=self._lost_after_s)
        failure: ConnectError | None = None
        attempts, told = 0, False
        at_most_s = max(timeout_s, self._patience_s)
        while (round_began := clock.monotonic()) - started < timeout_s:
            self._cancel.check()
            status = self._status()
            if status.state.is_gone:
                raise InstanceLost(messages.gone(machine, status), reason=status.reason)
            if status.address:
                try:
                    host = self._connector.connect(
                        status.address, name=machine.id, host_keys=self.host_keys, timeout_s=_ATTEMPT_S
                    )
                except ConnectError as error:
                    failure = error
                else:
                    self._cancel.on_cancel(host.close)
                    self._reachability.note(machine.id, clock.monotonic())
                    if told:
                        self._tell(messages.answers_again(machine))
                    return host
                if attempts == 0 or clock.monotonic() - last_check > _ADDRESS_CHECK_S:
                    last_check = clock.monotonic()
                    self._allow_ssh(status.address)
            ec2_answers = round_began - started < _ASK_EC2_AFTER_S or self._look_at(detector)
            if not first and not told and failure and clock.monotonic() - started > _TELL_AFTER_S:
                told = True
                self._tell(messages.silent(machine, failure, self._patience_s))
            self._cancel.wait(_PAUSES_S[min(attempts, len(_PAUSES_S) - 1)])
            attempts += bool(failure)
            if first and not ec2_answers:
                # Our own network is down: that is not the machine's boot taking long.
                timeout_s = min(at_most_s, timeout_s + clock.monotonic() - round_began)
        raise self._unreached(failure, timeout_s, first=first)

    def _unreached(
        self, failure: ConnectError | None, timeout_s: float, *, first: bool
    ) -> ConnectError | InstanceLost:
        """What it comes to that a machine could not be reached in time."""
        machine = self._machine
        why = failure.message if failure else "EC2 gave it no address"
        if first:
            self._reachability.note_unreached(machine.id, why)
        if isinstance(failure, HostKeyMismatch):
            return failure
        if first:
            text = messages.unreachable(machine, timeout_s, why, self._console())
            return LoginRefused(text) if isinstance(failure, LoginRefused) else InstanceLost(text)
        return InstanceLost(f"machine {machine.id} could not be reached for {duration(timeout_s)}: {why}")

    def _look_at(self, detector: FailureDetector) -> bool:
        """Whether EC2 answers. Raises InstanceLost if waiting longer makes no sense."""
        machine, now = self._machine, self._clock.monotonic()
        impaired = self._is_impaired()
        if impaired is None:
            detector.ec2_is_silent()
            return False
        others_answer = self._reachability.answered_since(machine.id, detector.began)
        detector.seen(now, impaired=impaired, others_answer=others_answer)
        if why := detector.why_lost(now):
            raise InstanceLost(f"machine {machine.id} {why}")
        return True

    def _is_impaired(self) -> bool | None:
        """Whether EC2's own checks of the machine fail; None: EC2 does not answer."""
        try:
            return self._cloud.is_impaired(self._machine.id)
        except PermissionDenied:
            return False  # which is an answer: the line to EC2 is up
        except Ec2ExecutorError:
            return None
