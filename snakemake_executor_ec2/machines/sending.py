"""What is sent for a job, and the folders for it."""

from __future__ import annotations

from collections.abc import Iterable

from snakemake_executor_ec2.agent.client import Agent
from snakemake_executor_ec2.errors import StagingError
from snakemake_executor_ec2.machines.connection import Connection
from snakemake_executor_ec2.model import JobPlan
from snakemake_executor_ec2.staging.paths import PathMap, Sending, sendings


def to_send(plan: JobPlan, paths: PathMap) -> list[Sending]:
    """All that a job reads, and where it is to be on its machine. Raises StagingError."""
    try:
        # What the job changes comes back as what it is there: it must not be behind a link.
        return sendings([*plan.sources, *plan.inputs], paths, followed=plan.outputs)
    except FileNotFoundError as error:
        raise StagingError(f"{error.filename} cannot be sent: it does not exist (any more)") from error
    except OSError as error:  # a folder that this user may not look into, for instance
        raise StagingError(f"{error.filename} cannot be sent: {error.strerror}") from error


def make_folders(
    connection: Connection,
    plan: JobPlan,
    paths: PathMap,
    sending: Iterable[Sending],
    local_disk_mb: int | None = None,
) -> str:
    """The working directory, and folders for what is sent and for what the job makes outside of it. Returns
    why the former cannot be used, if it cannot. `local_disk_mb`: see `Agent.workdir`. Raises StagingError."""
    made = (*plan.outputs, *plan.optional_outputs, *plan.logs)
    names = [*(each.name for each in sending), *(paths.to_machine(path) for path in made)]
    outside = sorted(
        {str(name.parent) for name in names if paths.there not in name.parents}
        | set(map(str, plan.folders))
        | {str(root) for root in (plan.view.roots if plan.view else ()) if root != plan.workdir}
    )
    there = [str(paths.there)]
    own, *others = connection.call(
        lambda host: Agent(host).workdir(there, parents=outside, local_disk_mb=local_disk_mb)
    )
    for answer in others if own.ok else ():
        if not answer.ok:
            raise StagingError(f"{answer.path} cannot be used on the machine: {answer.reason}")
    return "" if own.ok else own.reason
