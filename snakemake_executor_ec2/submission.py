"""How a job goes to its machine: as its own command, or with a Snakemake that is held to what was decided."""

from __future__ import annotations

from typing import Any

from snakemake_executor_ec2.decision import decision
from snakemake_executor_ec2.direct import NotDirect, direct_request
from snakemake_executor_ec2.model import JobPlan, Requirements
from snakemake_executor_ec2.plan import inner_jobs, label, plan_job
from snakemake_executor_ec2.runner.arguments import exact_arguments
from snakemake_executor_ec2.staging.sources import Sources


def submission(
    executor: Any, job: Any, *, key: str, requirements: Requirements, sources: Sources
) -> tuple[JobPlan, str]:
    """The plan for a job of Snakemake's, and a sentence on the way that it takes."""
    before, argv = exact_arguments(executor, job)
    held_to = decision(
        inner_jobs(job),
        argv=argv,
        unneeded_temp_files=executor.dag.get_unneeded_temp_files(job),
        label=label,
    )
    allowed = executor.workflow.executor_settings.direct != "never"
    direct, way = _direct(job, "--ec2-direct never" if not allowed else "--precommand" if before else "")
    plan = plan_job(
        job,
        key=key,
        command=before,
        decision=held_to,
        direct=direct,
        env=executor.envvars(),
        requirements=requirements,
        sources=sources.files,
        keep_incomplete=executor.workflow.execution_settings.keep_incomplete,
    )
    return plan, way


def _direct(job: Any, option: str) -> tuple[dict[str, Any] | None, str]:
    """The job's own command, if it needs no Snakemake, unless an option wants one; and how that is told."""
    why = f"of {option}"
    if not option:
        try:
            request = direct_request(job)
        except NotDirect as error:
            why = str(error)
        else:
            return request._asdict(), f"{label(job)} runs its own command, without Snakemake on its machine"
    return None, f"{label(job)} runs with Snakemake on its machine, because {why}"
