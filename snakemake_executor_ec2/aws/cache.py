"""Answers of AWS's that change rarely, kept on this computer between runs.

A cache that cannot be read or written is no cache: the run goes on and asks again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from snakemake_executor_ec2.ports import Clock

DAY_S = 86_400.0
_FORMAT = 2
_KEEP_S = 30 * DAY_S
"""Files of endpoints and regions that were not asked for in this time are removed."""


def default_directory() -> Path:
    """The user's folder for caches (on Linux `~/.cache/snakemake-ec2`); SNAKEMAKE_EC2_CACHE names another
    one, as for an EC2 that does not live long: what the next one answers is not the same."""
    named = os.environ.get("SNAKEMAKE_EC2_CACHE")
    return Path(named) if named else user_cache_path("snakemake-ec2")


class DiskCache:
    """JSON documents with their age, in a folder that only the user can read."""

    def __init__(self, directory: Path | None, clock: Clock) -> None:
        """Without a directory, nothing is kept."""
        self._directory = directory
        self._clock = clock

    def get(self, *key: str, max_age_s: float) -> tuple[Any, float] | None:
        """The document and when it was stored (seconds since the epoch), unless it is too old."""
        if self._directory is None:
            return None
        try:
            found = json.loads(self._path(key).read_text())
            stored_at, document = float(found["stored_at"]), found["document"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        age = self._clock.now() - stored_at
        if found.get("key") != list(key) or found.get("format") != _FORMAT or not 0 <= age <= max_age_s:
            return None
        return document, stored_at

    def put(self, *key: str, document: object) -> None:
        """Store a document; it is there whole or not at all."""
        if self._directory is None:
            return
        entry = {"format": _FORMAT, "key": key, "stored_at": self._clock.now(), "document": document}
        with contextlib.suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._directory, suffix=".part")
            try:
                with os.fdopen(descriptor, "w") as file:
                    json.dump(entry, file)
                # The age of a file is measured by the same clock as that of its document.
                os.utime(name, (self._clock.now(), self._clock.now()))
                Path(name).replace(self._path(key))
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
            self._forget_old()

    def _path(self, key: tuple[str, ...]) -> Path:
        assert self._directory is not None
        readable = re.sub(r"[^A-Za-z0-9.-]+", "-", "-".join(key))[:80]
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
        return self._directory / f"{readable}-{digest}.json"

    def _forget_old(self) -> None:
        assert self._directory is not None
        for path in [*self._directory.glob("*.json"), *self._directory.glob("*.part")]:
            # Another run may be doing the same.
            with contextlib.suppress(FileNotFoundError):
                if self._clock.now() - path.stat().st_mtime > _KEEP_S:
                    path.unlink()
