"""What is still to come: how many jobs of each rule, for which idle machines wait, and which of them wait for
which, so that machines are launched ahead."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from snakemake_executor_ec2.plugin import snakemake_private
from snakemake_executor_ec2.plugin.job_plan import (
    deployment_tools,
    inner_jobs,
    label,
    rule_names,
    unsettled_resources,
)
from snakemake_executor_ec2.plugin.job_requirements import requirements_of
from snakemake_executor_ec2.plugin.readers import readers
from snakemake_executor_ec2.plugin.submission import own_command
from snakemake_executor_ec2.sizing.ahead import Key, Needs, Step

if TYPE_CHECKING:
    from snakemake_executor_ec2.controller.config import RunConfig
    from snakemake_executor_ec2.controller.run import Run
    from snakemake_executor_ec2.machines.feasibility import Feasibility

_ATTEMPTS = 5


def rule_of(job: Any) -> str:
    """The name under which a job, or a group of them, is counted: that of its `JobPlan`."""
    return "+".join(rule_names(job))


class Coming:
    """Counts once, then follows what is handed over; a checkpoint makes it count again."""

    def __init__(self, dag: Any, config: RunConfig, feasibility: Feasibility) -> None:
        self._dag = dag
        self._config = config
        self._feasibility = feasibility
        self._usual = snakemake_private.default_resources(dag.workflow.resource_settings) or {}
        self._limited = snakemake_private.limited_resources(dag.workflow)
        self._left: Counter[str] | None = None
        self._handed_over: set[Any] = set()
        self._direct: dict[str, Mapping[str, Any] | None] = {}
        """Own commands of jobs, one of each rule."""

    def changed(self) -> None:
        """There are other jobs than before."""
        self._left = None

    def tell(self, run: Run, job: Any) -> None:
        """Tell a run what is to come once this job is handed over."""
        new = self._handed_over.isdisjoint(inner_jobs(job))  # else it is tried again, and was counted
        self._handed_over.update(inner_jobs(job))
        if self._left is None:
            self._left = self._count()
            if self._config.look_ahead:
                # A job that ends meanwhile, in another thread, may change the DAG: then none is foreseen.
                with suppress(RuntimeError, KeyError):
                    at_a_time = snakemake_private.jobs_at_a_time(self._dag.workflow)
                    run.ahead.plan(self._steps(), at_a_time=at_a_time)
        elif new:
            self._left[rule_of(job)] -= 1
        run.ahead.handed_over(job.jobid)
        run.expect(+self._left)
        run.expect_readers(readers(self._dag, job))

    def _count(self) -> Counter[str]:
        units: dict[Any, str] = {}
        for job in self._needed():
            if not job.is_local and job not in self._handed_over:
                unit = self._dag.get_job_group(job) or job
                units.setdefault(unit, rule_of(unit))
        return Counter(units.values())

    def _steps(self) -> dict[Key, Step]:
        """The jobs that are not done, and what they wait for."""
        units = {job: self._dag.get_job_group(job) or job for job in self._needed()}
        after: dict[Any, set[Any]] = {unit: set() for unit in units.values()}
        for job, unit in units.items():
            before = [units[each] for each in self._dag.dependencies.get(job, ()) if each in units]
            after[unit] |= {each for each in before if each is not unit}
        unknown = self._behind_checkpoints(after)
        return {
            unit.jobid: Step(
                rule=rule_of(unit),
                after=tuple(each.jobid for each in waits_for),
                needs=self._needs(unit) if waits_for and unit not in unknown else None,
                here=bool(unit.is_local),
            )
            for unit, waits_for in after.items()
        }

    def _behind_checkpoints(self, after: Mapping[Any, set[Any]]) -> set[Any]:
        """Jobs that wait for a checkpoint: there may be others instead of them."""
        children: dict[Any, list[Any]] = defaultdict(list)
        for unit, waits_for in after.items():
            for each in waits_for:
                children[each].append(unit)
        found: set[Any] = set()
        waiting = [unit for unit in after if any(job.is_checkpoint for job in inner_jobs(unit))]
        while waiting:
            new = set(children[waiting.pop()]) - found
            found |= new
            waiting += new
        return found

    def _needs(self, job: Any) -> Needs | None:
        """What a job's machine needs; None if none is launched ahead for it: it runs here, it is a group,
        that is not known yet, or it may have to wait for more than the jobs before it."""
        if job.is_local or job.is_group():
            return None
        # A job that cannot run is refused when its time has come.
        with suppress(Exception):
            if self._limited.isdisjoint(name for name, amount in job.resources.items() if amount):
                unsettled = unsettled_resources(job)
                return Needs(
                    label=label(job),
                    requirements=requirements_of(job, self._config, self._feasibility),
                    settled=not unsettled,
                    unknown=any(job.rule.resources.get(each) != self._usual.get(each) for each in unsettled),
                    tools=deployment_tools([job]),
                    direct=self._own(job),
                )
        return None

    def _own(self, job: Any) -> Mapping[str, Any] | None:
        """The rule's own command, as far as it is known by now; None: it needs Snakemake on its machine."""
        name = job.rule.name
        if name not in self._direct:
            self._direct[name] = None
            with suppress(Exception):  # it depends on a file that is not there yet
                self._direct[name] = own_command(job)
        return self._direct[name]

    def _needed(self) -> list[Any]:
        """Jobs that are not done. A job that ends meanwhile, in another thread, may change the DAG."""
        for _ in range(_ATTEMPTS):
            with suppress(RuntimeError):
                return list(self._dag.needrun_jobs())
        return []  # no machine waits, which only costs time
