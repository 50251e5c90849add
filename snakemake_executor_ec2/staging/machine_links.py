"""Links that machines have made, remembered in the working directory: nothing is read through them here.

A user's own link out of the working directory is followed when it is sent. One that a machine made could
lead anywhere, so it is sent as the link that it is. What tells them apart is kept beside the journal.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from pathlib import Path

_FILE = ".snakemake/ec2/links"
_LOCK = threading.Lock()


class MachineLinks:
    """The links that landed in one working directory, whichever run brought them."""

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir
        self._file = workdir / _FILE
        self._read_to = 0
        self._known: dict[str, tuple[str, str | None]] = {}

    def note(self, link: Path, text: str, declared: Path | None) -> None:
        """Remember a link before it is there. `declared` is what of its job's own it leads to."""
        entry = [self._short(link), text, None if declared is None else self._short(declared)]
        if self.ends_of(link, text) == (declared,):
            return
        with _LOCK:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                # From a line of its own, should another's have been cut short.
                os.write(fd, b"\n" + json.dumps(entry).encode() + b"\n")
            finally:
                os.close(fd)

    def ends_of(self, link: Path, text: str) -> tuple[Path | None] | None:
        """None: no machine made this link. Else what of its job's own it leads to, if anything."""
        self._read()
        found = self._known.get(self._short(link))
        if found is None or found[0] != text:
            return None
        return (None if found[1] is None else self._workdir / found[1],)

    def _short(self, path: Path) -> str:
        """Relative in the working directory, which may be moved."""
        return str(path.relative_to(self._workdir)) if self._workdir in path.parents else str(path)

    def _read(self) -> None:
        with _LOCK, suppress(FileNotFoundError), self._file.open("rb") as file:
            file.seek(self._read_to)
            new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read_to += len(whole)
            for line in whole.splitlines():
                with suppress(ValueError):  # an empty one, or one that was cut short
                    link, text, declared = json.loads(line)
                    self._known[link] = text, declared
