"""Where the output of jobs is kept on this computer."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from snakemake_executor_ec2.model import JobPlan


def log_path(plan: JobPlan, folder: Path) -> Path:
    """The file for a job's output; the key begins with the run that first had the job."""
    return folder / plan.key.split(".")[0] / f"{plan.key}.log"


def put_aside(log: Path, machine_no: int) -> None:
    """What the job printed on a machine that was lost is not the beginning of what it prints on this one."""
    with suppress(OSError):  # there is none, or nothing can be written now: following the job waits for that
        log.replace(log.with_name(f"{log.name}.{machine_no}"))
