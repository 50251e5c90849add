"""What was intended and what became of it, on disk before EC2 is asked: `.snakemake/ec2/journal.sqlite`.

A run that was killed at any instruction leaves here all that the next one needs: which machines
may exist (the intent, with its token, is written before the launch), how to reach them
(the run's login key, the host keys that are pinned), which job runs where and how far it came.
The file is readable by its owner only, and the login key is erased with the run's last machine
(docs/decisions/0020-journal.md).

A run is alive while its process holds a lock (flock) that the system frees however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from snakemake_executor_ec2.errors import ConfigurationError, LaunchError
from snakemake_executor_ec2.model import JobPlan, JobResult, LaunchSpec, Machine, Phase
from snakemake_executor_ec2.records import whereabouts
from snakemake_executor_ec2.records.rows import (
    Attempt,
    MachineRecord,
    RunRecord,
    attempt_of,
    machine_of,
    run_of,
)
from snakemake_executor_ec2.records.schema import opened
from snakemake_executor_ec2.records.whereabouts import Verdict, judge
from snakemake_executor_ec2.records.writer import Forked, GroupWriter, Removed, Statement

FOLDER = Path(".snakemake", "ec2")
"""Where a workflow's folder keeps what this executor knows."""

BROWSE = "browse"
"""Below it: what `snakemake-ec2 browse` writes for other programs, a folder for each run."""
_TAKE_SECONDS = """
UPDATE machines SET ahead_s=COALESCE((SELECT seconds FROM attempts WHERE id=?), ahead_s) WHERE id=?"""


class Journal:
    """One folder's journal. Threads and processes may share it.

    What a crash must not take back is waited for: a run, a machine, an attempt, a launch that is about to
    be asked for, who looks after a machine. All else is on the disk within a moment, in the order in which
    it was told; whose next step would be taken twice without it asks whether it `is_written`.

    What cannot be written (a full disk) stops a launch, because its machine could be lost; it
    stops nothing that runs already: `warn` says it, and it is written as soon as that works again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        now: Callable[[], float],
        warn: Callable[[str], None],
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect,
    ) -> None:
        self._now = now
        self._warn = warn
        self._lock = threading.Lock()
        self._held: dict[str, IO[bytes]] = {}
        self.folder = folder / FOLDER
        self.here = whereabouts.here(folder)
        self._path = path = self.folder / "journal.sqlite"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Before SQLite opens it: there is no moment at which others could read it.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            path.chmod(0o600)
            self._inode = path.stat().st_ino
            self._writer = GroupWriter(
                lambda: opened(connect, path), is_there=self._is_there, warn=self._tell_unwritten
            )
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"{path} cannot be written ({error}); machines could get lost"
            ) from error

    def close(self) -> None:
        """Write what can be written, close the file, let go of the locks."""
        self._writer.close()
        with self._lock:
            for file in self._held.values():
                file.close()
            self._held.clear()

    # --- runs ---------------------------------------------------------------------------------

    def begin_run(self, run: RunRecord) -> None:
        """Enter a run of this process, which is alive from now on. Raises ConfigurationError."""
        self._hold(run.id)
        login = run.login
        sql = (
            "INSERT INTO runs (id, began_at, pid, region, endpoint, ssh_user, ssh_port, login_private,"
            " login_public, lease_s, account, whereabouts, ssh_proxy, ssh_to, cloud_env)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
        )
        values = (
            run.id, run.began_at, run.pid, run.region, run.endpoint, run.ssh_user, run.ssh_port,
            login and login.private, login and login.public, run.lease_s, run.account,
            json.dumps((run.where or self.here).as_json()), run.ssh_proxy, run.ssh_to,
            json.dumps(dict(run.cloud_env)),
        )  # fmt: skip
        self._must(ConfigurationError, "a run", (sql, values))

    def leave_run(self, run_id: str, *, detached: bool) -> None:
        """The run has ended; there may be machines that it left."""
        self._write("UPDATE runs SET ended_at=?, detached=? WHERE id=?", self._now(), int(detached), run_id)
        self.is_written()  # before others see it dead
        with self._lock:
            held = self._held.pop(run_id, None)
        if held is not None:
            held.close()

    def close_run(self, run_id: str) -> None:
        """Nothing of the run is left on EC2: what only served to reach it is erased."""
        self._write(
            "UPDATE runs SET closed=1, login_private=NULL, cloud_env='{}', ended_at=coalesce(ended_at, ?)"
            " WHERE id=?",
            self._now(),
            run_id,
        )
        self.is_written()
        shutil.rmtree(self.folder / BROWSE / run_id, ignore_errors=True)  # copies of its key

    def runs(self, *, closed: bool = False) -> list[RunRecord]:
        """The runs that may have left something on EC2; with `closed`, all of them."""
        where = "" if closed else " WHERE closed=0"
        return [run_of(row) for row in self._rows(f"SELECT * FROM runs{where} ORDER BY began_at")]  # noqa: S608

    def run(self, run_id: str) -> RunRecord:
        """One run, alive or not."""
        return run_of(self._rows("SELECT * FROM runs WHERE id=?", run_id)[0])

    def verdict(self, run: RunRecord) -> Verdict:
        """Whether a run lives, or ended, or is not this folder's to judge."""
        locked = whereabouts.is_locked(self._lock_of(run.id))
        return judge(run.where, self.here, locked=locked, seen_at=self.last_seen(run), ended=run.ended)

    def is_dead(self, run_id: str) -> bool:
        """Whether the run has ended for certain, and what it left is this folder's."""
        return self.verdict(self.run(run_id)) is Verdict.DEAD

    def is_alive(self, run_id: str) -> bool:
        """Whether the run's process is known to be there."""
        return self.verdict(self.run(run_id)) is Verdict.ALIVE

    def beat(self, run_id: str) -> None:
        """The run is alive; `last_seen` shows when it was last."""
        with suppress(OSError):
            os.utime(self._lock_of(run_id))

    def last_seen(self, run: RunRecord) -> float:
        """Until when a run is known to have been alive."""
        with suppress(OSError):
            return self._lock_of(run.id).stat().st_mtime
        return run.began_at

    # --- machines -----------------------------------------------------------------------------

    def begin_machine(self, run_id: str, host_key: str, plan: JobPlan) -> tuple[int, int]:
        """Enter a machine and the attempt that it is for, before EC2 is asked for it; returns their ids.
        Raises LaunchError."""
        sql = "INSERT INTO machines (run, owner, host_keys, began_at) VALUES (?,?,?,?)"
        values = (run_id, run_id, json.dumps([host_key]), self._now())
        attempt = self._attempt(None, plan)
        machine_id, attempt_id = self._must(LaunchError, "a launch", (sql, values), attempt)
        return machine_id, attempt_id

    def intend(self, machine: int, spec: LaunchSpec) -> None:
        """A launch is about to be asked for. Raises LaunchError: then it must not be."""
        self._must(
            LaunchError,
            "a launch",
            ("INSERT OR IGNORE INTO launches VALUES (?, ?)", (spec.token, machine)),
            ("UPDATE machines SET claim_s=? WHERE id=?", (spec.claim_s, machine)),
        )

    def launched(self, token: str, machine: Machine) -> None:
        """EC2 launched a machine for a token."""
        self._write(
            "UPDATE machines SET machine=? WHERE id=(SELECT machine_id FROM launches WHERE token=?)",
            json.dumps(asdict(machine)),
            token,
        )

    def note_machine(
        self,
        machine: int,
        *,
        host_keys: Collection[str] | None = None,
        usd: float | None = None,
        kept_until: float | None = None,
        lease_s: float | None = None,
    ) -> None:
        """What is known of a machine from now on; None: as it was."""
        keys = host_keys and json.dumps(list(host_keys))
        self._note("machines", machine, host_keys=keys, usd=usd, kept_until=kept_until, lease_s=lease_s)

    def end_machine(self, machine: int, end_reason: str) -> None:
        """EC2 accepted that a machine ends; what was under way on it ended so, in a word."""
        self._writer.tell(
            ("UPDATE attempts SET end_reason=? WHERE machine_id=? AND end_reason=''", (end_reason, machine)),
            ("UPDATE machines SET ended_at=coalesce(ended_at, ?) WHERE id=?", (self._now(), machine)),
        )

    def claim(self, machine: MachineRecord, run_id: str) -> bool:
        """Make a run the owner of another one's machine; False if a third was faster. Raises LaunchError."""
        sql = "UPDATE machines SET owner=? WHERE id=? AND owner IN (?, ?)"
        values = (run_id, machine.id, machine.owner, run_id)
        return self._must(LaunchError, "an adoption", (sql, values)) == [1]

    def machines(self, run_id: str | None = None) -> list[MachineRecord]:
        """The machines that a run launched (all runs'), in order."""
        where, values = ("", ()) if run_id is None else (" WHERE run=?", (run_id,))
        rows = self._rows(f"SELECT * FROM machines{where} ORDER BY id", *values)  # noqa: S608
        return [machine_of(row) for row in rows]

    # --- attempts -----------------------------------------------------------------------------

    def begin(self, machine: int, plan: JobPlan) -> int:
        """Enter one more attempt on a machine; its id. Raises LaunchError."""
        return self._must(LaunchError, "an attempt", self._attempt(machine, plan))[0]

    def move(self, attempt: int, machine: int, *, instead_of: int | None = None) -> None:
        """An attempt for which a machine was to be launched runs on another one, that is there already,
        `instead_of` what has stood for its job, whose times become the machine's. Raises LaunchError."""
        self._must(
            LaunchError,
            "an attempt",
            self._no_machine_of(attempt),
            ("UPDATE attempts SET machine_id=? WHERE id=?", (machine, attempt)),
            (_TAKE_SECONDS, (instead_of, machine)),
            ("DELETE FROM attempts WHERE id=?", (instead_of,)),
        )

    def discard(self, attempt: int) -> None:
        """Forget an attempt for which no machine was launched."""
        self._writer.tell(self._no_machine_of(attempt), ("DELETE FROM attempts WHERE id=?", (attempt,)))

    def enter(self, attempt: int, phase: Phase) -> None:
        """A phase begins."""
        self._write("UPDATE attempts SET phase=? WHERE id=?", phase, attempt)

    def note(
        self,
        attempt: int,
        *,
        saved_state: Mapping[str, Any] | None = None,
        outputs_fetched: Mapping[str, tuple[int, int]] | None = None,
        seconds: Mapping[Phase, float] | None = None,
        usd: float | None = None,
        result: JobResult | None = None,
    ) -> None:
        """What is known of an attempt from now on; None: as it was."""
        texts = {
            "saved_state": saved_state,
            "outputs_fetched": outputs_fetched,
            "seconds": seconds,
            "result": result and asdict(result),
        }
        facts = {name: None if fact is None else json.dumps(fact) for name, fact in texts.items()}
        self._note("attempts", attempt, **facts, usd=usd)

    def end(self, attempt: int, end_reason: str, error: str = "") -> None:
        """The attempt is over, in a word; its machine may not be. `error`: what ended it, in a sentence."""
        self._write("UPDATE attempts SET end_reason=?, error=? WHERE id=?", end_reason, error, attempt)

    def attempts(self, run_id: str | None = None) -> list[Attempt]:
        """The attempts on machines that a run launched (all runs'), in order."""
        machines = {each.id: each for each in self.machines(run_id)}
        theirs = "" if run_id is None else " WHERE machine_id IN (SELECT id FROM machines WHERE run=?)"
        values = () if run_id is None else (run_id,)
        rows = self._rows(f"SELECT * FROM attempts{theirs} ORDER BY id", *values)  # noqa: S608
        # One that another process has begun on a new machine in between is too young to matter.
        return [attempt_of(row, machines[row["machine_id"]]) for row in rows if row["machine_id"] in machines]

    def of_owner(self, run_id: str) -> tuple[list[Attempt], list[MachineRecord]]:
        """The attempts on the machines that a run has launched or taken over, and these, in order."""
        rows = self._rows("SELECT * FROM machines WHERE owner=? ORDER BY id", run_id)
        machines = {row["id"]: machine_of(row) for row in rows}
        attempts = self._rows(
            "SELECT * FROM attempts WHERE machine_id IN (SELECT id FROM machines WHERE owner=?) ORDER BY id",
            run_id,
        )
        told = [
            attempt_of(row, machines[row["machine_id"]])
            for row in attempts
            if row["machine_id"] in machines  # one that has begun in between is too young to matter
        ]
        return told, list(machines.values())

    def attempts_on(self, machine: MachineRecord) -> list[Attempt]:
        """The attempts on one machine, in order."""
        rows = self._rows("SELECT * FROM attempts WHERE machine_id=? ORDER BY id", machine.id)
        return [attempt_of(row, machine) for row in rows]

    def attempt(self, attempt_id: int) -> Attempt:
        """One attempt as it is now."""
        return next(each for each in self.attempts() if each.id == attempt_id)

    def is_written(self) -> bool:
        """Write what is not written yet; returns whether all entries are on the disk now."""
        return self._writer.is_written()

    # --- helpers ------------------------------------------------------------------------------

    def _hold(self, run_id: str) -> None:
        path = self._lock_of(run_id)
        path.parent.mkdir(exist_ok=True)
        file = path.open("ab")
        with suppress(OSError):  # there are no locks here: the heartbeat has to do
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with self._lock:
            self._held[run_id] = file

    def _is_there(self) -> bool:
        """Whether the file is still where the next run will look for it."""
        with suppress(OSError):
            return self._path.stat().st_ino == self._inode
        return False

    def _tell_unwritten(self, error: Exception) -> None:
        if isinstance(error, Removed):
            self._warn(
                f"the journal {self._path} was removed during the run: what runs is finished, and "
                "nothing more is launched. If this run is killed, `snakemake-ec2 stop` finds its machines"
            )
        else:
            self._warn(f"the journal {self._path} cannot be written: {error}")

    def _lock_of(self, run_id: str) -> Path:
        return self.folder / "runs" / f"{run_id}.lock"

    def _rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        return self._writer.rows(sql, *values)

    def _write(self, sql: str, *values: object) -> None:
        self._writer.tell((sql, values))

    def _no_machine_of(self, attempt: int) -> Statement:
        """The machine that was entered for an attempt is not launched."""
        sql = "UPDATE machines SET ended_at=? WHERE id=(SELECT machine_id FROM attempts WHERE id=?)"
        return sql, (self._now(), attempt)

    def _attempt(self, machine: int | None, plan: JobPlan) -> Statement:
        """Enters an attempt on a machine; None: on the one that was entered just before."""
        sql = (
            "INSERT INTO attempts (machine_id, key, label, rule, fingerprint, outputs, phase, began_at,"
            " asked) VALUES (coalesce(?, last_insert_rowid()),?,?,?,?,?,?,?,?)"
        )
        outputs = json.dumps([str(path) for path in (*plan.outputs, *plan.optional_outputs)])
        return sql, (
            machine,
            plan.key,
            plan.label,
            plan.rule,
            plan.fingerprint,
            outputs,
            Phase.LAUNCH,
            self._now(),
            json.dumps(asdict(plan.requirements)),
        )

    def _note(self, table: str, row: int, **facts: object) -> None:
        told = {name: value for name, value in facts.items() if value is not None}
        if told:
            columns = ", ".join(f"{name}=?" for name in told)
            self._write(f"UPDATE {table} SET {columns} WHERE id=?", *told.values(), row)  # noqa: S608

    def _must(
        self, raises: type[ConfigurationError | LaunchError], what: str, *statements: Statement
    ) -> list[int]:
        try:
            return self._writer.must(*statements)
        except Removed as error:
            raise raises(f"{what} cannot be entered in the journal: {self.folder} was removed") from error
        except (sqlite3.Error, Forked) as error:
            raise raises(
                f"{what} cannot be entered in the journal {self._path} ({error}); "
                "without that its machine could get lost"
            ) from error
