"""Files in buckets go straight between machine and bucket, the others over ssh."""

from __future__ import annotations

import pytest
import snakemake.common.tests

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.buckets import Buckets
from tests.workflow.in_process import LEAVES_FILES_OPEN, OnTheEmbeddedCloud


@pytest.mark.slow
@LEAVES_FILES_OPEN
class TestWorkflows(OnTheEmbeddedCloud, snakemake.common.tests.TestWorkflowsMinioPlayStorageBase):
    """Snakemake's `simple` and `groups`, with every file in a bucket."""

    @property
    def endpoint_url(self) -> str:
        """The embedded cloud has S3, too."""
        return self.cloud.endpoint_url

    @property
    def access_key(self) -> str:
        return self.cloud.env["AWS_ACCESS_KEY_ID"]

    @property
    def secret_key(self) -> str:
        return self.cloud.env["AWS_SECRET_ACCESS_KEY"]


MIXED = """
storage:
    provider="s3", retries=7

rule all:
    input: "out/lines.txt", storage("s3://results/kept.txt")

rule double:
    input: raw=storage("s3://raw/reads.txt"), table="data/table.txt"
    output:
        stored=storage("s3://results/doubled.txt"),
        here="out/table.txt",
    log: storage("s3://results/double.log")
    shell: "cat {input.raw} {input.raw} > {output.stored}; cp {input.table} {output.here}; echo noted > {log}"

rule count:
    input: storage("s3://results/doubled.txt"), "out/table.txt"
    output: "out/lines.txt", touch(storage("s3://results/kept.txt"))
    shell: "cat {input} | wc -l > {output[0]}"
"""


def test_single_files_in_buckets(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """What is in a bucket is read and written by machines alone, the rest comes over ssh; nothing reruns."""
    s3 = Buckets(ec2_cloud)
    s3.put("raw", "reads.txt", "one\ntwo\n")

    run = run_workflow({"Snakefile": MIXED, "data/table.txt": "three\n"}, env=s3.credentials)

    assert run.returncode == 0, run.output
    assert (run.folder / "out/lines.txt").read_text().strip() == "5"
    assert s3.get("results", "doubled.txt") == "one\ntwo\none\ntwo\n"
    assert s3.get("results", "double.log") == "noted\n"
    assert not [
        path for path in (run.folder / ".snakemake/storage").rglob("*.txt") if path.name != "kept.txt"
    ]
    assert not list((run.folder / ".snakemake/storage").rglob("*.log"))
    again = run_workflow({}, "--dry-run", env=s3.credentials)
    assert "Nothing to be done" in again.output, again.output
