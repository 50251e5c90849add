"""Where a folder's run away is now: in the journal, on EC2, and over ssh."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_ec2.away.machine import AwayMachine
from snakemake_executor_ec2.away.project import Started, started_of
from snakemake_executor_ec2.aws.inventory import Inventory
from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.controller import compose
from snakemake_executor_ec2.controller.compose import Logins
from snakemake_executor_ec2.controller.config import LOST_AFTER_S, RunConfig
from snakemake_executor_ec2.errors import ConfigurationError, Ec2ExecutorError
from snakemake_executor_ec2.machines.connection import Connection
from snakemake_executor_ec2.machines.failure_detector import Reachability
from snakemake_executor_ec2.machines.host_keys import HostKeys
from snakemake_executor_ec2.model import Machine, MachineState, MachineStatus
from snakemake_executor_ec2.ports import Cloud
from snakemake_executor_ec2.records.journal import FOLDER, Journal
from snakemake_executor_ec2.records.rows import Attempt, RunRecord
from snakemake_executor_ec2.records.whereabouts import Verdict
from snakemake_executor_ec2.report import away as words
from snakemake_executor_ec2.tags import AWAY_RULE
from snakemake_executor_ec2.timing import SystemClock

PATIENCE_S = 60.0
"""How long a machine that does not answer is tried."""
_RUNS_S = 30 * 24 * 3600.0
"""How long a connection that is followed is opened again and again."""


@dataclass(frozen=True, kw_only=True)
class Away:
    """A folder's run away, as its journal has it: the newest start."""

    run: RunRecord
    attempt: Attempt

    @property
    def machine(self) -> Machine:
        assert self.attempt.machine is not None
        return self.attempt.machine

    @property
    def until(self) -> float | None:
        """When the machine ends at the latest."""
        return self.attempt.on.kept_until

    @property
    def started(self) -> Started:
        return started_of((self.attempt.saved_state or {})["away"])


def newest(journal: Journal | None) -> Away | None:
    """The newest start of a folder's journal on a machine that nobody has ended; None: there is none."""
    for attempt in reversed(journal.attempts() if journal else []):
        ready = attempt.saved_state is not None and "away" in attempt.saved_state
        if attempt.rule == AWAY_RULE and attempt.machine and ready and attempt.on.ended_at is None:
            assert journal is not None
            return Away(run=journal.run(attempt.on.run), attempt=attempt)
    return None


def alive_in(folder: Path) -> Machine | None:
    """The machine of a folder's run away, unless its time is over: for a run that is about to begin here."""
    if not (folder / FOLDER / "journal.sqlite").exists():
        return None
    journal = Journal(folder, now=time.time, warn=lambda _: None)
    try:
        away = newest(journal)
    finally:
        journal.close()
    return away.machine if away is not None and (away.until or 0.0) > time.time() else None


def unready(journal: Journal) -> list[Away]:
    """Starts that were killed before their machine was ready, if they launched one: nothing runs there, and
    no start finds it. One of each run."""
    attempts = [each for each in journal.attempts() if each.rule == AWAY_RULE]
    ready = {each.on.run for each in attempts if "away" in (each.saved_state or {}) or each.on.kept_until}
    found: dict[str, Away] = {}
    for each in attempts:
        run = journal.run(each.on.run)
        over = run.closed or each.on.ended_at is not None or run.id in ready
        if not over and journal.verdict(run) is Verdict.DEAD:
            found[run.id] = Away(run=run, attempt=each)
    return [*found.values()]


class Way:
    """The way to a run's machine: EC2 first, then ssh. Closed by its `with`."""

    def __init__(
        self,
        away: Away,
        folder: Path,
        *,
        profile: str | None,
        tell: Callable[[str], None],
        follow: bool = False,
    ) -> None:
        """`follow`: lost connections are opened again for days."""
        run = away.run
        self.away = away
        self._folder = folder
        self._tell = tell
        self.config = RunConfig(
            region=run.region,
            profile=profile,
            ssh_user=run.ssh_user,
            ssh_port=run.ssh_port,
            ssh_to=run.ssh_to,
            ssh_proxy=run.ssh_proxy,
            use_baked=False,
        )
        self.clock = SystemClock()
        self.ec2 = compose.cloud(self.config, run.id, self.clock, tell)
        if self.ec2.endpoint != run.endpoint:
            raise ConfigurationError(
                f"the run is away on {run.endpoint}, but your AWS configuration leads to {self.ec2.endpoint}"
            )
        # To another account the machine looks as if it were gone.
        if run.account is not None and (account := self.ec2.account) not in (None, run.account):
            raise ConfigurationError(
                f"the run is away in the AWS account {run.account}, but your credentials are of {account}"
            )
        self.cloud: Cloud = self.ec2
        self._patience_s = _RUNS_S if follow else PATIENCE_S
        self._connection: Connection | None = None

    def __enter__(self) -> Way:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def status(self) -> MachineStatus:
        """What EC2 says of the machine."""
        name = self.away.machine.id
        if name not in self.ec2.take_over():  # EC2 forgets those that ended an hour ago
            return MachineStatus(state=MachineState.TERMINATED)
        return self.cloud.status(name)

    def crashed(self) -> bool:
        """Whether EC2's own checks of the machine fail."""
        return self.cloud.is_impaired(self.away.machine.id)

    def reboot(self) -> None:
        """Have EC2 restart the machine."""
        Inventory(clients=self.ec2.clients).reboot(self.away.machine.id)

    def machine(self, *, first_s: float = PATIENCE_S) -> AwayMachine:
        """The machine, once it answers. Raises InstanceLost, or another ConnectError, after `first_s`."""
        on, state = self.away.attempt.on, self.away.attempt.saved_state
        assert state is not None
        self._connection = connection = Connection(
            cloud=self.cloud,
            connector=Logins.of(self.config).connector_of(self.away.run, self.config),
            clock=self.clock,
            cancel=CancelToken(),
            machine=self.away.machine,
            host_keys=on.host_keys,
            patience_s=self._patience_s,
            lost_after_s=min(self._patience_s, LOST_AFTER_S),
            reachability=Reachability(),
            tell=self._tell,
        )
        connection.open(first_s)
        host_keys = HostKeys(first_is_enough=False, tell=self._tell)
        session = compose.sessions(self.config, self.clock, host_keys, self._tell, [])(connection)
        session.resume(state)
        return AwayMachine(connection, session, self._folder, state)


def reachable(way: Way) -> AwayMachine:
    """The machine, for a look. Raises Ec2ExecutorError that says what to do if it is gone or silent."""
    status = way.status()
    if status.state.is_gone:
        raise ConfigurationError(words.gone(way.away.machine, status.state, status.reason))
    try:
        return way.machine()
    except Ec2ExecutorError as error:
        raise replaced(error, way) from error


def replaced(error: Ec2ExecutorError, way: Way) -> ConfigurationError:
    """What a user is told of a machine that does not answer."""
    return ConfigurationError(words.crashed(way.away.machine, error.message))
