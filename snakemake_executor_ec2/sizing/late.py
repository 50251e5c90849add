"""Which software a job's machine needs, and whether only when the job calls it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from snakemake_executor_ec2.model import JobPlan, Software


def software_for(plan: JobPlan, software: Software) -> Software:
    """What a job's machine needs of the run's software."""
    late = comes_late(plan.direct, requirements=software.requirements, setup=software.setup)
    return replace(software, tools=plan.tools, late=software.late if late else ())


def comes_late(direct: Mapping[str, Any] | None, *, requirements: str | None, setup: str | None) -> bool:
    """Whether software is installed only when a job calls it: a direct command may never do so. Names of
    programs that requirements bring are not known before, and a benchmark would measure the installation."""
    if direct is None or requirements or setup:
        return False
    requests = [member["request"] for member in direct["members"]] if "members" in direct else [direct]
    return not any(request["benchmark"] for request in requests)
