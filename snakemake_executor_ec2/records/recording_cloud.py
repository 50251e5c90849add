"""A cloud that enters every launch in the journal before EC2 is asked for it."""

from __future__ import annotations

from typing import Any

from snakemake_executor_ec2.aws.cloud import Ec2Cloud
from snakemake_executor_ec2.model import LaunchSpec, Machine
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.tags import JOB_TAG


class RecordingCloud(Ec2Cloud):
    """`Ec2Cloud` for a run whose launches are in a journal."""

    def __init__(self, *, journal: Journal, **settings: Any) -> None:
        super().__init__(**settings)
        self._journal = journal

    def launch(self, spec: LaunchSpec) -> Machine:
        """See `Cloud.launch`. What cannot be entered is not launched."""
        self._journal.intend(spec.tags[JOB_TAG], spec)
        machine = super().launch(spec)
        self._journal.launched(spec.token, machine)
        return machine
