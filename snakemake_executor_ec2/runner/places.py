"""Where a workflow's code finds itself on the machine: as on the controller.

`~` leads to the controller's home, and relative paths before a `workdir:` count from where Snakemake was
started there. Libraries and the commands of rules have the machine's own home, in which they may write.
For the process in which `controller/run.py` runs Snakemake.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import sys
from pathlib import Path
from types import FrameType
from typing import Any

_ASK_FOR_OTHERS = frozenset({"os", "posixpath", "genericpath", "pathlib", "pathlib._local", "ntpath"})
_LOOK_UPS = frozenset({"get", "__contains__", "pop", "setdefault"})


def lead_home(home: str) -> None:
    """Let `~` and HOME be the controller's `home` for code of the workflow's, and for no other."""
    of_machine = posixpath.expanduser

    def expanduser(path: Any) -> Any:
        if not _is_asked_by_workflow(sys._getframe(1)):
            return of_machine(path)
        name = os.fspath(path)
        tilde, slash, begin = (b"~", b"/", os.fsencode(home)) if isinstance(name, bytes) else ("~", "/", home)
        if name != tilde and not name.startswith(tilde + slash):  # type: ignore[operator]
            return of_machine(path)
        return begin.rstrip(slash) + name[1:] or slash  # type: ignore[arg-type]

    posixpath.expanduser = expanduser
    data = getattr(os.environ, "_data", None)
    if type(data) is dict:
        watched = _WithHome(data, os.fsencode(home))
        for environ in (os.environ, os.environb):
            vars(environ)["_data"] = watched


def call_snakefile(path: str, options: Any) -> None:
    """Let Snakemake's main Snakefile have the name that it has on the controller, if it is there by that
    name: `workflow.basedir` is made of it, and the options have a relative one."""
    given, here = options.snakefile, Path(path)
    with contextlib.suppress(OSError):  # nothing is there, or it is closed to us: /root, for instance
        if given and here.is_absolute() and here.samefile(given):
            options.snakefile = type(given)(path)


def begin_in(folder: str, options: Any) -> None:
    """Let Snakemake, with its parsed options, begin in `folder`; a `workdir:` leads to where we are now."""
    from snakemake.workflow import Workflow

    place = os.getcwd()  # noqa: PTH109
    for name in ("snakefile", "runtime_source_cache_path"):
        value = getattr(options, name, None)
        if value and "://" not in str(value):
            setattr(
                options, name, type(value)(value if Path(value).is_absolute() else os.path.abspath(value))
            )
    if getattr(options, "configfile", None):
        options.configfile = [type(each)(os.path.abspath(each)) for each in options.configfile]
    options.directory = None
    os.chdir(folder)
    Workflow.workdir = lambda _workflow, _named: os.chdir(place)


class _WithHome(dict):  # type: ignore[type-arg]
    """The dictionary in `os.environ`."""

    def __init__(self, data: dict[Any, Any], home: bytes) -> None:
        super().__init__(data)
        self._home = home

    def __getitem__(self, key: Any) -> Any:
        if key == b"HOME" and _is_asked_by_workflow(sys._getframe(1)):
            return self._home
        return super().__getitem__(key)


def _is_asked_by_workflow(frame: FrameType | None) -> bool:
    """Whether the code that asks is no library's, nor ours."""
    while frame is not None and _asks_for_another(frame):
        frame = frame.f_back
    if frame is None:
        return False
    file = frame.f_code.co_filename
    library = file.startswith((sys.prefix + os.sep, sys.base_prefix + os.sep, "<frozen"))
    ours = ".pyz" in file or file == lead_home.__code__.co_filename
    return not (library or ours or "site-packages" in file)


def _asks_for_another(frame: FrameType) -> bool:
    module, function = frame.f_globals.get("__name__"), frame.f_code.co_name
    return module in _ASK_FOR_OTHERS or (module == "collections.abc" and function in _LOOK_UPS)
