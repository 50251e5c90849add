"""Runs the commands of a group's rules, as Snakemake does on one machine: each when the jobs before it have
ended well, as many at a time as there are cores for.

    {"members": [{"label", "request", "outputs", "logs", "after"}, …], "cores", "temporary": [[file, by], …]}

`request` is that of `direct.py`; `after` are positions of members whose outputs a member reads, `by` of those
that read a file which nobody else needs.
"""

from __future__ import annotations

import json
import math
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, Union

from .direct import Command
from .state import AgentError, command_line


class GroupCommand:
    """The process that runs a group's commands, as `direct.Command` is one command."""

    def __init__(self, told: Mapping[str, Any], environment: Mapping[str, str], folder: str) -> None:
        path = os.path.join(folder, "group.json")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(told, file)
        python, *arguments = command_line("group", path)
        # Its environment is the job's, whose PYTHONPATH is not for the agent.
        apart = [] if arguments[0] == "-m" else ["-E"]
        self.arguments = [python, *apart, *arguments]
        self.environment = dict(environment)

    def started(self, pid: int) -> None:
        """Its members are measured where they run."""

    def look(self) -> float:
        """Nothing is due."""
        return math.inf

    def ended(self, exit_code: int) -> str:
        """What comes after a member has been done."""
        del exit_code
        return ""


Own = Union[Command, GroupCommand]


def own_command(told: Mapping[str, Any], cwd: str, environment: Mapping[str, str], folder: str) -> Own:
    """What to start for a job that needs no Snakemake. Raises AgentError or OSError."""
    return GroupCommand(told, environment, folder) if "members" in told else Command(told, cwd, environment)


def run(path: str) -> int:
    """`group FILE`: run it in this folder. A member's exit status, or its end by a signal, becomes ours."""
    with open(path, encoding="utf-8") as file:
        status = _Group(json.load(file), os.getcwd()).run()
    if status < 0:
        os.kill(os.getpid(), -status)
    return abs(status)


class _Group:
    def __init__(self, told: Mapping[str, Any], cwd: str) -> None:
        self._members: list[dict[str, Any]] = told["members"]
        self._temporary: list[tuple[str, list[int]]] = told["temporary"]
        self._cores: int = told["cores"]
        self._cwd = cwd
        self._waiting = list(range(len(self._members)))
        self._running: set[int] = set()
        self._done: set[int] = set()
        self._ended: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()

    def run(self) -> int:
        """Until all are done, or, after a failure, until those that run have ended."""
        failed = 0
        while True:
            if not failed:
                self._start_what_can()
            if not self._running:
                return failed
            index, status = self._ended.get()
            self._running.remove(index)
            status = status or self._after(index)
            self._done.add(index)
            failed = failed or status
            if not failed:
                self._remove_temporary()

    def _start_what_can(self) -> None:
        free = self._cores - sum(map(self._threads, self._running))
        for index in list(self._waiting):
            if self._done.issuperset(self._members[index]["after"]) and self._threads(index) <= free:
                free -= self._threads(index)
                self._waiting.remove(index)
                self._running.add(index)
                threading.Thread(target=self._run_member, args=(index,), daemon=True).start()

    def _threads(self, index: int) -> int:
        return min(int(self._members[index]["request"]["threads"]), self._cores)

    def _run_member(self, index: int) -> None:
        member, status = self._members[index], 1
        try:
            command = Command(member["request"], self._cwd, os.environ)
            process = subprocess.Popen(
                command.arguments, cwd=self._cwd, env=command.environment, stdin=subprocess.DEVNULL
            )
            command.started(process.pid)
            status = _wait(process, command)
            if status:
                how = f"exit status {status}" if status > 0 else f"signal {-status}"
                _say(f"{member['label']} failed with {how}")
            if wrong := command.ended(status):
                status = 1
                _say(f"{member['label']}: {wrong}")
        except (OSError, AgentError) as error:
            _say(f"{member['label']} could not be run: {error}")
        finally:
            self._ended.put((index, status))

    def _after(self, index: int) -> int:
        """What Snakemake does after a job that has ended well; 1 if that finds something wrong."""
        member = self._members[index]
        directories = set(member["request"]["directories"])
        try:
            for name in member["logs"]:
                _make(os.path.join(self._cwd, name))
            for name in member["outputs"]:
                path = os.path.join(self._cwd, name)
                if not os.path.lexists(path):
                    _say(f"{member['label']} succeeded, but did not make {name}")
                    return 1
                if os.path.isdir(path) != (name in directories):
                    what = (
                        "is a folder and not declared with"
                        if os.path.isdir(path)
                        else "is no folder, but declared with"
                    )
                    _say(f"{member['label']} succeeded, but {name} {what} directory()")
                    return 1
                if name in directories:
                    _make(os.path.join(path, ".snakemake_timestamp"))
                os.utime(path, follow_symlinks=False)
        except OSError as error:
            _say(f"{member['label']}: {error.filename} could not be written: {error.strerror}")
            return 1
        return 0

    def _remove_temporary(self) -> None:
        for name, readers in self._temporary:
            path = os.path.join(self._cwd, name)
            if self._done.issuperset(readers) and os.path.lexists(path):
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    os.unlink(path)


def _wait(process: subprocess.Popen[bytes], command: Command) -> int:
    while True:
        look_at = command.look()
        try:
            return process.wait(None if look_at == math.inf else max(0.0, look_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            continue


def _make(path: str) -> None:
    with open(path, "a", encoding="utf-8"):
        return


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()
