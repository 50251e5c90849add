"""Notes which environment variables the code of Snakefiles reads: their values travel with the jobs.

What libraries look up for themselves is told apart by the file that the nearest frame belongs to. The
value that counts is the one that was found first: what a Snakefile sets itself it sets there, too.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

from snakemake_executor_ec2.plugin import parse_reads

_TRANSPARENT = frozenset({"os", "posixpath", "genericpath", "pathlib", "pathlib._local"})
"""Modules that look up what their caller asks for."""
_MACHINES_OWN = (
    *(
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "TMPDIR",
        "TMP",
        "TEMP",
        "PWD",
        "OLDPWD",
        "HOSTNAME",
        "TERM",
    ),
    *("LD_*", "DYLD_*", "PYTHON*", "VIRTUAL_ENV*", "CONDA_*", "MAMBA_*", "XDG_*", "SSH_*", "DBUS_*"),
    *("SNAKEMAKE_*", "BASH_*", "SHLVL", "_"),
)
_CREDENTIALS = (
    *("AWS_*", "*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*PASSPHRASE*", "*CREDENTIAL*", "*KEY*"),
)
_LOOK_UPS = frozenset({"get", "__contains__", "pop", "setdefault"})
_CHANGES = frozenset({"pop", "setdefault", "update", "clear"})
_ITERATIONS = frozenset({"__iter__", "keys"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$(?:(\w+)|\{([^}]+)\})", re.ASCII)
_READERS = frozenset({"environ", "environb", "getenv", "expandvars"})

_seen: dict[str, str | None] = {}
_written: set[str] = set()


def listen() -> None:
    """Start to note what is read; it goes on as long as this process."""
    data = getattr(os.environ, "_data", None)
    if type(data) is not dict:  # watched already; or no CPython, where nothing is noted
        return
    watched = _Watched(data)
    for environ in (os.environ, getattr(os, "environb", os.environ)):
        vars(environ)["_data"] = watched


def read() -> Mapping[str, str | None]:
    """The variables that Snakefiles have read up to now, with the values that they found; None: not set."""
    return dict(_seen)


def written() -> frozenset[str]:
    """The variables that Snakefiles have set or removed themselves."""
    return frozenset(_written)


def named_in(function: FunctionType) -> dict[str, str]:
    """Variables that are set here and that a function may read when it is run, by the constants in its
    code and in that of the Snakefile's functions that it names."""
    found: dict[str, str] = {}
    waiting, seen = [function.__code__], set[CodeType]()
    while waiting:
        code = waiting.pop()
        if code in seen:
            continue
        seen.add(code)
        named = [function.__globals__.get(name) for name in code.co_names]
        waiting += [
            each.__code__ for each in named if isinstance(each, FunctionType) and _is_snakefiles(each)
        ]
        waiting += [each for each in code.co_consts if isinstance(each, CodeType)]
        if _READERS.intersection(code.co_names):
            text = " ".join(each for each in code.co_consts if isinstance(each, str))
            found.update((name, os.environ[name]) for name in _NAME.findall(text) if name in os.environ)
    return found


def named_by_text(text: str) -> dict[str, str]:
    """Variables that are set here and that `os.path.expandvars` would put into a text."""
    found = (name or braced for name, braced in _REFERENCE.findall(text))
    return {name: os.environ[name] for name in found if name in os.environ}


def is_the_machines(name: str) -> bool:
    """Whether a variable belongs to a computer, as PATH does, and does not travel."""
    return _matches(name, _MACHINES_OWN)


def may_be_secret(name: str) -> bool:
    """Whether a variable looks like a credential, which travels only if it is declared with `envvars:`."""
    return _matches(name.upper(), _CREDENTIALS)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_snakefiles(function: FunctionType) -> bool:
    return not function.__code__.co_filename.endswith(".py")


class _Watched(dict[Any, Any]):
    """The dictionary in `os.environ`. Iterating over it counts as reading nothing."""

    def __init__(self, data: Mapping[Any, Any]) -> None:
        super().__init__(data)
        self._known: set[Any] = set()
        self._iterated_at: tuple[int, int] | None = None

    def __getitem__(self, key: Any) -> Any:
        if key not in self._known:
            frame = _workflows(sys._getframe(1))
            if frame is not None and self._iterated_at != (id(frame), frame.f_lasti):
                self._known.add(key)
                value = self.get(key)
                _seen[os.fsdecode(key)] = None if value is None else os.fsdecode(value)
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._note_written(key, sys._getframe(1))
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        self._note_written(key, sys._getframe(1))
        super().__delitem__(key)

    def _note_written(self, key: Any, frame: FrameType) -> None:
        if _workflows(frame, _CHANGES) is not None:
            _written.add(os.fsdecode(key))

    def __iter__(self) -> Iterator[Any]:
        # `dict(os.environ)` and `{**os.environ}` look up each name after this, at the same place.
        frame = _workflows(sys._getframe(1), _ITERATIONS)
        self._iterated_at = (id(frame), frame.f_lasti) if frame else None
        return super().__iter__()


def _workflows(frame: FrameType | None, within: frozenset[str] = _LOOK_UPS) -> FrameType | None:
    """The frame that asks, if it is a Snakefile's, or that of a module of the workflow's own."""
    while frame is not None and _asks_for_its_caller(frame, within):
        frame = frame.f_back
    if frame is None:
        return None
    file = frame.f_code.co_filename
    if not file.endswith(".py"):
        return frame if type(frame.f_globals.get("workflow")).__name__ == "Workflow" else None
    if "site-packages" in file or file.startswith((sys.prefix + os.sep, sys.base_prefix + os.sep)):
        return None
    snakefile = parse_reads.snakefile_above(frame)
    own = {Path.cwd(), Path(snakefile).parent} if snakefile else set()
    return None if own.isdisjoint(Path(os.path.abspath(file)).parents) else frame


def _asks_for_its_caller(frame: FrameType, within: frozenset[str]) -> bool:
    module, function = frame.f_globals.get("__name__"), frame.f_code.co_name
    return module in _TRANSPARENT or (module == "collections.abc" and function in within)
