"""Hints from a failed job's output: what was not sent or not installed, and what to do about it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_ec2.model import JobPlan
from snakemake_executor_ec2.report.amazon_linux import PACKAGES

if TYPE_CHECKING:
    from snakemake_executor_ec2.report.leavings import Leavings

_NOT_FOUND = 127
"""A shell's exit status if there is no such program."""
_COMPLAINS = re.compile(
    r"No such file|Permission denied|cannot open|can't open|not found|does not exist", re.I
)
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")
_LONGEST_NAME = 255
_FEW = 3
_SYSTEM = frozenset(
    map(Path, ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr", sys.base_prefix))
)
_LACKS_SOFTWARE = re.compile(r"No module named|there is no package called|command not found")
_NO_MODULE = re.compile(r"No module named '?([\w]+)")
_NO_R_PACKAGE = re.compile(r"there is no package called .([\w.]+)")
_NO_PROGRAM = re.compile(r"([\w.+-]+): command not found|command not found: ([\w.+-]+)")
_SOFTWARE = (
    "install it with a script that --ec2-setup names, or with the rule's conda: or container: (--sdm conda, "
    "--sdm apptainer)"
)
_SHORT = "Or use the rule's conda: or container: (--sdm conda, --sdm apptainer)"


def hints(plan: JobPlan, exit_code: int, lines: Sequence[str], left: Leavings | None = None) -> list[str]:
    """Sentences for the user, given how a job ended, what it printed last, and what other jobs left."""
    found = _left_by_others(plan, lines, left) if left else []
    found += [
        f"{path} exists on your computer but was not sent to the machine, because no rule declares it as "
        f"input: add it to the input of {plan.rule}, or name it with --ec2-include."
        for path in undeclared(plan, lines)
    ]
    if exit_code == _NOT_FOUND or any(map(_LACKS_SOFTWARE.search, lines)):
        found += list(dict.fromkeys(_to_install(lines))) or [f"The machine lacks a program: {_SOFTWARE}."]
    return found


def _to_install(lines: Sequence[str]) -> Iterator[str]:
    """What brings each thing that a job has missed."""
    for line in lines:
        if module := _NO_MODULE.search(line):
            yield (
                f"The machine lacks the Python module {module[1]}: add its package to a requirements.txt "
                f"that --ec2-requirements names. {_SHORT}."
            )
        elif package := _NO_R_PACKAGE.search(line):
            yield f"The machine lacks the R package {package[1]}: {_SOFTWARE}."
        elif program := _NO_PROGRAM.search(line):
            name = program[1] or program[2]
            dnf = f"`sudo dnf -y install {PACKAGES[name]}`" if name in PACKAGES else "what installs it"
            yield f"The machine lacks the program {name}: put {dnf} into an --ec2-setup script. {_SHORT}."


def _left_by_others(plan: JobPlan, lines: Sequence[str], left: Leavings) -> list[str]:
    names = dict.fromkeys(name for line in lines if _COMPLAINS.search(line) for name in _names(line))
    makers = {name: left.left_by(_path(plan, name)) for name in names}
    return [
        f"{name} was made by {rule} and lost with its machine, because no rule declares it: add it to "
        f"the output of {rule}, and to the input of {plan.rule}."
        for name, rule in makers.items()
        if rule
    ]


def undeclared(plan: JobPlan, lines: Sequence[str]) -> list[str]:
    """Files that a failed job's output speaks of, that exist here and that were not sent.

    By the path that it gives; where a program complains of a file, also by the end of that path: it
    may count from another folder.
    """
    sent = {*plan.inputs, *plan.sources, *plan.own, *plan.outputs, *plan.logs}
    named = dict.fromkeys(name for line in lines for name in _names(line))
    complained = dict.fromkeys(name for line in lines if _COMPLAINS.search(line) for name in _names(line))
    found = {name: _path(plan, name) for name in named}
    meant = {name for name, path in found.items() if _may_be_meant(path, plan, sent, name in complained)}
    for name in complained.keys() - meant:
        ending = _ending_in(plan, name)
        found |= ending
        meant |= {each for each, path in ending.items() if _may_be_meant(path, plan, sent, True)}
    first = {path: name for name, path in reversed(found.items()) if name in meant}
    return sorted(first.values(), key=list(found).index)


def _names(line: str) -> Iterator[str]:
    """Words, and what is in quotation marks: programs put names with spaces into them."""
    for word in (*line.split(), *(each for pair in _QUOTED.findall(line) for each in pair if " " in each)):
        name = word.strip("'\"`:,;()[]{}<>")
        if name and len(name) <= _LONGEST_NAME:
            yield name


def _path(plan: JobPlan, name: str) -> Path:
    return Path(os.path.normpath(plan.workdir / name))


def _may_be_meant(path: Path, plan: JobPlan, sent: Collection[Path], anywhere: bool) -> bool:
    """Whether a file exists on this computer, is not part of its system, and was not sent."""
    if path in sent or any(parent in sent for parent in path.parents) or ".snakemake" in path.parts:
        return False
    roots = plan.view.roots if plan.view else (plan.workdir,)
    inside = any(root in path.parents for root in roots)
    return (inside or (anywhere and _SYSTEM.isdisjoint(path.parents))) and _is_file(path)


def _ending_in(plan: JobPlan, name: str) -> dict[str, Path]:
    """Files that machines see as stand-ins and whose paths end like this, if they are few."""
    if plan.view is None or name.startswith(("/", "..")):
        return {}
    last = Path(name).name
    paths = [
        Path(folder.path, last)
        for folder in plan.view.folders.values()
        if any(file == last for file, _, _ in folder.files)
    ]
    ending = [path for path in paths if path.parts[-len(Path(name).parts) :] == Path(name).parts]
    return {os.path.relpath(path, plan.workdir): path for path in ending} if len(ending) <= _FEW else {}


def _is_file(path: Path) -> bool:
    # pathlib raises where a word is too long for a name, or leads into a folder that is closed to us.
    return os.path.isfile(path)  # noqa: PTH113
