"""What a failed job's output tells of what was not sent or not installed, and what to do about it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from snakemake_executor_ec2.model import JobPlan

_NOT_FOUND = 127
"""A shell's exit status where there is no such program."""
_LACKS_SOFTWARE = re.compile(r"No module named|there is no package called|command not found")


def hints(plan: JobPlan, exit_code: int, lines: Sequence[str]) -> list[str]:
    """Sentences for the user, given how a job ended and what it printed last."""
    found = [
        f"{path} exists here but was not sent to the machine, because no rule declares it as "
        f"input: add it to the input of {plan.rule}, or name it with --ec2-include."
        for path in undeclared(plan, lines)
    ]
    if exit_code == _NOT_FOUND or any(map(_LACKS_SOFTWARE.search, lines)):
        found.append(
            "A machine has its image's software, and what it is told to install: --sdm conda or apptainer "
            "for what a rule's conda: or container: names, --ec2-requirements for Python's packages, "
            "--ec2-setup for anything else."
        )
    return found


def undeclared(plan: JobPlan, lines: Sequence[str]) -> list[str]:
    """Files that a failed job's output speaks of, that exist here and that were not sent."""
    sent = {*plan.inputs, *plan.sources, *plan.outputs, *plan.logs}
    found: list[str] = []
    for word in dict.fromkeys(word for line in lines for word in line.split()):
        name = word.strip("'\"`:,;()[]{}<>")
        path = plan.workdir / name if name else plan.workdir
        if not name or len(name) > 255 or path in sent or any(parent in sent for parent in path.parents):
            continue
        if plan.workdir in path.parents and ".snakemake" not in path.parts and _is_file(path):
            found.append(name)
    return list(dict.fromkeys(found))


def _is_file(path: Path) -> bool:
    # pathlib raises where a word is too long for a name, or leads into a folder that is closed to us.
    return os.path.isfile(path)  # noqa: PTH113
