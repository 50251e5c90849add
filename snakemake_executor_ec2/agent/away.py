"""On a machine that runs a whole workflow: what of the project is there already, and what is finished.

The workflow's Snakemake keeps its notes on outputs in `.snakemake/metadata`, one file for each, whose path is
the output's name in base64. An output that it has noted is finished, unless a job that makes it is under way.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from typing import Any

from .event_log import events_of
from .state import AgentError, home, job_dir, read_request, say, write_whole
from .supervisor import is_alive
from .trees import tree_digest

_LOOK_EVERY_S = 0.2
_METADATA, _INCOMPLETE = "metadata", "incomplete"


def have() -> int:
    """`have`: {"files": {path: [sha256, mode, mtime_ns]}} -> {"same": [path, …], "removed": [path, …]}

    The files of a project, as they are to be: those that are here get this mode and time, the others are sent
    next. What was in the last such list, and is not in this one, is removed if it has not changed since.
    """
    wanted: dict[str, Any] = read_request()["files"]
    removed = _remove_others(wanted)
    same = []
    for path, (sha256, mode, mtime_ns) in wanted.items():
        if tree_digest(path) == sha256:
            if mode is not None and not os.path.islink(path):
                os.chmod(path, int(mode) & 0o777)
                os.utime(path, ns=(int(mtime_ns), int(mtime_ns)))
            same.append(path)
    write_whole(_list(), json.dumps({path: row[0] for path, row in wanted.items()}))
    say({"same": same, "removed": removed})
    return 0


def _remove_others(wanted: dict[str, Any]) -> list[str]:
    removed = []
    for path, sha256 in _last().items():
        if path not in wanted and not os.path.isdir(path) and tree_digest(path) == sha256:
            with contextlib.suppress(OSError):
                os.unlink(path)
                removed.append(path)
    return removed


def _last() -> dict[str, str]:
    try:
        with open(_list(), encoding="utf-8") as file:
            return dict(json.load(file))
    except (OSError, ValueError):
        return {}


def _list() -> str:
    return os.path.join(home(), "project.json")


# --- what is finished ---------------------------------------------------------------------


def finished() -> int:
    """`finished`: {"workdir", "also": [name, …]}
        -> {"files": [[name, kind, bytes, mtime_ns, sha256, note], …]}

    Outputs that are finished, and logs of these; and what there is of `also`. `kind`: file, symlink,
    directory; `sha256` is null for a file, whose size and time say enough; `note`: whether Snakemake has
    noted something of it.
    """
    request = read_request()
    os.chdir(str(request["workdir"]))
    found: dict[str, bool] = {}
    for name, note in _noted():
        found[name] = True
        for log in _logs(note):
            found.setdefault(log, False)
    for name in map(str, request.get("also") or []):
        found.setdefault(name, False)
    rows = [[name, *told, note] for name, note in sorted(found.items()) if (told := _described(name))]
    say({"files": rows})
    return 0


def _noted() -> Iterator[tuple[str, str]]:
    root = os.path.join(".snakemake", _METADATA)
    for folder, _, files in os.walk(root):
        for file in files:
            note = os.path.join(folder, file)
            inside = os.path.relpath(note, root)
            name = _name_of(inside)
            if name and not os.path.exists(os.path.join(".snakemake", _INCOMPLETE, inside)):
                yield name, note


def _name_of(path: str) -> str:
    """The output whose note has this path: `@` begins the parts of a name that is too long for one."""
    text = "".join(part.removeprefix("@") for part in path.split(os.sep))
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def _logs(note: str) -> list[str]:
    try:
        with open(note, encoding="utf-8") as file:
            logs = json.load(file).get("log") or []
    except (OSError, ValueError, AttributeError):
        return []
    return [log for log in logs if isinstance(log, str)] if isinstance(logs, list) else []


def _described(name: str) -> list[Any] | None:
    try:
        status = os.lstat(name)
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(status.st_mode):
        return ["directory", 0, status.st_mtime_ns, tree_digest(name)]
    if stat.S_ISLNK(status.st_mode):
        return ["symlink", 0, status.st_mtime_ns, tree_digest(name)]
    return ["file", status.st_size, status.st_mtime_ns, None] if stat.S_ISREG(status.st_mode) else None


# --- its end ------------------------------------------------------------------------------


def end() -> int:
    """`end`: {"key", "patience_s"} -> {"ended"}

    Has the workflow's Snakemake end itself, and the machines of its jobs with it, as SIGTERM does; whether it
    has within so many seconds.
    """
    request = read_request()
    folder, until = job_dir(str(request["key"])), time.monotonic() + float(request["patience_s"])
    events = events_of(os.path.join(folder, "events.jsonl"))
    started = next((each for each in events if each.get("type") == "started"), None)
    if started is None:
        raise AgentError("the workflow was not started on this machine")
    if is_alive(folder):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(started["pid"]), signal.SIGTERM)
    while is_alive(folder) and time.monotonic() < until:
        time.sleep(_LOOK_EVERY_S)
    say({"ended": not is_alive(folder)})
    return 0
