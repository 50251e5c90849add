"""How many jobs of each rule are still to be handed over: idle machines wait for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from snakemake_executor_ec2.plugin.job_plan import inner_jobs, rule_names

_ATTEMPTS = 5


def rule_of(job: Any) -> str:
    """The name under which a job, or a group of them, is counted: that of its `JobPlan`."""
    return "+".join(rule_names(job))


class Coming:
    """Counts once, then follows what is handed over; a checkpoint makes it count again."""

    def __init__(self, dag: Any) -> None:
        self._dag = dag
        self._left: Counter[str] | None = None
        self._handed_over: set[Any] = set()

    def changed(self) -> None:
        """There are other jobs than before."""
        self._left = None

    def after(self, job: Any) -> Mapping[str, int]:
        """What is to come once this job is handed over."""
        new = self._handed_over.isdisjoint(inner_jobs(job))  # else it is tried again, and was counted
        self._handed_over.update(inner_jobs(job))
        if self._left is None:
            self._left = self._count()
        elif new:
            self._left[rule_of(job)] -= 1
        return +self._left

    def _count(self) -> Counter[str]:
        units: dict[Any, str] = {}
        for job in self._needed():
            if not job.is_local and job not in self._handed_over:
                unit = self._dag.get_job_group(job) or job
                units.setdefault(unit, rule_of(unit))
        return Counter(units.values())

    def _needed(self) -> list[Any]:
        """Jobs that are not done. A job that ends meanwhile, in another thread, may change the DAG."""
        for _ in range(_ATTEMPTS):
            with suppress(RuntimeError):
                return list(self._dag.needrun_jobs())
        return []  # no machine waits, which only costs time
