"""Notes which files a Snakefile reads while it is parsed: sample sheets, tables, its own modules.

The machine parses the Snakefile again and needs them, but no rule declares them and Snakemake
does not list them. Python tells of every file that is opened (PEP 578); we listen from the moment
the executor is chosen, which is before the parse, until it starts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib.util import source_from_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_MAX_DEPTH = 80
_SYSTEM = frozenset(map(Path, ("/dev", "/etc", "/lib", "/proc", "/sys", "/usr")))
"""What libraries look up of the computer that they are on; a machine has its own."""

_LISTING = frozenset({"os.listdir", "os.scandir"})
"""What Python does for `os.walk`, `glob` and pathlib as well."""
_CALLING = frozenset({"subprocess.Popen", "os.system"})
_RUNS_SNAKEFILES = "snakemake/workflow.py"
_RUNS_MODULES = frozenset({"<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"})
_SHELLS = frozenset({"sh", "bash", "dash", "zsh"})

_listening = False
_installed = False
_seen: set[str] = set()
_listed: set[str] = set()
_codes: list[CodeType] = []
_programs: dict[str, None] = {}


def listen() -> None:
    """Start to record what Snakefiles open. A second call keeps the first one's record."""
    global _listening, _installed
    _listening = True
    if not _installed:
        # An audit hook can't be removed again; `_listening` makes it idle.
        _installed = True
        sys.addaudithook(_hook)


def stop(*, outside: Iterable[Path] = ()) -> frozenset[Path]:
    """Stop listening; the files that Snakefiles read, that still exist and lie `outside` of some
    folders: Python's own and Snakemake's caches.

    Left out as well: what belongs to the computer or to its user (`/etc`, `/sys`, `~/.aws`) and
    was looked up by some library. It is not the workflow's, and may be secret.
    """
    global _listening
    _listening = False
    elsewhere = {folder.resolve() for folder in outside}
    files = frozenset(
        path
        for path in map(Path, _seen)
        if path.is_file() and not _is_computers_own(path) and elsewhere.isdisjoint(path.resolve().parents)
    )
    _seen.clear()
    return files


def listed() -> frozenset[Path]:
    """Folders that Snakefiles have listed up to now, also after the parse: in input functions, say."""
    return frozenset(map(Path, _listed))


def codes() -> tuple[CodeType, ...]:
    """The code of Snakefiles, and of the workflow's own modules, that was run up to the end of the parse."""
    return tuple(_codes)


def uses(name: str) -> bool:
    """Whether that code names something, in functions and `run:` bodies, too."""
    return any(_uses(code, name) for code in _codes)


def programs() -> tuple[str, ...]:
    """Programs that Snakefiles called up to the end of the parse."""
    return tuple(_programs)


def _is_computers_own(path: Path) -> bool:
    """Whether a file is the system's, or hidden in the home directory as settings and credentials are."""
    if not _SYSTEM.isdisjoint(path.parents):
        return True
    home = Path.home()
    if home not in path.parents:
        return False
    hidden = home / path.relative_to(home).parts[0]
    return hidden.name.startswith(".") and hidden not in Path.cwd().parents


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event in _LISTING:
        _note_listing(args[0] if args else None)
        return
    if event == "exec":
        _note_code(args[0])
        return
    if event in _CALLING:
        _note_program(args)
        return
    if not _listening or event not in ("open", "sqlite3.connect"):
        return
    path, mode = args[0], args[1] if event == "open" else None
    if not isinstance(path, str | bytes | os.PathLike) or (mode and set(str(mode)) & set("wax+")):
        return
    text = os.path.abspath(os.fsdecode(path))
    if text.endswith(".so"):
        return
    snakefile = snakefile_above(sys._getframe(1))
    if snakefile is None:
        return
    if text.endswith((".py", ".pyc")):
        text = source_from_cache(text) if text.endswith(".pyc") and "__pycache__" in text else text
        # A module of the workflow's own, and none of some library, wherever that is installed.
        if not {Path.cwd(), Path(snakefile).parent}.intersection(Path(text).parents):
            return
    _seen.add(text)


def _note_code(code: object) -> None:
    """Snakemake runs a Snakefile's code so, and Python a module's."""
    if isinstance(code, CodeType) and _listening:
        own = not code.co_filename.endswith(".py")
        by = sys._getframe(2).f_code.co_filename  # Snakemake's module has no `__name__`
        if (
            by.endswith(_RUNS_SNAKEFILES)
            if own
            else (by in _RUNS_MODULES and _is_own_module(code.co_filename))
        ):
            _codes.append(code)


def _uses(code: CodeType, name: str) -> bool:
    within = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return name in code.co_names or any(_uses(each, name) for each in within)


def _is_own_module(file: str) -> bool:
    snakefile = snakefile_above(sys._getframe(3))
    return bool(snakefile) and not {Path.cwd(), Path(str(snakefile)).parent}.isdisjoint(Path(file).parents)


def _note_program(args: tuple[Any, ...]) -> None:
    if _listening and snakefile_above(sys._getframe(2)) is not None:
        words = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else args[:1]
        if words and isinstance(words[0], str | bytes | os.PathLike):
            text = os.fsdecode(words[0]).split()
            # A shell's name says nothing.
            last = os.fsdecode(words[-1]).split() if text and Path(text[0]).name in _SHELLS else text
            _programs.update(dict.fromkeys(Path(word).name for word in last[:1]))


def _note_listing(folder: object) -> None:
    if isinstance(folder, str | bytes | os.PathLike | None):
        path = os.path.abspath(os.fsdecode(folder or "."))
        if path not in _listed and snakefile_above(sys._getframe(2)) is not None:
            _listed.add(path)


def snakefile_above(frame: FrameType | None) -> str | None:
    """The Snakefile whose own code the call comes from, through whatever libraries.

    That code runs with the workflow's globals, in which Snakemake puts `workflow`, and is
    named after its file; Snakemake's own module has such a global too.
    """
    for _ in range(_MAX_DEPTH):
        if frame is None:
            return None
        in_workflow = type(frame.f_globals.get("workflow")).__name__ == "Workflow"
        if in_workflow and not frame.f_code.co_filename.endswith(".py"):
            return os.path.abspath(frame.f_code.co_filename)
        frame = frame.f_back
    return None
