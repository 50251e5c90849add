"""Which jobs are to read what one makes (its machine may stay until theirs have it), or what it reads."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.controller.lingering import Reader
from snakemake_executor_ec2.plugin.job_plan import inner_jobs

_FEW = 20


def readers(dag: Any, job: Any) -> list[Reader]:
    """Those on machines. Not those that wait for many jobs: this one would hardly be the last."""
    found = []
    for inner in inner_jobs(job):
        for child, files in list(dag.depending.get(inner, {}).items()):
            before = dag.dependencies.get(child, ())
            reads = _is_undone(dag, child) and not child.is_local and _unit(dag, child) is not job
            if reads and len(before) <= _FEW:
                after = {_unit(dag, each).jobid for each in (inner, *before) if _is_undone(dag, each)}
                paths = tuple(Path(os.path.abspath(each)) for each in files)
                found.append(Reader(job=_unit(dag, child).jobid, paths=paths, after=frozenset(after)))
    return found


def read_again(dag: Any, job: Any) -> tuple[Path, ...]:
    """Inputs of a job that those which wait for it read as well: if it changes one in its place, they count
    on that."""
    found: set[str] = set()
    for inner in inner_jobs(job):
        own = set(map(str, inner.input))
        for child in list(dag.depending.get(inner, ())) if own else ():
            if _unit(dag, child) is not job:
                found |= own & _inputs(child)
    return tuple(Path(os.path.abspath(each)) for each in sorted(found))


@lru_cache(maxsize=100)
def _inputs(job: Any) -> frozenset[str]:
    """Kept, because a job that gathers the results of thousands is asked for by each of them."""
    return frozenset(map(str, job.input))


def _is_undone(dag: Any, job: Any) -> bool:
    return bool(dag.needrun(job) and not dag.finished(job))


def _unit(dag: Any, job: Any) -> Any:
    """What is handed over: a job, or its group."""
    return dag.get_job_group(job) or job
