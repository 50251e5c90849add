"""A host whose clock is wrong, for its Python programs: the agent, Snakemake, and what they run.

Imported by every one of them (it is on PYTHONPATH). No process may have a wall clock of its own,
so the clock is shifted where Python reads it, and with it all times of files: what a shell wrote a
moment ago is dated "now" by the wrong clock, too. `datetime.now` and other languages see the true time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

_AHEAD_S = float(os.environ.get("HOST_CLOCK_AHEAD_S", "0"))
_AHEAD_NS = round(_AHEAD_S * 10**9)
_TIMES = ("st_atime", "st_mtime", "st_ctime")


def _shifted(status: os.stat_result) -> os.stat_result:
    names = [name for name in dir(status) if name.startswith("st_")]
    fields = {name: getattr(status, name) for name in names}
    for name in _TIMES:
        fields[name] += _AHEAD_S
        fields[f"{name}_ns"] += _AHEAD_NS
    return os.stat_result((*status[:7], *(int(fields[name]) for name in _TIMES)), fields)


def _looking(stat: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
    return lambda *args, **options: _shifted(stat(*args, **options))


def _setting(utime: Callable[..., None]) -> Callable[..., None]:
    def shifted(path: Any, times: Any = None, *, ns: Any = None, **options: Any) -> None:
        if ns is not None:
            utime(path, ns=tuple(one - _AHEAD_NS for one in ns), **options)
        elif times is not None:
            utime(path, tuple(one - _AHEAD_S for one in times), **options)
        else:
            utime(path, **options)

    return shifted


if _AHEAD_NS:
    _time, _time_ns = time.time, time.time_ns
    time.time = lambda: _time() + _AHEAD_S
    time.time_ns = lambda: _time_ns() + _AHEAD_NS
    for _name in ("stat", "lstat", "fstat"):
        setattr(os, _name, _looking(getattr(os, _name)))
    _utime = os.utime
    os.utime = _setting(_utime)
    # What these allow is asked for by function.
    os.supports_follow_symlinks.update({os.stat, os.utime})
    os.supports_fd.update({os.stat, os.utime})
    os.supports_dir_fd.update({os.stat, os.utime})
