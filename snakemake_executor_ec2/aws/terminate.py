"""Ending machines: what stops the bill, so it does not give up easily."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from snakemake_executor_ec2.aws.errors import AWS_ERRORS, AwsError, code_of, is_transient, translate
from snakemake_executor_ec2.aws.statuses import describe_machine, describe_run
from snakemake_executor_ec2.errors import CredentialsExpired, Ec2ExecutorError
from snakemake_executor_ec2.model import MachineState
from snakemake_executor_ec2.ports import Clock
from snakemake_executor_ec2.timing import Backoff

if TYPE_CHECKING:
    from snakemake_executor_ec2.aws.clients import Clients

TERMINATE_S = 120.0
"""How long throttling, AWS's own errors and a lost network are waited out."""
SWEEP_S = 60.0
"""How long `sweep` looks for machines that are left."""
NEW_S = 60.0
"""For this long after its launch, EC2 may not know a machine that nevertheless exists."""

GATHER_S = 0.2
"""How long a machine that is to be ended waits for others: EC2 takes five calls a second in the long run."""
_BATCH = 100
_ACTION = "ec2:TerminateInstances"
_ALIVE = (MachineState.PENDING, MachineState.RUNNING, MachineState.STOPPING, MachineState.STOPPED)
_CLEAN_SWEEPS = 2
"""DescribeInstances lags behind launches: one answer that shows no machine proves little."""
_SWEEP_GAP_S = 1.0
_NO_SUCH = "InvalidInstanceID"
_SKIP_REFUSED = frozenset(
    {"InvalidParameter", "InvalidParameterValue", "InvalidParameterCombination", "UnknownParameter"}
)


class _Batch:
    """Machines that several threads want to end at about the same time."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.failures: Future[dict[str, Ec2ExecutorError] | None] = Future()
        """Those that could not be ended, and why; None: the thread that was to end them did not."""


class Terminator:
    """Threads may share it."""

    def __init__(self, clients: Clients, *, run_id: str, clock: Clock, warn: Callable[[str], None]) -> None:
        self._clients = clients
        self._run_id = run_id
        self._clock = clock
        self._warn = warn
        self._lock = threading.Lock()
        self._launched_at: dict[str, float] = {}
        self._skip_os_shutdown = True
        self._gathering: _Batch | None = None

    def launched(self, machine_id: str) -> None:
        """Remember a launch: EC2's `NotFound` is not believed for a while."""
        with self._lock:
            self._launched_at[machine_id] = self._clock.monotonic()

    def terminate(self, machine_ids: Collection[str]) -> None:
        """See `Cloud.terminate`. One machine that can't be ended hinders no other; the first such
        error is raised after all others have been ended."""
        failures: dict[str, Ec2ExecutorError] | None = None
        while failures is None:
            with self._lock:
                leads = self._gathering is None
                batch = self._gathering = self._gathering or _Batch()
                batch.ids.update(machine_ids)
            if leads:
                self._end_gathered(batch)
            failures = batch.failures.result()
        for each in failures.keys() & {*machine_ids}:
            raise failures[each]

    def _end_gathered(self, batch: _Batch) -> None:
        failures: dict[str, Ec2ExecutorError] | None = None
        try:
            try:
                self._clock.sleep(GATHER_S)
            finally:
                with self._lock:
                    self._gathering = None
            failures = self.end(batch.ids)
        finally:
            # Ctrl-C may end this thread's call, and must not keep others from ending theirs.
            batch.failures.set_result(failures)

    def end(self, machine_ids: Collection[str]) -> dict[str, Ec2ExecutorError]:
        """End machines; the ids of those that could not be ended, and why."""
        waiting = sorted(set(machine_ids))
        failures: dict[str, Ec2ExecutorError] = {}
        for start in range(0, len(waiting), _BATCH):
            self._end_batch(waiting[start : start + _BATCH], failures)
        return failures

    def sweep(self) -> bool:
        """End all of the run's machines that are alive, until none is found twice in a row.

        Warns about what could not be ended, and returns False; raises nothing of AWS's.
        """
        patience = Backoff(self._clock, total_s=SWEEP_S, first_s=_SWEEP_GAP_S, most_s=4.0)
        clean = 0
        failure: Ec2ExecutorError | None = None
        alive: list[str] = []
        while clean < _CLEAN_SWEEPS:
            try:
                alive = [row["InstanceId"] for row in describe_run(self._clients.ec2, self._run_id, _ALIVE)]
                if alive:
                    self.terminate(alive)
                failure = None
            except AWS_ERRORS as error:
                failure = translate(error, "ec2:DescribeInstances")
            except Ec2ExecutorError as error:
                failure = error
            clean = 0 if alive or failure else clean + 1
            if clean < _CLEAN_SWEEPS and not patience.pause():
                self._warn(self._left(alive, failure))
                return False
        return True

    def _left(self, alive: list[str], failure: Ec2ExecutorError | None) -> str:
        what = ", ".join(alive) or f"machines with the tag snakemake-ec2:run={self._run_id}"
        why = f" ({failure})" if failure else ""
        return (
            f"could not make sure that no machine is left: {what}{why}; the next run in this folder ends "
            "them, as does `snakemake-ec2 gc --yes`. They also end by themselves when their lease is over"
        )

    def _end_batch(self, batch: list[str], failures: dict[str, Ec2ExecutorError]) -> None:
        """EC2 ends all or none: whatever it objects to is taken out first."""
        patience = Backoff(self._clock, total_s=TERMINATE_S)
        while batch:
            try:
                batch = self._call(batch)
            except AWS_ERRORS as error:
                unknown = self._unknown(error, batch)
                if unknown:
                    self._end_batch([each for each in batch if each not in unknown], failures)
                    batch = [each for each in batch if each in unknown and self._is_new(each)]
                elif not is_transient(error):
                    self._end_each(batch, error, failures)
                    return
                if batch and not patience.pause():
                    failures.update(self._failed(batch, error) if not unknown else {})
                    return

    def _end_each(self, batch: list[str], error: AwsError, failures: dict[str, Ec2ExecutorError]) -> None:
        """EC2 objects to one of them, and does not say to which."""
        if len(batch) > 1:
            for each in batch:
                self._end_batch([each], failures)
        elif not self._is_gone(batch[0]):
            failures.update(self._failed(batch, error))

    def _failed(self, batch: list[str], error: AwsError) -> dict[str, Ec2ExecutorError]:
        failure = translate(error, _ACTION)
        failure.__cause__ = error
        if isinstance(failure, CredentialsExpired):
            self._clients.log_in_again()
        return dict.fromkeys(batch, failure)

    def _is_gone(self, machine_id: str) -> bool:
        """True if EC2 says that a machine has ended already, whatever else it objected to."""
        try:
            rows = describe_machine(self._clients.ec2, machine_id)
        except AWS_ERRORS:
            return False  # the failure to end it is what the user hears of
        return any(MachineState(row["State"]["Name"]) not in _ALIVE for row in rows)

    def _call(self, batch: list[str]) -> list[str]:
        """Ask EC2; what is left to be ended after that."""
        extra: dict[str, Any] = {}
        if self._skip_os_shutdown and self._knows_skip():
            extra["SkipOsShutdown"] = True
        try:
            self._clients.ec2_once.terminate_instances(InstanceIds=batch, **extra)
        except ClientError as error:
            if not extra or code_of(error) not in _SKIP_REFUSED:
                raise
            self._skip_os_shutdown = False
            self._clients.ec2_once.terminate_instances(InstanceIds=batch)
        return []

    def _knows_skip(self) -> bool:
        """The installed botocore may be older than the parameter (2025)."""
        model = self._clients.ec2_once.meta.service_model
        request = model.operation_model("TerminateInstances").input_shape
        return request is not None and "SkipOsShutdown" in request.members

    def _unknown(self, error: AwsError, batch: list[str]) -> set[str]:
        """The machines that EC2 says it does not have: its message names them."""
        if not code_of(error).startswith(_NO_SUCH):
            return set()
        named = set(re.findall(r"i-[0-9a-z]+", str(error))) & set(batch)
        return named or (set(batch) if len(batch) == 1 else set())

    def _is_new(self, machine_id: str) -> bool:
        with self._lock:
            launched_at = self._launched_at.get(machine_id)
        return launched_at is not None and self._clock.monotonic() - launched_at < NEW_S
