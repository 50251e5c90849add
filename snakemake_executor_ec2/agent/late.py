"""Software that is installed when a job first calls it.

A job that runs its own command may never ask for Python or Snakemake. In the place of an environment it
has a folder of shims on its PATH: the first that is called makes the environment, as `software` would have
done before, and is replaced by the program in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterable
from typing import Any

from .installers import InstallError
from .software import installed
from .state import boottime, command_line, home, write_whole

FAILED = 125
"""Exit status of a shim that has no program to become."""


def shims(request: dict[str, Any], names: Iterable[str]) -> list[str]:
    """Make the shims; what belongs in front of PATH."""
    folder = _folder()
    os.makedirs(os.path.join(folder, "bin"), mode=0o700, exist_ok=True)
    write_whole(os.path.join(folder, "request.json"), json.dumps(request))
    for name in names:
        path = os.path.join(folder, "bin", os.path.basename(name))
        write_whole(
            path, f'#!/bin/sh\nexec {shlex.join(command_line("late", os.path.basename(name)))} "$@"\n'
        )
        os.chmod(path, 0o700)
    return [os.path.join(folder, "bin")]


def become(name: str, arguments: list[str]) -> int:
    """`late NAME …`: install what is not there yet, and become the program. Returns only if that fails."""
    folder = _folder()
    ours = os.path.join(folder, "bin")
    path = [place for place in os.environ.get("PATH", os.defpath).split(os.pathsep) if place != ours]
    os.environ["PATH"] = os.pathsep.join(path)  # installers look for Python, too
    with open(os.path.join(folder, "request.json"), encoding="utf-8") as file:
        request = json.load(file)
    began = boottime()
    _note(began, None)
    try:
        answer = installed(request)
    except InstallError as error:
        sentence = f"software could not be installed when the job called {name}: {error}"
        write_whole(os.path.join(folder, "failed"), sentence)
        print(sentence, file=sys.stderr)
        return FAILED
    finally:
        _note(began, boottime())
    os.environ["PATH"] = os.pathsep.join([*answer["path"], *path])
    try:
        os.execvp(name, [name, *arguments])  # noqa: S606 - as the shell would have started it
    except OSError as error:
        print(f"{name}: {error.strerror}", file=sys.stderr)
    return 127


def seconds() -> float:
    """How long the job has waited for software, or does by now."""
    try:
        with open(_waited(), encoding="utf-8") as file:
            began, ended = json.load(file)
    except (OSError, ValueError):
        return 0.0
    return float((boottime() if ended is None else ended) - began)


def failure() -> str:
    """Why a late installation failed; nothing where none did."""
    with contextlib.suppress(OSError), open(os.path.join(_folder(), "failed"), encoding="utf-8") as file:
        return file.read(4096)
    return ""


def _folder() -> str:
    return os.path.join(home(), "late")


def _waited() -> str:
    return os.path.join(_folder(), "waited.json")


def _note(began: float, ended: float | None) -> None:
    """Remember the wait of the first call: others wait beside it, or find the environment."""
    if ended is None and os.path.exists(_waited()):
        return
    with contextlib.suppress(OSError, ValueError):
        if ended is not None:
            with open(_waited(), encoding="utf-8") as file:
                if json.load(file) != [began, None]:
                    return
        write_whole(_waited(), json.dumps([began, ended]))
