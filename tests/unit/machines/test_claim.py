"""What root does on a machine that nobody asks for any more, where its user cannot."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from snakemake_executor_ec2.agent import lease
from snakemake_executor_ec2.agent.state import boottime
from snakemake_executor_ec2.machines import user_data
from snakemake_executor_ec2.model import KeyPair

pytestmark = pytest.mark.skipif(not Path("/proc/uptime").exists(), reason="there is no /proc/uptime")


@pytest.mark.parametrize(
    ("renewed_s_ago", "lease_s", "over"),
    [(500, 300, True), (350, 300, False), (500, 0, False), (5, 300, False), (None, 300, False)],
)
def test_root_sees_a_lease_that_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renewed_s_ago: float | None, lease_s: float, over: bool
) -> None:
    """A while after the guard should have ended the machine; not where there is no lease."""
    if renewed_s_ago is not None:
        renewed = boottime() - renewed_s_ago
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr(lease, "boottime", lambda: renewed)
        lease.grant(lease_s)
    text = user_data.cloud_config(
        host_key=KeyPair(private="", public=""), authorized_keys=[], lifetime_s=9, claim_s=9, ssh_user="ann"
    )
    claim = yaml.safe_load(text)["bootcmd"][1][2]
    command = claim.partition("until ")[2].partition("; do ")[0].replace("~ann", str(tmp_path))

    done = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.DEVNULL, check=False)

    assert (done.returncode == 0) is over
