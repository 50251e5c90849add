"""`software`: Python, Snakemake and packages for a job: found on the machine, or installed.

In this order, and no further than needed: the user's setup script; an interpreter of the image
that has everything; that interpreter with what it lacks on top; a new environment with uv;
the same with pip. Then the tools with which Snakemake itself deploys software (see `tools`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from typing import Any

from . import setup_mounts, tools
from .installers import InstallError, Steps, freeze, install_on_top, new_environment
from .pythons import Python, oldest, probe, search_path, with_package
from .state import home, read_request, say, try_lock


def main() -> int:
    """`software`: the fields of `model.Software`, "python" (versions of it) and "locked"

    The answer: {"python", "path", "how": "image" | "uv" | "pip" | "late", "seconds", "locked", "versions"},
    or {"error", "log"} with exit status 1. With names in `late`, what is missing is installed when one of
    them is called (see `late.py`). A call that asks for what an earlier one has installed answers at
    once; a second call waits for the first. `locked` are the versions that uv chose, `versions` those
    of Python among which it did: a machine that is given another one's has nothing to work out, and
    gets the same.
    """
    began = time.monotonic()
    request = read_request()
    late = [str(name) for name in request.pop("late", None) or []]
    try:
        answer = _later(request, late) if late else installed(request)
    except InstallError as error:
        say({"error": str(error), "log": error.log})
        return 1
    say({**answer, "seconds": round(time.monotonic() - began, 3)})
    return 0


def installed(request: dict[str, Any]) -> dict[str, Any]:
    """The answer, once all is there. Raises InstallError with the log's end."""
    folder = home()
    with try_lock(os.path.join(folder, "software.lock"), wait=True):  # type: ignore[union-attr]
        known = os.path.join(folder, f"software-{_digest(request)}.json")
        answer = _remembered(known)
        wanted_tools = [str(tool) for tool in request.get("tools") or []]
        if answer is None or wanted_tools:
            with Steps(os.path.join(folder, "software.log")) as steps:
                try:
                    answer = answer or _provided(request, folder, known, steps)
                    for tool in wanted_tools:
                        answer["path"] += tools.provide(tool, search_path(), folder, steps)
                except InstallError as error:
                    error.log = steps.tail()
                    raise
    return answer


def _provided(request: dict[str, Any], folder: str, known: str, steps: Steps) -> dict[str, Any]:
    """Install all but the tools, and remember it in a file."""
    answer = _provide(request, folder, steps)
    with open(known + ".part", "w", encoding="utf-8") as file:
        json.dump(answer, file)
    os.replace(known + ".part", known)
    return answer


def _later(request: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """What the image has already; else shims of these names, the first call of which installs it."""
    from .late import shims

    if _remembered(os.path.join(home(), f"software-{_digest(request)}.json")) is not None:
        return installed(request)
    wanted = [f"snakemake=={request['snakemake']}", *map(str, request.get("packages") or [])]
    versions = str(request.get("python") or ">=3.11")
    found = _in_image(search_path(), str(request["snakemake"]), wanted, oldest(versions))
    if found is not None and not found.lacking:
        return installed(request)
    return {"python": "", "path": shims(request, names), "how": "late"}


def _digest(request: dict[str, Any]) -> str:
    """The same for requests that one installation serves: tools come on top, and the versions that another
    machine chose only save work."""
    wanted = {name: value for name, value in request.items() if name not in ("locked", "python", "tools")}
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:12]


def _remembered(known: str) -> dict[str, Any] | None:
    try:
        with open(known, encoding="utf-8") as file:
            answer: dict[str, Any] = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return answer if os.access(answer["python"], os.X_OK) else None


def _provide(request: dict[str, Any], folder: str, steps: Steps) -> dict[str, Any]:
    version = str(request["snakemake"])
    requirements = str(request.get("requirements") or "")
    wanted = [f"snakemake=={version}", *map(str, request.get("packages") or [])]
    listed = None
    if requirements.strip():
        listed = os.path.join(folder, "requirements.txt")
        with open(listed, "w", encoding="utf-8") as file:
            file.write(requirements)
    if request.get("setup"):
        _run_setup(str(request["setup"]), folder, steps)
    path = search_path()
    versions = str(request.get("python") or ">=3.11")
    plain, exotic = _split_requirements(requirements)
    found = _in_image(path, version, [*wanted, *plain], oldest(versions))
    if found is not None and not found.lacking and not exotic:
        return _answer(found.python, [found.scripts], "image", folder)
    if found is not None and f"snakemake=={version}" not in found.lacking:
        python, how = install_on_top(found, [*found.lacking], listed, path, folder, steps)
    else:
        locked = [] if exotic else [str(one) for one in request.get("locked") or []]
        python, how, versions = new_environment(wanted, listed, versions, path, folder, steps, locked)
        if how == "uv" and not exotic:
            installed = {"locked": freeze(python, path, folder), "versions": versions}
            return {**_answer(python, [os.path.dirname(python)], how, folder), **installed}
    scripts = [os.path.dirname(python)] if found is None else [os.path.dirname(python), found.scripts]
    return _answer(python, scripts, how, folder)


def _run_setup(setup: str, folder: str, steps: Steps) -> None:
    """Run it, once: the next job may want other software, and what makes a file system cannot be repeated."""
    script = os.path.join(folder, "setup.sh")
    done = os.path.join(folder, f"setup-{hashlib.sha256(setup.encode()).hexdigest()[:12]}.done")
    if os.path.exists(done):
        return
    with open(script, "w", encoding="utf-8") as file:
        file.write(setup)
    os.chmod(script, 0o700)
    before = setup_mounts.now()
    if not steps.run("bash", "-e", script, cwd=os.path.expanduser("~")):
        raise InstallError("the setup script failed")
    setup_mounts.note(folder, before)
    with open(done, "w", encoding="ascii"):
        pass


def _split_requirements(text: str) -> tuple[list[str], bool]:
    """Requirements that an interpreter can be asked about, and whether there are others (options, URLs)."""
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    plain = [line for line in lines if re.match(r"[A-Za-z0-9][^@/\\]*$", line)]
    return plain, len(plain) < len(lines)


def _in_image(path: str, version: str, wanted: list[str], minimum: tuple[int, int]) -> Python | None:
    """The interpreter with this Snakemake that lacks least."""
    best: Python | None = None
    for python in with_package(path, "snakemake", version):
        found = probe(python, wanted)
        if found is None or found.version < minimum or f"snakemake=={version}" in found.lacking:
            continue
        if best is None or len(found.lacking) < len(best.lacking):
            best = found
        if not found.lacking:
            break
    return best


def _answer(python: str, scripts: list[str], how: str, folder: str) -> dict[str, Any]:
    beside = os.path.dirname(python)
    path = list(dict.fromkeys([*scripts, beside]))
    if not os.access(os.path.join(path[0], "python"), os.X_OK):
        path.insert(0, _shim(python, folder))
    return {"python": python, "path": path, "how": how}


def _shim(python: str, folder: str) -> str:
    """A directory in which `python` is the given interpreter, whatever the name of its file."""
    directory = os.path.join(folder, "shims")
    os.makedirs(directory, exist_ok=True)
    shim = os.path.join(directory, "python")
    with open(shim + ".part", "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\nexec '{python}' \"$@\"\n")
    os.chmod(shim + ".part", 0o700)
    os.replace(shim + ".part", shim)
    return directory
