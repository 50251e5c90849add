"""A large file that a machine has, and another one needs, and that is no longer what it was."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import launched_since

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh client"),
]
SIZE = 8 << 20
# The second job starts when the first one, which is still at work, has changed its copy.
SNAKEFILE = """rule all:
    input: 'first', 'second'
rule first:
    input: 'large'
    output: 'first'
    shell: 'sha256sum < large > {output}; touch -r large t; printf x | dd of=large conv=notrunc; '
           'touch -r t large; rm t; sleep 30'
rule meanwhile:
    output: 'meanwhile'
    shell: 'sleep 8; touch {output}'
rule second:
    input: 'large', 'meanwhile'
    output: 'second'
    shell: 'sha256sum < large > {output}'
"""


def test_a_copy_that_a_job_has_changed(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """It has the same size and time, and no other job reads it: the controller sends its own."""
    before = list(ec2_cloud.machine_states())
    content = os.urandom(SIZE)
    (run_workflow.folder / "large").write_bytes(content)
    run = run_workflow({"Snakefile": SNAKEFILE}, "--ec2-reuse", "never", jobs=2)
    assert run.returncode == 0, run.output
    expected = f"{hashlib.sha256(content).hexdigest()}  -\n"
    assert [(run.folder / name).read_text() for name in ("first", "second")] == [expected] * 2
    assert "with other content than your computer" in run.output
    new = launched_since(ec2_cloud, before)
    received = sum(each["received_bytes"] for each in ec2_cloud.instances() if each["id"] in new)
    assert 2 * SIZE < received < 2.2 * SIZE
