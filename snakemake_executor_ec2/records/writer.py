"""One thread writes a SQLite file, for all threads of a process: entries that come together are one
transaction.

A commit takes several fsyncs; with many jobs, each would wait for all others. So the thread that owns the
connection takes all entries since the last commit, in their order, commits them at once, and then wakes the
callers that wait. No other thread touches the connection, and callers hold no lock (`SimpleQueue` is one
step of C code): the exception of a signal can neither come between a commit and its record, nor leave
something locked. If the process is killed, a transaction is complete or missing.

Entries that no caller waits for are written within `LINGER_S`. Entries that find no room on the disk are
kept, in their order, and tried again; what the file can never take (it was closed, it is no database) is
dropped, with a warning. A forked child may not write: the file is its parent's.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue

from snakemake_executor_ec2 import threads
from snakemake_executor_ec2.errors import ConfigurationError

Statement = tuple[str, tuple[object, ...]]

LINGER_S = 0.1
"""How long entries that no caller waits for are collected before they are committed."""
_RETRY_S = 2.0
"""Between attempts while the disk is full, if no caller asks for one before."""


class Removed(Exception):
    """The file was deleted: what is written to it would never be read."""


class Forked(Exception):
    """A forked child tries to write its parent's file."""


@dataclass(eq=False)
class _Told:
    """Statements that belong together; or none, from a caller that waits until all before are written."""

    statements: Sequence[Statement] = ()
    must: bool = False
    """A caller waits; if this cannot be written now, it is dropped."""
    reads: bool = False
    closes: bool = False
    rows: list[sqlite3.Row] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """Each statement's new row, or how many rows it changed."""
    error: Exception | None = None
    settled: bool = False
    over: SimpleQueue[None] = field(default_factory=SimpleQueue)

    @property
    def waited_for(self) -> bool:
        """Whether a caller waits; otherwise it is tried again if it can't be written now."""
        return self.must or self.reads or self.closes


class GroupWriter:
    """Writes and reads one file. `warn` is called once each time that it can't be written."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        is_there: Callable[[], bool],
        warn: Callable[[Exception], None],
    ) -> None:
        self._is_there = is_there
        self._warn = warn
        self._pid = os.getpid()
        self._told: SimpleQueue[_Told] = SimpleQueue()
        self._unwritten: list[_Told] = []
        """Seen by the writing thread only."""
        self._stuck = self._closed = False
        self._warned: type[Exception] | None = None
        opened = _Told()
        thread = threads.start(partial(self._live, connect, opened), "journal")
        if thread is None:
            raise ConfigurationError(threads.NONE_LEFT)
        self._thread = thread
        opened.over.get()
        if opened.error is not None:
            raise opened.error
        atexit.register(self.close)

    def tell(self, *statements: Statement) -> None:
        """Write this soon, after all earlier entries."""
        if os.getpid() == self._pid:
            self._put(_Told(statements))

    def must(self, *statements: Statement) -> list[int]:
        """Return once it is on the disk: each statement's new row, or how many it changed.

        Raises sqlite3.Error or Removed if that is impossible now; then it is not written later, either.
        """
        return self._settled(_Told(statements, must=True)).numbers

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Read, after all earlier entries (or what is on the disk, while these find no room)."""
        return self._settled(_Told([(sql, values)], reads=True)).rows

    def is_written(self) -> bool:
        """Try to write what is not written yet; returns whether all earlier entries are on the disk now."""
        with suppress(sqlite3.Error, Removed, Forked):
            self._settled(_Told(must=True))
            return True
        return False

    def close(self) -> None:
        """Write what can be written, and close the file."""
        if os.getpid() == self._pid:
            atexit.unregister(self.close)
            self._put(_Told(closes=True))
            self._thread.join()

    # --- callers' threads ---------------------------------------------------------------------

    def _settled(self, told: _Told) -> _Told:
        if os.getpid() != self._pid:
            raise Forked("it belongs to the process that opened it")
        self._put(told)
        told.over.get()
        if told.error is not None:
            raise told.error
        return told

    def _put(self, told: _Told) -> None:
        self._told.put(told)
        if self._closed:  # after the last look at the queue, perhaps
            self._refuse_all()

    # --- the writing thread -------------------------------------------------------------------

    def _live(self, connect: Callable[[], sqlite3.Connection], opened: _Told) -> None:
        try:
            db = connect()
        except Exception as error:
            opened.error = error
            return
        finally:
            opened.over.put(None)
        batch: list[_Told] = []
        try:
            with closing(db):
                while not any(each.closes for each in batch):
                    batch = self._unwritten + self._next()
                    self._take_turn(db, batch)
        finally:  # also after an error of our own: nobody waits for ever
            self._closed = True
            for each in batch:
                if not each.settled:
                    each.error = sqlite3.ProgrammingError("it was closed")
                    each.over.put(None)
            self._refuse_all()

    def _next(self) -> list[_Told]:
        """What was told, once somebody waits for it or has not told anything more for a moment."""
        told: list[_Told] = []
        with suppress(Empty):
            told.append(self._told.get(timeout=_RETRY_S if self._stuck else None))
            until = time.monotonic() + (_RETRY_S if self._stuck else LINGER_S)
            while not told[-1].waited_for and (left_s := until - time.monotonic()) > 0:
                told.append(self._told.get(timeout=left_s))
            while True:
                told.append(self._told.get_nowait())
        return told

    def _take_turn(self, db: sqlite3.Connection, batch: list[_Told]) -> None:
        writing = [each for each in batch if not each.reads]
        error = self._commit(db, writing) if writing else None
        self._stuck = error is not None
        self._unwritten = [each for each in batch if self._stuck and not each.waited_for]
        for each in batch:
            if each.reads:
                _read(db, each)
            elif each.must and error is not None:
                each.error = error
            each.settled = True
            each.over.put(None)

    def _commit(self, db: sqlite3.Connection, batch: Sequence[_Told]) -> Exception | None:
        """Write all of it, or nothing; why nothing was, if it has to stay."""
        if not self._is_there():
            self._refuse(batch, Removed())
            return None
        try:
            if any(each.statements for each in batch):
                db.execute("BEGIN IMMEDIATE")
                for each in batch:
                    each.error = None
                    _write(db, each)
                db.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                self._tell(error)
                return error
            self._refuse(batch, error)
            return None
        self._warned = None
        for each in batch:
            if each.error is not None and not each.waited_for:
                self._tell(each.error)
        return None

    def _refuse_all(self) -> None:
        with suppress(Empty):
            while True:
                told = self._told.get_nowait()
                self._refuse([told], sqlite3.ProgrammingError("it was closed"))
                told.over.put(None)

    def _refuse(self, batch: Sequence[_Told], error: Exception) -> None:
        """What will never be written. Whoever only asks how far we are hears that nothing is left."""
        for each in batch:
            if each.statements:
                each.error = error
                if not each.waited_for:
                    self._tell(error)

    def _tell(self, error: Exception) -> None:
        if self._warned is not type(error):
            self._warned = type(error)
            with suppress(Exception):  # a terminal that is gone must not end the journal
                self._warn(error)


def _write(db: sqlite3.Connection, told: _Told) -> None:
    """Execute statements. What only they are to blame for is their error; the transaction goes on."""
    told.numbers.clear()
    for sql, values in told.statements:
        try:
            with closing(db.execute(sql, values)) as cursor:
                is_new = sql.startswith("INSERT")
                told.numbers.append(int(cursor.lastrowid or 0) if is_new else cursor.rowcount)
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError) as error:
            told.error = error
            return


def _read(db: sqlite3.Connection, told: _Told) -> None:
    try:
        for sql, values in told.statements:
            with closing(db.execute(sql, values)) as cursor:
                told.rows = cursor.fetchall()
    except sqlite3.Error as error:
        told.error = error
