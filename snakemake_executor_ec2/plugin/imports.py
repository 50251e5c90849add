"""What Snakefiles and the workflow's own modules import, read off their code: machines need it as well.

The code is noted as Snakemake runs it (see `parse_reads`), so that imports count wherever they are: in
functions and `run:` bodies, and if something else has imported the same library before.
"""

from __future__ import annotations

import dis
import json
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from types import CodeType

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_BY_DIRECTIVES = {"set_pepfile": "peppy", "pepschema": "eido"}
"""What Snakemake, which does not depend on it, imports for a directive, by what a Snakefile's code calls."""


@dataclass(frozen=True, kw_only=True)
class Imports:
    """What machines are to have, as pip requirements, and what they cannot be given."""

    pinned: tuple[str, ...] = ()
    overruled: tuple[tuple[str, str], ...] = ()
    """What is here, and what --ec2-requirements wants instead."""
    elsewhere: tuple[tuple[str, str], ...] = ()
    """Module, and its place on this computer: no package index has it."""


def imports(codes: Iterable[CodeType], *, own: Collection[Path], requirements: str = "") -> Imports:
    """Settle what code imports. `own` are folders of the workflow's: modules in them travel as files."""
    modules = {name for code in codes for name in _imported(code)}
    modules = {name for name in modules - sys.stdlib_module_names if not _is_own(name, own)}
    if not modules:
        return Imports()
    by_module = packages_distributions()
    named = _requirements(requirements)
    pinned, overruled, elsewhere = [], [], []
    for module in sorted(modules):
        for package in by_module.get(module, ()):
            installed = _distribution(package)
            wanted = named.get(canonicalize_name(package))
            if installed is None or canonicalize_name(package).startswith("snakemake"):
                continue
            if wanted is not None:
                if not wanted.specifier.contains(installed.version, prereleases=True):
                    overruled.append((f"{package} {installed.version}", str(wanted)))
            elif place := _not_from_an_index(installed):
                elsewhere.append((module, place))
            else:
                pinned.append(f"{package}=={installed.version}")
        if module not in by_module and (place := _file(module)) and not _is_covered(module, named):
            elsewhere.append((module, place))
    unique = tuple(dict.fromkeys(pinned))
    return Imports(pinned=unique, overruled=tuple(dict.fromkeys(overruled)), elsewhere=tuple(elsewhere))


def _imported(code: CodeType) -> set[str]:
    """The top-level names that code imports, in functions too, or has Snakemake import by a directive."""
    found = {
        str(each.argval).partition(".")[0]
        for each in dis.get_instructions(code)
        if each.opname == "IMPORT_NAME"
    }
    found |= {module for name, module in _BY_DIRECTIVES.items() if name in code.co_names}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _imported(constant)
    return found - {""}


def _is_own(module: str, folders: Collection[Path]) -> bool:
    file = _file(module)
    return bool(file) and not set(folders).isdisjoint(Path(file).parents) and "site-packages" not in file


def _file(module: str) -> str:
    found = sys.modules.get(module)
    paths = [getattr(found, "__file__", None), *getattr(found, "__path__", ())]
    return next((str(path) for path in paths if path), "")


def _distribution(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _not_from_an_index(installed: Distribution) -> str:
    """Where a package was installed from, if that was a folder, a file or a repository."""
    try:
        return str(json.loads(installed.read_text("direct_url.json") or "{}").get("url", ""))
    except (ValueError, AttributeError):
        return ""


def _requirements(text: str) -> dict[str, Requirement]:
    """What a requirements file names, by package. Its options, and what they lead to, are pip's affair."""
    found: dict[str, Requirement] = {}
    for line in text.splitlines():
        try:
            requirement = Requirement(line.partition(" #")[0].strip())
        except InvalidRequirement:
            continue
        found[canonicalize_name(requirement.name)] = requirement
    return found


def _is_covered(module: str, named: Mapping[str, Requirement]) -> bool:
    return canonicalize_name(module) in named
