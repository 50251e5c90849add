"""Which Python interpreters the machine has, and what is installed for them."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_NAMES = ("python3", "python", "python3.14", "python3.13", "python3.12", "python3.11")

# Runs in an interpreter that may be any version: what it is, and which requirements it lacks.
_PROBE = r"""
import json, os, re, sys, sysconfig
from importlib import metadata
def lacks(text):
    try:
        from packaging.requirements import Requirement
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate():
            return False
        if wanted.url or wanted.extras:
            return True
        return not wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return True
    except Exception:
        name, _, version = text.partition("==")
        try:
            return metadata.version(name.strip()) != version.strip()
        except Exception:
            return True
purelib = sysconfig.get_path("purelib")
managed = os.path.exists(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED"))
venv = sys.prefix != sys.base_prefix
print(json.dumps({
    "python": sys.executable, "version": sys.version_info[:2], "scripts": sysconfig.get_path("scripts"),
    "purelib": purelib, "venv": venv, "writable": os.access(purelib, os.W_OK) and (venv or not managed),
    "lacking": [text for text in json.loads(sys.argv[1]) if lacks(text)],
}))
"""


class Python(NamedTuple):
    """An interpreter that was asked about itself."""

    python: str
    version: tuple[int, int]
    scripts: str
    """Where its packages' programs are."""
    purelib: str
    venv: bool
    writable: bool
    """Whether packages may be installed into it."""
    lacking: list[str]
    """Those of the wanted requirements that are not installed."""


def search_path() -> str:
    """PATH as we have it and as a login shell has it: where an image's software is found."""
    ours = os.environ.get("PATH", os.defpath)
    try:
        done = subprocess.run(
            ["bash", "-lc", r'printf "\n%s" "$PATH"'],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ours
    return os.pathsep.join([os.fsdecode(done.stdout.rpartition(b"\n")[2]), ours])


def with_package(path: str, name: str, version: str) -> Iterator[str]:
    """Interpreters on `path` for which a package may be installed in that version.

    A look at the disk, without starting any of them.
    """
    pattern = f"{re.sub('[-_.]+', '_', name)}-{version}.dist-info"
    for python in _candidates(path, name):
        prefixes = {os.path.dirname(os.path.dirname(way)) for way in (python, os.path.realpath(python))}
        prefixes |= {"/usr", "/usr/local", os.path.expanduser("~/.local")}
        if any(_installed(prefix, pattern) for prefix in prefixes):
            yield python


def _candidates(path: str, program: str) -> Iterator[str]:
    folders = list(dict.fromkeys(path.split(os.pathsep)))
    found = [_interpreter_of(program, folder) for folder in folders]
    found += [shutil.which(name, path=folder) for folder in folders for name in _NAMES]
    yield from dict.fromkeys(python for python in found if python is not None)


def _interpreter_of(program: str, path: str) -> str | None:
    script = shutil.which(program, path=path)
    if script is None:
        return None
    beside = os.path.join(os.path.dirname(script), "python")
    try:
        with open(script, "rb") as file:
            found = re.match(rb"#!\s*(/\S+)", file.readline(1024))
    except OSError:
        return None
    first = os.fsdecode(found[1]) if found else ""
    if "python" in os.path.basename(first) and os.access(first, os.X_OK):
        return first
    return beside if os.access(beside, os.X_OK) else None


def _installed(prefix: str, pattern: str) -> bool:
    base = os.path.join(glob.escape(prefix), "lib*", "python3*", "*-packages", glob.escape(pattern))
    return bool(glob.glob(base))


def probe(python: str, wanted: Iterable[str]) -> Python | None:
    """Ask an interpreter about itself; None if it does not work."""
    try:
        done = subprocess.run(
            [python, "-c", _PROBE, json.dumps(list(wanted))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
            cwd="/",
        )
        said = json.loads(done.stdout)
        return Python(**{**said, "version": tuple(said["version"])})
    except (OSError, ValueError, TypeError, subprocess.TimeoutExpired):
        return None


def oldest(versions: str) -> tuple[int, int]:
    """The lower bound of versions such as `>=3.11,<3.15`."""
    found = re.match(r"\s*>=\s*(\d+)\.(\d+)", versions)
    return (int(found[1]), int(found[2])) if found else (3, 11)


def at_least(path: str, version: tuple[int, int]) -> Python | None:
    """The first interpreter on `path` that is new enough."""
    for name in reversed(_NAMES):
        python = shutil.which(name, path=path)
        found = probe(python, []) if python else None
        if found is not None and found.version >= version:
            return found
    return None
