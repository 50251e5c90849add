"""A workflow's own profiles, as they go to the machine that runs the whole of it: without what belongs to
this computer."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.errors import ConfigurationError

_FOLDERS = (Path("profiles"), Path("workflow", "profiles"))
"""Where Snakemake looks for a workflow's profiles, beside the folder of its Snakefile."""
_CONFIG = re.compile(r"(profile|config)(\.v\d+\+)?\.yaml")
_OPTION = "--workflow-profile"


@dataclass(frozen=True, kw_only=True)
class Profiles:
    """What there is of them. Paths are absolute."""

    files: tuple[Path, ...]
    written: Mapping[Path, bytes]
    """What some have as their content there; by where they really are."""


def profiles(snakefile: Path, arguments: Sequence[str], own: Collection[str]) -> Profiles:
    """The profiles of a workflow in this folder, without the options `own` of the command line.

    Raises ConfigurationError for one that lies elsewhere: there, Snakemake would go on without it.
    """
    folders = [Path.cwd() / each for each in (*_FOLDERS, snakefile.parent / "profiles")]
    named = _named(arguments, folders)
    inside = dict.fromkeys(path for each in folders if Path.cwd() in each.parents for path in each.rglob("*"))
    if named is not None:
        inside.update(dict.fromkeys([named, *named.rglob("*")]))
    files = tuple(path for path in inside if path.is_file())
    configs = [path for path in files if _CONFIG.fullmatch(path.name) or path == named]
    found = {path.resolve(): _without(path, own) for path in configs}
    return Profiles(
        files=files, written={path: content for path, content in found.items() if content is not None}
    )


def _named(arguments: Sequence[str], folders: Sequence[Path]) -> Path | None:
    """What `--workflow-profile` names by its path; None: nothing that is not in these folders."""
    name = ""
    for at, each in enumerate(arguments):
        option, sign, value = each.partition("=")
        if option == _OPTION:
            name = value if sign else next(iter(arguments[at + 1 :]), "")
    path = Path.cwd() / name
    if not name or name == "none" or not path.exists():
        return None
    if Path.cwd() not in path.resolve().parents:
        raise ConfigurationError(
            f"{_OPTION} {name} is outside of this folder, and not sent: copy it into profiles/ of this folder"
        )
    return None if any(folder in path.parents for folder in folders) else path


def _without(path: Path, own: Collection[str]) -> bytes | None:
    """What a profile says but for these options; None: it has none of them, or is none."""
    import yaml

    # As Snakemake reads it: values may be expressions, which are evaluated here.
    import yte  # type: ignore[import-untyped]

    try:
        with path.open(encoding="utf-8") as file:
            said: Any = yte.process_yaml(file, require_use_yte=True)
    except Exception:  # whatever expressions raise: the profile that is used has been read already
        return None
    if not isinstance(said, dict):
        return None
    kept = {key: value for key, value in said.items() if f"--{str(key).lstrip('-')}" not in own}
    return None if len(kept) == len(said) else yaml.safe_dump(kept, sort_keys=False).encode()
