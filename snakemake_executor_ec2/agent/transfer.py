"""The controller's side of a transfer: made once, and carried over one connection after the other to its end.

Each attempt goes on where the last one broke off, and nothing appears under its name before all of it has
arrived (see `stash.py`).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import stat
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, BinaryIO

from snakemake_executor_ec2.agent.answers import Fetched, answer_of, bytes_of, have_of, kinds_of, last_words
from snakemake_executor_ec2.agent.archive import (
    ArchiveError,
    Contents,
    Damaged,
    Entry,
    Refused,
    read_archive,
    write_archive,
)
from snakemake_executor_ec2.agent.bundle import command
from snakemake_executor_ec2.agent.extract import Judge, remove
from snakemake_executor_ec2.agent.frames import NOTE
from snakemake_executor_ec2.agent.stash import Stash
from snakemake_executor_ec2.agent.state import AGAIN
from snakemake_executor_ec2.agent.storing import is_for_good
from snakemake_executor_ec2.agent.striping import MOST_LANES, Lanes
from snakemake_executor_ec2.errors import ConnectionLost, ResultsRefused, StagingError
from snakemake_executor_ec2.formatting import duration
from snakemake_executor_ec2.ports import ANSWER_BYTES, RemoteHost

_MOST_IN_VAIN = 20
_IN_VAIN_S = 600.0
"""A line that breaks again and again, so often and for so long without anything arriving, is given up."""
_BULK_ATTEMPTS = 2
"""Connections that broke show that it does not help: then all goes over the one that we have."""
_ANSWER_S = 120.0
_BYTES_A_FILE = 256
"""Of answers: how much of a file has arrived, or what it is, beside its name."""

Progress = Callable[[int, int], None]
"""Called now and then with the bytes of content that have been sent or have arrived, and of all there are; 0:
that is not known."""


class _Count:
    """Counts the content of one attempt, and tells of it."""

    def __init__(self, progress: Progress | None, total: int = 0) -> None:
        self._progress = progress
        self._done = 0
        self.total = total

    def add(self, size: int) -> None:
        """So many bytes more."""
        self._done += size
        if self._progress:
            self._progress(self._done, self.total)


class _Attempts:
    """Counts attempts, and ends them if they lead nowhere."""

    def __init__(self) -> None:
        self.number = self._in_vain = 0
        self._most = -1
        self._last = 0.0

    def is_first(self) -> bool:
        """Whether this one is."""
        self.number += 1
        return self.number == 1

    def bulk_from(self, host: RemoteHost) -> float:
        """From how many bytes on this one may be told to be much."""
        return host.bulk_bytes if host.bulk_bytes and self.number <= _BULK_ATTEMPTS else math.inf

    def check(self, arrived: int) -> bool:
        """Whether the last one came further. Raises StagingError after many in a row that did not."""
        came_further = arrived > max(self._most, 0)
        if arrived > self._most:
            self._most, self._in_vain, self._last = arrived, 0, time.monotonic()
        self._in_vain += 1
        waited_s = time.monotonic() - self._last
        if self._in_vain > _MOST_IN_VAIN and waited_s > _IN_VAIN_S:
            raise StagingError(
                f"The connection broke {self.number - 1} times while files were sent, and the last "
                f"{self._in_vain} times, in {duration(waited_s)}, nothing more had arrived: look for what "
                "ends connections on the way."
            )
        return came_further


class Upload:
    """Files and directories on their way to a machine, to their absolute paths there.

    `shift_ns` is added to their modification times.
    """

    def __init__(
        self, entries: Collection[Entry], *, shift_ns: int = 0, progress: Progress | None = None
    ) -> None:
        self._entries = entries
        self._shift_ns = shift_ns
        self._progress = progress
        self._count = 0
        """Files, when they were last looked at."""
        self._transfer = secrets.token_hex(16)
        self._attempts = _Attempts()

    def over(self, host: RemoteHost) -> int:
        """Send what has not arrived yet; returns the bytes of content, of all of it."""
        self._came_further = False
        try:
            return self._send(host)
        except ConnectionLost as error:
            error.came_further |= self._came_further
            raise

    def _send(self, host: RemoteHost) -> int:
        have: dict[str, int] = {}
        if not self._attempts.is_first():
            asked = json.dumps({"transfer": self._transfer}).encode()
            most_bytes = ANSWER_BYTES + _BYTES_A_FILE * self._count
            done = host.run(command("arrived"), stdin=asked, timeout_s=_ANSWER_S, most_bytes=most_bytes)
            if done.exit_code:
                raise StagingError(f"Files could not be put on the machine: {last_words(done)}.")
            have, size = have_of(answer_of(done))
            if size is not None:
                return size
            self._came_further = self._attempts.check(sum(have.values()))
        total, self._count = _size(self._entries)
        sizes: list[int] = []

        count = _Count(self._progress, total)

        def write(stream: BinaryIO) -> None:
            sizes.append(
                write_archive(stream, self._entries, shift_ns=self._shift_ns, progress=count.add, have=have)
            )

        try:
            # A server may not bear so many channels; and a connection that breaks asks for no more of them.
            most = MOST_LANES >> self._attempts.number - 1
            left = total - sum(have.values())
            with Lanes(host, left, most) as lanes:
                unpack = command("unpack", self._transfer, *lanes.names)
                bulk = left >= self._attempts.bulk_from(host)
                done = host.upload(unpack, lambda stream: lanes.write(stream, write), bulk=bulk)
        except OSError as error:
            raise StagingError(f"A file could not be read: {_told(error)}.") from error
        if done.exit_code == AGAIN:
            raise ConnectionLost(f"What was sent did not arrive as it was: {last_words(done)}.")
        if done.exit_code:
            raise StagingError(f"Files could not be put on the machine: {last_words(done)}.")
        return sum(sizes)


class Download:
    """What exists of `paths`, and all of `must`, on its way from a machine; see `archive.read_archive` for
    `place`, `judge`, `shift_ns`. If one of `must` is missing, nothing is fetched at all, and `kinds` says so.

    A context manager: what has arrived of a transfer that is given up is removed at its end.
    """

    def __init__(
        self,
        paths: Sequence[str],
        place: Callable[[str], str | None],
        *,
        must: Sequence[str] = (),
        judge: Judge,
        shift_ns: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self._paths = [*paths]
        self._must = [*must]
        self._place = place
        self._judge = judge
        self._shift_ns = shift_ns
        self._progress = progress
        self._stash = Stash()
        self._attempts = _Attempts()
        self._contents: Contents | None = None

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        self._stash.discard(remove)

    def over(self, host: RemoteHost) -> Fetched:
        """Fetch what has not arrived yet. No file appears on this computer until everything has."""
        have = self._stash.have()
        try:
            return self._fetch(host, have)
        except ConnectionLost as error:
            error.came_further |= sum(self._stash.have().values()) > sum(have.values())
            raise

    def _fetch(self, host: RemoteHost, have: dict[str, int]) -> Fetched:
        if not self._attempts.is_first():
            self._attempts.check(sum(have.values()))
        try:
            self._read_all(host, have)
        except Refused as error:
            raise ResultsRefused(str(error)) from error
        except Damaged as error:
            raise ConnectionLost(f"What was fetched did not arrive as it was: {error}.") from error
        except ArchiveError as error:
            raise StagingError(f"Files could not be fetched: {error}.") from error
        except OSError as error:
            if is_for_good(error):
                raise ResultsRefused(f"your computer cannot store {_told(error)}") from error
            raise StagingError(f"A file could not be written: {_told(error)}.") from error
        return self._fetched()

    def _read_all(self, host: RemoteHost, have: dict[str, int]) -> None:
        request = {"paths": self._paths, "must": self._must, "have": have}
        most = self._attempts.bulk_from(host)
        if self._contents is not None and not self._is_put_off():
            return  # all is in place, and only the connection's end was bad
        self._read(host, request if most == math.inf else {**request, "most": most}, bulk=False)
        if self._is_put_off() and most < math.inf:
            self._read(host, request, bulk=True)
        if self._is_put_off():
            raise ArchiveError("the machine puts off what it was asked for")

    def _read(self, host: RemoteHost, request: dict[str, Any], *, bulk: bool) -> None:
        wanted = [*self._must, *self._paths]
        begin_bytes = NOTE + sum(len(json.dumps(path)) + _BYTES_A_FILE for path in wanted)
        count = _Count(self._progress)

        def begun(begin: dict[str, Any]) -> None:
            count.total = bytes_of(begin)

        def read(stream: BinaryIO) -> None:
            self._contents = read_archive(
                stream,
                self._place,
                judge=self._judge,
                shift_ns=self._shift_ns,
                progress=count.add,
                stash=self._stash,
                begun=begun,
                begin_bytes=begin_bytes,
            )

        host.download(command("pack"), read, stdin=json.dumps(request).encode(), bulk=bulk)

    def _is_put_off(self) -> bool:
        """Whether the machine has only said that it is much."""
        return self._contents is not None and self._contents.begin.get("later") is True

    def _fetched(self) -> Fetched:
        contents = self._contents
        assert contents is not None
        kinds, why = kinds_of(contents.begin, [*self._paths, *self._must])
        return Fetched(kinds=kinds, why=why, skipped=tuple(contents.skipped), size=contents.size)


def _size(entries: Collection[Entry]) -> tuple[int, int]:
    """The bytes and the number of all their files, as far as they can be found."""
    size = count = 0
    for entry in entries:
        with contextlib.suppress(OSError):
            status = os.lstat(entry.path)
            if stat.S_ISDIR(status.st_mode):
                inside = [Entry(each.path, "") for each in os.scandir(entry.path)]
                below = _size(inside)
                size, count = size + below[0], count + below[1]
            elif stat.S_ISREG(status.st_mode):
                size, count = size + status.st_size, count + 1
    return size, count


def _told(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)
