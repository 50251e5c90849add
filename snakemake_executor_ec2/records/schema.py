"""The journal's tables, and how its file is opened."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

from snakemake_executor_ec2.errors import JournalOfAnotherVersion

_BUSY_S = 30.0
TABLES = (
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, began_at REAL NOT NULL, ended_at REAL, pid INTEGER NOT NULL,
        region TEXT NOT NULL, endpoint TEXT NOT NULL, ssh_user TEXT NOT NULL, ssh_port INTEGER NOT NULL,
        login_private TEXT, login_public TEXT, lease_s REAL NOT NULL,
        detached INTEGER NOT NULL DEFAULT 0, closed INTEGER NOT NULL DEFAULT 0, account TEXT,
        whereabouts TEXT, ssh_proxy TEXT, ssh_to TEXT NOT NULL DEFAULT 'auto',
        cloud_env TEXT NOT NULL DEFAULT '{}'
    )""",
    """
    CREATE TABLE machines (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL REFERENCES runs, owner TEXT NOT NULL REFERENCES runs,
        host_keys TEXT NOT NULL, machine TEXT, usd REAL, claim_s REAL, lease_s REAL, kept_until REAL,
        began_at REAL NOT NULL, ended_at REAL, ahead_s TEXT NOT NULL DEFAULT '{}'
    )""",
    "CREATE TABLE launches (token TEXT PRIMARY KEY, machine_id INTEGER NOT NULL REFERENCES machines)",
    """
    CREATE TABLE attempts (
        id INTEGER PRIMARY KEY, machine_id INTEGER NOT NULL REFERENCES machines,
        key TEXT NOT NULL, label TEXT NOT NULL, rule TEXT NOT NULL, fingerprint TEXT NOT NULL,
        outputs TEXT NOT NULL, phase TEXT NOT NULL, end_reason TEXT NOT NULL DEFAULT '',
        saved_state TEXT, outputs_fetched TEXT,
        seconds TEXT NOT NULL DEFAULT '{}', usd REAL, began_at REAL NOT NULL,
        asked TEXT NOT NULL, result TEXT, error TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX machines_by_run ON machines (run)",
    "CREATE INDEX attempts_by_machine ON attempts (machine_id)",
)
VERSION = zlib.crc32(" ".join(" ".join(TABLES).split()).encode()) >> 1
"""Computed from the tables: a journal with other tables is refused, and no number has to be kept up to
date."""


def opened(connect: Callable[..., sqlite3.Connection], path: Path) -> sqlite3.Connection:
    """A connection to a journal of this version. Raises sqlite3.Error, JournalOfAnotherVersion."""
    db = connect(path, timeout=_BUSY_S, isolation_level=None)
    db.row_factory = sqlite3.Row
    # Not WAL, which does not work on network file systems. A commit is on the disk.
    db.execute("PRAGMA journal_mode=TRUNCATE")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA secure_delete=ON")
    try:
        if _version(db) != VERSION:
            _make_tables(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _make_tables(db: sqlite3.Connection, path: Path) -> None:
    db.execute("BEGIN IMMEDIATE")  # two runs may begin at once
    if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
        for statement in TABLES:
            db.execute(statement)
        db.execute(f"PRAGMA user_version={VERSION}")
    db.execute("COMMIT")
    if _version(db) != VERSION:
        raise JournalOfAnotherVersion(
            f"{path} was written by another version of this executor and cannot be read by this one. "
            "Machines that it names may still run: `snakemake-ec2 stop --mine` ends all that are yours. "
            "Then remove the file, and run the same command again"
        )


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
