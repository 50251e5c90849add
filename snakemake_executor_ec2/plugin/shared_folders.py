"""Files in the storage `fs`, which is a folder that all computers of a cluster share: machines have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.plugin.job_plan import inner_jobs, is_storage, label


def refuse_shared_folders(job: Any, config: RunConfig) -> None:
    """Raise ConfigurationError for a job that reads or writes in the storage `fs`, unless what prepares
    machines may have mounted that folder."""
    for each in inner_jobs(job):
        for file in filter(is_storage, [*each.input, *each.output, *each.log, each.benchmark]):
            query = _shared(file.storage_object)
            if query and not (Path(query).is_absolute() and (config.setup or config.ami)):
                raise ConfigurationError(
                    f"{label(each)}: {query} is in the storage fs, a folder that every computer of a cluster "
                    "sees, and EC2 machines see no folder of this computer. Declare the file without "
                    "a storage (it then goes over ssh), or mount that folder with --ec2-setup and name "
                    "the file by its absolute path"
                )


def _shared(storage_object: Any) -> str:
    """The path of a file in the storage `fs`; empty: it is in another one."""
    plugin = type(storage_object).__module__.partition(".")[0]
    return str(storage_object.query) if plugin == "snakemake_storage_plugin_fs" else ""
