"""Where the output of jobs is kept on this computer."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from snakemake_executor_ec2.model import JobPlan

_NO_NAME = re.compile(r"[^\w=.,+-]+")
_LONGEST = 80
"""Characters of a name; each may be four bytes, and a file's name may have 255."""
_WORST = 160


def log_path(plan: JobPlan, folder: Path) -> Path:
    """The file for a job's output."""
    return _path(folder, plan.key, plan.label)


def find_log(folder: Path, key: str, label: str) -> Path:
    """The same, for a job of any run of this folder: earlier versions named it by its key alone."""
    path = _path(folder, key, label)
    old = path.with_name(f"{key}.log")
    return old if old.exists() and not path.exists() else path


def _path(folder: Path, key: str, label: str) -> Path:
    """`align_sample=A.12.1.log` in the run's folder: rule and wildcards, then what makes it unique. The key
    begins with the run that first had the job."""
    run, _, number = key.partition(".")
    name = _NO_NAME.sub("_", label.removeprefix("rule ")).strip("_.") or "job"
    name = name[:_LONGEST].encode()[:_WORST].decode(errors="ignore")
    return folder / run / f"{name}.{number}.log"


def put_aside(log: Path, machine_no: int) -> None:
    """What the job printed on a machine that was lost is not the beginning of what it prints on this one."""
    with suppress(OSError):  # there is none, or nothing can be written now: following the job waits for that
        log.replace(log.with_name(f"{log.name}.{machine_no}"))
