"""The workflows that Snakemake ships for testing executors."""

from __future__ import annotations

import snakemake.common.tests

from tests.workflow.in_process import LEAVES_FILES_OPEN, OnTheEmbeddedCloud


@LEAVES_FILES_OPEN
class TestWorkflows(OnTheEmbeddedCloud, snakemake.common.tests.TestWorkflowsLocalStorageBase):
    """Snakemake's `simple` and `groups`, without a shared file system."""
