"""Runs a rule's own command, with what Snakemake does around it (`Job.prepare`, `shell`), on the machine.

The controller's `plugin/direct.py` says which jobs, and makes the request. Also imported there.
"""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

from .benchmark import Benchmark
from .state import AgentError

PLACEHOLDER = "/snakemake-ec2-tmpdir"
"""Stands in a command for the machine's folder for temporary files. Needs no quotes, as that must not."""
SCRIPT = "/snakemake-ec2-script"
"""Stands in a command for the place of the script that it runs."""
_THREADS = (
    "OMP_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
_TMPDIR = ("TMPDIR", "TMP", "TEMPDIR", "TEMP")
_MAX_ARGUMENT = 65533
"""As in `snakemake.shell`: a longer command is a script, whose `$0` differs."""
_UNQUOTED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")


class Request(NamedTuple):
    """A command, and what belongs around it. Paths are relative to the working directory, or absolute."""

    command: str
    executable: str
    """`bash`: the machine's; else what the rule or the Snakefile names."""
    threads: int
    tmpdir: str | None
    """None: the machine's own."""
    made: tuple[str, ...]
    """Outputs and logs: their folders are made, and what is left of earlier ones is removed."""
    directories: tuple[str, ...]
    """Those of them that are directories."""
    kept: tuple[str, ...]
    """Those that the job changes rather than makes."""
    touched: tuple[str, ...]
    """Those that are made for it when it has ended well."""
    benchmark: str | None = None
    """Where to write what it has used."""
    script: tuple[str, str] | None = None
    """Name and text of a script that the command runs."""


class Command:
    """A rule's command, from its surroundings to what Snakemake does when it has ended."""

    def __init__(self, told: Mapping[str, Any], cwd: str, environment: Mapping[str, str]) -> None:
        """Make the surroundings. Raises AgentError or OSError."""
        self._request = request = _request(told)
        self._cwd = cwd
        self._made: list[str] = []
        self._benchmark: Benchmark | None = None
        tmpdir = request.tmpdir or _system_tmpdir(environment)
        os.makedirs(os.path.join(cwd, tmpdir), exist_ok=True)
        self.environment = {
            **environment,
            **dict.fromkeys(_THREADS, str(request.threads)),
            **dict.fromkeys(_TMPDIR, tmpdir),
        }
        _make_room(request, cwd)
        command = request.command
        if request.script is not None:
            name, text = request.script
            command = command.replace(
                SCRIPT, shlex.quote(self._script(name, text.replace(PLACEHOLDER, tmpdir)))
            )
        self.arguments = self._arguments(command.replace(PLACEHOLDER, tmpdir))

    def started(self, pid: int) -> None:
        """It runs as this process."""
        if self._request.benchmark is not None:
            self._benchmark = Benchmark(pid)

    def look(self) -> float:
        """Measure now; returns the moment (`time.monotonic`) of the next measurement."""
        return self._benchmark.look() if self._benchmark else math.inf

    def ended(self, exit_code: int) -> str:
        """It has ended just now: do what comes after it. What has gone wrong with that, if anything."""
        if self._benchmark:
            self._benchmark.over()
        for path in self._made:
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(path)
        if exit_code:
            return ""
        try:
            for name in self._request.touched:
                _touch(os.path.join(self._cwd, name))
            if self._benchmark and self._request.benchmark is not None:
                self._benchmark.write(os.path.join(self._cwd, self._request.benchmark))
        except OSError as error:
            return f"{error.filename or 'a file'} could not be written after the command: {error.strerror}"
        return ""

    def _arguments(self, command: str) -> list[str]:
        path = self.environment["PATH"]
        shell = _shell(self._request.executable, path)
        if len(command.replace("'", r"'\''")) + 2 <= _MAX_ARGUMENT:
            return [shell, "-c", command]
        folder, script = _as_script(command, self._cwd)
        self._made.append(folder)
        return [shell, "-c", f'"{_shell("bash", path)}" "{script}"']

    def _script(self, name: str, text: str) -> str:
        """Write a rule's script, where and as `snakemake.script` does; its path."""
        folder = os.path.join(self._cwd, ".snakemake", "scripts")
        os.makedirs(folder, exist_ok=True)
        number, path = tempfile.mkstemp(suffix=f".{name}", dir=folder)
        self._made.append(path)
        with open(number, "wb") as file:
            file.write(text.encode())
        return path


def _touch(path: str) -> None:
    if os.path.isdir(path):
        path = os.path.join(path, ".snakemake_timestamp")
    with open(path, "a", encoding="utf-8"):
        os.utime(path)


def _request(told: Mapping[str, Any]) -> Request:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
    return Request(**fields)


def _system_tmpdir(environment: Mapping[str, str]) -> str:
    """What Python's `tempfile` would say in the job's environment (`snakemake.resources`)."""
    places = [environment.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    usual = ("/tmp", "/var/tmp", "/usr/tmp")  # noqa: S108
    for place in (*filter(None, places), *usual):
        if os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK):
            found = os.path.abspath(place)
            break
    else:
        found = tempfile.gettempdir()
    if not _UNQUOTED.issuperset(found):
        raise AgentError(
            f"the folder for temporary files, {found}, has a name that commands would have to quote"
        )
    return found


def _make_room(request: Request, cwd: str) -> None:
    for name in request.made:
        path = os.path.join(cwd, name)
        if name not in request.kept and os.path.lexists(path):
            if name in request.directories and os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            elif not os.path.isdir(path) or os.path.islink(path):
                os.unlink(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)


def _shell(executable: str, path: str) -> str:
    """The program: for bash a whole path, as Snakemake looks it up; else as it was named."""
    found = shutil.which(executable, path=path)
    if executable == "bash":
        return found or "sh"
    if found is None and not os.path.exists(executable):
        raise AgentError(f"the rule's shell_exec {executable!r} is not on the machine")
    return executable


def _as_script(command: str, cwd: str) -> tuple[str, str]:
    parent = os.path.join(cwd, ".snakemake")
    os.makedirs(parent, exist_ok=True)
    folder = tempfile.mkdtemp(dir=parent, prefix="shell_tmp.")
    script = os.path.join(folder, "script.sh")
    with open(script, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(command + "\n")
    os.chmod(script, os.stat(script).st_mode | 0o500)
    return folder, script
