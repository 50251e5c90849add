"""What Python scripts of rules import, read off their text.

Of Snakefiles it is known when they have been read here. A script first says on its machine what it misses.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def lacking(scripts: Iterable[Path], *, own: Collection[Path], have: Iterable[str]) -> tuple[str, ...]:
    """What scripts import that neither Python nor the packages of the requirements `have` bring, with what
    those require themselves: as pip requirements of what is here; modules that are not, by their names.

    `own` are folders of the workflow's: modules there and beside the script travel as files.
    """
    brought = _with_dependencies(have)
    by_module = packages_distributions()
    found: dict[str, None] = {}
    for script in scripts:
        modules = _imported(script) - sys.stdlib_module_names
        for module in sorted(modules):
            if any(_lies_in(folder, module) for folder in (script.parent, *own)):
                continue
            packages = by_module.get(module, [module])
            if brought.isdisjoint(map(canonicalize_name, packages)):
                found[_pinned(packages[0])] = None
    return tuple(found)


def _imported(script: Path) -> set[str]:
    """The top-level names that a script can't do without: an import within `try` is no such."""
    try:
        tree = ast.parse(_code(script))
    except (OSError, ValueError, SyntaxError):
        return set()
    return {name.partition(".")[0] for name in _names(tree)} - {""}


def _code(script: Path) -> str:
    text = script.read_text()
    if script.suffix != ".ipynb":
        return text
    cells = (cell for cell in json.loads(text).get("cells", ()) if cell.get("cell_type") == "code")
    lines = "\n".join("".join(cell.get("source", ())) for cell in cells).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Try):
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield node.module or ""
    for child in ast.iter_child_nodes(node):
        yield from _names(child)


def _lies_in(folder: Path, module: str) -> bool:
    return (folder / module).is_dir() or (folder / f"{module}.py").is_file()


def _with_dependencies(requirements: Iterable[str]) -> set[str]:
    """The packages that an installation of some brings, as it does on this computer."""
    seen: set[str] = set()
    waiting = list(requirements)
    while waiting:
        match = _NAME.match(waiting.pop())
        name = canonicalize_name(match.group()) if match else ""
        if name and name not in seen:
            seen.add(name)
            with suppress(PackageNotFoundError, ValueError):
                waiting += [text for text in distribution(name).requires or () if "extra ==" not in text]
    return seen


def _pinned(package: str) -> str:
    try:
        return f"{package}=={distribution(package).version}"
    except PackageNotFoundError:
        return package
