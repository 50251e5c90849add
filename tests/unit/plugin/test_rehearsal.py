"""`--ec2-cloud local`: an embedded cloud for as long as a run lasts."""

from __future__ import annotations

import os

from snakemake_executor_ec2.plugin.rehearsal import rehearsing


def test_a_rehearsal_tells_where_its_machines_listen() -> None:
    """Also where that is ssh's own port, of which its environment says nothing; and nothing of it stays."""
    before = dict(os.environ)
    with rehearsing() as cloud:
        assert cloud.ssh_port == int(os.environ.get("SNAKEMAKE_EC2_SSH_PORT", "22"))
        assert "AWS_ENDPOINT_URL" in os.environ
    assert dict(os.environ) == before
