"""The controller's side of the agent: its commands as methods, over any `RemoteHost`.

Every method raises ConnectionLost where the connection breaks; asking again on a new
connection is safe for all of them.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from snakemake_executor_ec2.agent import talking
from snakemake_executor_ec2.agent.answers import (
    JobState,
    Prepared,
    answer_of,
    checksums_of,
    cleaned_of,
    clock_of,
    host_key_of,
    job_state_of,
    last_words,
    locked_of,
    not_understood,
    seconds_of,
    short,
    sizes_of,
    texts,
    versions_of,
)
from snakemake_executor_ec2.agent.bundle import bundle, command, folder
from snakemake_executor_ec2.agent.protocol import (
    Finished,
    Interrupted,
    Line,
    Position,
    Unwatched,
    parse_line,
)
from snakemake_executor_ec2.errors import (
    ConnectError,
    ConnectionLost,
    Ec2ExecutorError,
    PreparationError,
    StagingError,
)
from snakemake_executor_ec2.model import Cleaned, Software
from snakemake_executor_ec2.ports import ANSWER_BYTES, Completed, RemoteHost

_ANSWER_S = 60.0
_MANY_FILES_S = 900.0
_HEARTBEAT_S = 15.0
_SILENCE_S = 60.0
_BEGINNING = Position()
_OLDEST = (3, 9)
_IS_NEW_ENOUGH = (
    f"import sys; v = sys.version_info[:2]; v < {_OLDEST} and "
    f"sys.exit('its python3 is %d.%d, and {_OLDEST[0]}.{_OLDEST[1]} or newer is needed' % v)"
)
PYTHONS = f">=3.11,<3.{sys.version_info[1] + 1}"
"""Versions of Python up to the controller's, for which its Snakemake is known to install. Newer ones
may have no wheels of what that needs, and an image seldom has a compiler."""
_BYTES_ABOUT_EACH = 16
"""Bytes of an answer for each byte of what was asked: it may name everything again, and say why not."""
_LOG_WORDS = 64 << 10
_SETTLE = f"""
{_IS_NEW_ENOUGH}
import os
folder, left = sys.argv[1], int(sys.argv[2])
place, data = folder + "/agent.pyz", b""
while left:
    piece = os.read(0, left)
    if not piece:
        sys.exit("the agent has not arrived")
    data += piece
    left -= len(piece)
if not (os.path.exists(place) and os.path.getsize(place)):
    mask = os.umask(0o77)
    os.makedirs(folder, exist_ok=True)
    part = folder + "/part.%d" % os.getpid()
    with open(part, "wb") as file:
        file.write(data)
    os.rename(part, place)
    os.umask(mask)
os.execv(sys.executable, [sys.executable, place, "talk"])
"""
"""Reads the agent, puts it in place if it is not there, and becomes its `talk`."""
_KILLED = (-9, 128 + 9)
_ASKED_AGAIN = 3
_LAST = (Finished, Interrupted, Unwatched)
_NO_PYTHON = "its image has no python3"
_SHORT = frozenset(
    {"guard", "new-host-key", "renew", "rotate-host-key", "stand-ins", "start", "take", "workdir"}
)
"""Commands before a job that answer soon."""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """Where a job finds Python and Snakemake on the machine."""

    python: str
    path: tuple[str, ...]
    """Directories to prepend to PATH."""
    how: str
    """`image` (it was all there), `uv`, `pip`, or `late`: it is installed when it is called."""
    seconds: float
    locked: tuple[str, ...] = ()
    """The versions that were chosen, `name==version`, as far as they are known."""
    versions: str = PYTHONS
    """Of Python, among which it was chosen."""


@dataclass(frozen=True, kw_only=True)
class JobStart:
    """A job's command, for the machine."""

    key: str
    command: str
    cwd: str
    label: str
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    unset: tuple[str, ...] = ()
    path_prepend: tuple[str, ...] = ()
    runtime_s: float | None = None
    umask: int = 0o022
    decision: Mapping[str, Any] | None = field(default=None, repr=False)
    direct: Mapping[str, Any] | None = field(default=None, repr=False)
    note: bool = False
    """Whether the machine may be cleaned after it, for another job."""


class Agent:
    """The agent on one machine, reached over one connection."""

    def __init__(self, host: RemoteHost) -> None:
        self._host = host

    # --- the machine ----------------------------------------------------------------------

    def settle(self) -> None:
        """Put the agent on the machine as `install` does, and have it stay for the short commands that
        follow, until `start`: over one channel, each without a start of its own."""
        bootstrap = f'exec python3 -c {shlex.quote(_SETTLE)} "{folder()}" {len(bundle())}'
        done = talking.begin(
            self._host,
            f'echo; command -v python3 >/dev/null || {{ echo "{_NO_PYTHON}" >&2; exit 1; }}; {bootstrap}',
            bundle(),
            _ANSWER_S,
        )
        if done is not None and done.exit_code:
            raise _not_installed(last_words(done))

    def install(self) -> None:
        """Put the agent on the machine. If it is already nothing is written, for which there may be no room
        any more."""
        place = folder()
        done = self._host.run(
            f'umask 077 && if [ -s "{place}/agent.pyz" ]; then cat > /dev/null; else '
            f'mkdir -p "{place}" && cat > "{place}/part.$$" && '
            f'mv -f "{place}/part.$$" "{place}/agent.pyz"; fi && command -v python3 && '
            f'python3 -c "{_IS_NEW_ENOUGH}"',
            stdin=bundle(),
            timeout_s=_ANSWER_S,
        )
        if done.exit_code:
            raise _not_installed(last_words(done) or _NO_PYTHON)

    def new_host_key(self) -> str:
        """Let the machine make a host key, to be pinned beside the one that it has; the public half."""
        key = host_key_of(self._host_key("new-host-key"))
        if key is None:
            raise ConnectError("the machine did not make a valid host key")
        return key

    def rotate_host_key(self) -> None:
        """Let it show the new host key from now on; the old one is gone."""
        self._host_key("rotate-host-key")

    def _host_key(self, name: str) -> dict[str, Any]:
        done = self._run(b"", name, timeout_s=_ANSWER_S)
        if done.exit_code:
            raise ConnectError(last_words(done))
        return answer_of(done)

    def guard(self, lease_s: float | None) -> float | None:
        """Begin the lease: without `renew` or a followed job the machine powers itself off.

        Returns what time it is there, in seconds since the epoch; None: it did not say.
        """
        return clock_of(self._ask(PreparationError, "guard", {"lease_s": lease_s}))

    def renew(self) -> None:
        """Let the lease run its whole length again."""
        self._ask(StagingError, "renew", {})

    def software(
        self, wanted: Software, *, like: Installed | None = None, timeout_s: float | None = None
    ) -> Installed:
        """Find or install Python, Snakemake and packages; `like`: what another machine's installation
        came down to, which saves working it out. Raises PreparationError with the log's end."""
        versions = like.versions if like else PYTHONS
        request = {**asdict(wanted), "python": versions, "locked": like.locked if like else ()}
        done = self._host.run(command("software"), stdin=_json(request), timeout_s=timeout_s)
        answer = answer_of(done)
        if done.exit_code or "error" in answer:
            error = short(answer.get("error")) or last_words(done)
            log = str(answer.get("log", ""))[-_LOG_WORDS:]
            raise PreparationError(f"Software could not be installed: {error}", log=log)
        python = answer.get("python")
        if not isinstance(python, str):
            raise PreparationError(
                "Software could not be installed: the machine does not say where it installed it"
            )
        return Installed(
            python=python,
            path=texts(answer.get("path")),
            how=short(answer.get("how")),
            seconds=seconds_of(answer),
            locked=locked_of(answer),
            versions=versions_of(answer, versions),
        )

    # --- files ----------------------------------------------------------------------------

    def workdir(
        self, paths: Collection[str], *, parents: Collection[str] = (), local_disk_mb: int | None = None
    ) -> tuple[Prepared, ...]:
        """Make directories: `paths` are ours alone, `parents` may hold things of others. `local_disk_mb`: use
        the machine's local disks, for `paths` as well if there is so much room on them.

        The answers are in the order of `paths`, then `parents`; nothing is raised for a refusal.
        """
        request = {"paths": list(paths), "parents": list(parents), "local_disk_mb": local_disk_mb}
        timeout_s = _ANSWER_S if local_disk_mb is None else _MANY_FILES_S
        answer = self._ask(StagingError, "workdir", request, timeout_s=timeout_s)
        told = answer.get("answers")
        asked = [*paths, *parents]
        if not isinstance(told, list) or len(told) != len(asked):
            raise not_understood("it does not say which directories can be used")
        about = [each if isinstance(each, dict) else {} for each in told]
        return tuple(
            Prepared(path=path, ok=each.get("ok") is True, reason=short(each.get("reason")))
            for path, each in zip(asked, about, strict=True)
        )

    def stand_ins(
        self,
        lists: Collection[bytes],
        roots: Collection[tuple[str, str]],
        own: Collection[str],
        shift_ns: int,
    ) -> bool:
        """Let files that were not sent be there, unreadable; whether the job can read them all the same.

        `lists` are those of `staging.view`, `roots` folders there and what they are called here, `own`
        the paths there of what the job makes.
        """
        request = {"roots": list(roots), "own": list(own), "shift_ns": shift_ns, "lists": [*map(len, lists)]}
        stdin = b"".join([_json(request), b"\n", *lists])
        done = self._run(stdin, "stand-ins", timeout_s=_MANY_FILES_S)
        if done.exit_code:
            raise StagingError(
                f"The machine could not list the files that were not sent: {last_words(done)}."
            )
        return bool(answer_of(done).get("readable"))

    # --- the job --------------------------------------------------------------------------

    def left(self, key: str, roots: Collection[str], own: Collection[str]) -> dict[str, int]:
        """Files, with their sizes, that a job has made or changed in the roots beside what is its `own`."""
        answer = self._ask(StagingError, "left", {"key": key, "roots": list(roots), "own": list(own)})
        return sizes_of(answer)

    def take(
        self, files: Mapping[str, str], free_mib: int, *, status: Mapping[str, tuple[int, int]] | None = None
    ) -> frozenset[str]:
        """Which of these files, path → name, a machine has kept; they are in place, with `status` (mode,
        mtime in ns) if given. So much of the disk is free then, if need be without all else that it kept."""
        request = {"files": dict(files), "free_mib": free_mib, "status": dict(status or {})}
        return frozenset(texts(self._ask(StagingError, "take", request).get("there"))).intersection(files)

    def checksums(self, names: Collection[str]) -> dict[str, str]:
        """The SHA-256 of files that a machine has kept, by their names."""
        request = {"names": list(names)}
        return checksums_of(self._ask(StagingError, "checksums", request, timeout_s=_MANY_FILES_S))

    def clean(self, key: str, keep: Mapping[str, str], made: Mapping[str, str]) -> Cleaned:
        """Remove all that a job has left, but for files (path → name) that it has not changed or has made."""
        request = {"key": key, "keep": dict(keep), "made": dict(made)}
        return cleaned_of(self._ask(StagingError, "clean", request))

    def start(self, job: JobStart) -> JobState:
        """Run a job, detached; one that runs or has ended already is not started again."""
        request = {
            "key": job.key,
            "command": job.command,
            "cwd": job.cwd,
            "label": job.label,
            "env": dict(job.env),
            "unset": job.unset,
            "umask": job.umask,
            "path_prepend": job.path_prepend,
            "runtime_s": job.runtime_s,
            "decision": job.decision,
            "direct": job.direct,
            "note": job.note,
        }
        state = job_state_of(self._ask(PreparationError, "start", request))
        talking.end(self._host)  # nothing of ours is to be beside the job that need not be
        return state

    def follow(
        self,
        key: str,
        position: Position = _BEGINNING,
        *,
        heartbeat_s: float = _HEARTBEAT_S,
        silence_s: float = _SILENCE_S,
    ) -> Iterator[Line]:
        """What happens to a job, from a position on; ends after Finished, Interrupted or Unwatched.

        Renews the lease with every heartbeat. Raises ConnectionLost if the connection breaks
        or falls silent: then go on, over a new one, from the last line's `at`.
        """
        following = command("follow", key, "--events", str(position.events), "--output", str(position.output))
        came = False
        try:
            for raw in self._host.lines(following, heartbeat_s=heartbeat_s, silence_s=silence_s):
                line = parse_line(raw)
                if line is None:
                    continue
                came = True
                yield line
                if isinstance(line.event, _LAST):
                    return
        except ConnectionLost as error:
            error.came_further |= came
            raise
        raise ConnectionLost("The machine's agent stopped reporting what the job does.", came_further=came)

    def status(self, key: str) -> JobState:
        """How a job is."""
        return job_state_of(self._ask(StagingError, "status", {}, key))

    # --- helpers --------------------------------------------------------------------------

    def _ask(
        self,
        raises: type[Ec2ExecutorError],
        name: str,
        request: Mapping[str, Any],
        *arguments: str,
        timeout_s: float = _ANSWER_S,
        most_bytes: int = ANSWER_BYTES,
    ) -> dict[str, Any]:
        asked = _json(request)
        most_bytes = max(most_bytes, ANSWER_BYTES + _BYTES_ABOUT_EACH * len(asked))
        for _ in range(_ASKED_AGAIN):
            done = self._run(asked, name, *arguments, timeout_s=timeout_s, most_bytes=most_bytes)
            if done.exit_code not in _KILLED:  # a job may kill all that runs as its user: that is seen next
                break
        if done.exit_code:
            raise raises(f"The machine's agent could not {name}: {last_words(done)}.")
        return answer_of(done)

    def _run(
        self, stdin: bytes, name: str, *arguments: str, timeout_s: float, most_bytes: int = ANSWER_BYTES
    ) -> Completed:
        """A command, as one of those that are asked for over one channel if that stands."""
        if name in _SHORT:
            done = talking.ask(self._host, [name, *arguments], stdin, timeout_s, most_bytes)
            if done is not None:
                return done
        line = command(name, *arguments)
        return self._host.run(line, stdin=stdin, timeout_s=timeout_s, most_bytes=most_bytes)


def _not_installed(why: str) -> PreparationError:
    return PreparationError(f"The agent could not be installed on the machine: {why}.")


def _json(request: Mapping[str, Any]) -> bytes:
    return json.dumps(request).encode()
