"""The disk under a SQLite file, which may be full, and counts what it is asked to keep."""

from __future__ import annotations

import sqlite3
from typing import Any

_WRITES = ("BEGIN", "INSERT", "UPDATE", "DELETE", "CREATE", "COMMIT")


class FakeDisk:
    """`connect` is `sqlite3.connect`, on a disk that may be made full. Reading always works."""

    def __init__(self) -> None:
        self.full = False
        self.commits = 0

    def connect(self, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                if disk.full and sql.startswith(_WRITES):
                    raise sqlite3.OperationalError("database or disk is full")
                disk.commits += sql == "COMMIT"
                return super().execute(sql, *values)

        return sqlite3.connect(*args, factory=Connection, **kwargs)
