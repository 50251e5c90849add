"""A machine whose Snakemake never comes back ends by itself, and can be seen until then."""

from __future__ import annotations

import time
from pathlib import Path

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.workflow.killing import alive, launched_since, wait_for, watched
from tests.workflow.shell import Shell

LONG = {"Snakefile": "rule one:\n    output: 'o.txt'\n    shell: 'sleep 600; touch {output}'\n"}
LIMITS = {"lifetime": "launched", "lease": "running rule one"}
"""Which option is a minute, and when Snakemake is killed."""


def test_a_machine_without_its_snakemake_ends_with_its_lease_or_its_lifetime(
    ec2_cloud: EmbeddedCloud, tmp_path: Path, shell: Shell
) -> None:
    """After a SIGKILL it powers itself off when the first of the two is over; `ps` shows it until then."""
    machines = {}
    for limit, line in LIMITS.items():
        folder = tmp_path / limit
        folder.mkdir()
        runner = WorkflowRunner(ec2_cloud, folder)
        runner.place(LONG)
        before = list(ec2_cloud.machine_states())
        run = watched(runner, f"--ec2-{limit}", "1")
        run.until(line)
        run.kill()
        (machines[limit],) = launched_since(ec2_cloud, before)
    killed_at = time.monotonic()

    header, row = shell(tmp_path / "lease", "ps").splitlines()
    assert header.split() == ["machine", "rule", "state", "type", "zone", "age", "cost", "lease", "run"]
    assert row.startswith(f"{machines['lease']}  rule one  without a controller  ")
    assert " s left  " in row
    assert " s  $0.0" in row, "its age and its cost"

    wait_for(lambda: not alive(ec2_cloud))
    assert time.monotonic() - killed_at > 20, "nothing else has ended them"
    for machine in machines.values():
        assert shell.described(machine)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
