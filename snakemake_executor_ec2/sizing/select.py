"""Which instance types can run a job, best first. Pure.

A type fits by what is usable of it (`memory.py`); what "best" means is `catalogue.rank`.
"""

from __future__ import annotations

from snakemake_executor_ec2.errors import NoFittingInstance
from snakemake_executor_ec2.model import Offer, Requirements
from snakemake_executor_ec2.sizing.catalogue import Candidate, Catalogue, Pool, PoolKey


def select(catalogue: Catalogue, requirements: Requirements) -> tuple[Offer, ...]:
    """The offers that fit, best first; never empty.

    Raises NoFittingInstance: one sentence with the nearest allowed type and what it lacks.
    """
    pool = catalogue.pool(
        PoolKey(
            patterns=requirements.instance_types,
            arch=requirements.arch,
            wants_gpu=requirements.gpus > 0,
            gpu_model=requirements.gpu_model,
        )
    )
    threads, mem_mb, gpus = requirements.threads, requirements.mem_mb, requirements.gpus
    fitting = tuple(
        each.offer
        for each in pool
        if each.vcpus >= threads and each.job_mem_mb >= mem_mb and each.gpus >= gpus
    )
    if not fitting:
        raise NoFittingInstance(_explain(pool, requirements))
    return fitting


def _explain(pool: Pool, wanted: Requirements) -> str:
    nearest = min(pool, key=lambda each: _distance(each, wanted))
    lacks = _shortfalls(nearest, wanted)
    needs = " and ".join(f"{name}={need}" for name, need, _ in lacks)
    has = " and ".join(_has(name, have) for name, _, have in lacks)
    return (
        f"needs {needs}; the nearest allowed type, {nearest.offer.instance_type.name}, "
        f"has {has}{_others(nearest, wanted)}"
    )


def _distance(each: Candidate, wanted: Requirements) -> tuple[int, float, str]:
    """How far a type is from fitting: first how many things it lacks, then by what factor."""
    lacks = _shortfalls(each, wanted)
    factor = sum(need / max(1, have) for _, need, have in lacks)
    return (len(lacks), factor, each.offer.instance_type.name)


def _shortfalls(each: Candidate, wanted: Requirements) -> list[tuple[str, int, int]]:
    """What a type lacks: (resource, needed, there)."""
    compared = (
        ("mem_mb", wanted.mem_mb, each.job_mem_mb),
        ("threads", wanted.threads, each.vcpus),
        ("gpu", wanted.gpus, each.gpus),
    )
    return [(name, need, have) for name, need, have in compared if have < need]


def _has(name: str, have: int) -> str:
    words = {"mem_mb": f"{have} MB that a job can use", "threads": f"{have} vCPUs", "gpu": f"{have} GPUs"}
    return words[name]


def _others(nearest: Candidate, wanted: Requirements) -> str:
    """Tell what else was asked for, where that is why a larger type was not the nearest."""
    lacking = {name for name, _, _ in _shortfalls(nearest, wanted)}
    asked = []
    if wanted.gpus and "gpu" not in lacking:
        asked.append(f"gpu={wanted.gpus}" + (f" gpu_model={wanted.gpu_model}" if wanted.gpu_model else ""))
    if wanted.instance_types:
        asked.append(f"types {', '.join(wanted.instance_types)}")
    return f" (with {' and '.join(asked)})" if asked else ""
