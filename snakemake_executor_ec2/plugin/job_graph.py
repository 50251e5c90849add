"""The jobs that a run would hand over, and which of them wait for which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class JobGraph:
    """What has to be done for a DAG of Snakemake's."""

    submissions: tuple[Any, ...]
    """Jobs and group jobs that would be sent to machines, by rule."""
    after: tuple[tuple[int, ...], ...]
    """Of each of them, and then of each job that runs on this computer: the places of those that it waits
    for."""


def job_graph(dag: Any) -> JobGraph:
    """Of the jobs that are not done yet."""
    sent: dict[int, Any] = {}
    stay: dict[int, Any] = {}
    unit_of: dict[Any, int] = {}
    for job in dag.needrun_jobs():
        unit = dag.get_job_group(job) or job
        unit_of[job] = id(unit)
        is_local = unit is job and job.is_local
        (stay if is_local else sent).setdefault(id(unit), unit)
    submissions = sorted(sent.values(), key=_order)
    places = {id(unit): place for place, unit in enumerate([*submissions, *stay.values()])}
    after: list[set[int]] = [set() for _ in places]
    for job, unit_id in unit_of.items():
        before = {places[unit_of[other]] for other in dag.dependencies.get(job, ()) if other in unit_of}
        after[places[unit_id]] |= before - {places[unit_id]}
    return JobGraph(submissions=tuple(submissions), after=tuple(tuple(sorted(each)) for each in after))


def _order(job: Any) -> str:
    from snakemake_executor_ec2.plugin.job_plan import label, rule_names

    return "+".join(rule_names(job)) + label(job)
