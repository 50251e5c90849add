"""What the options come to."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.plugin.run_config import run_config
from snakemake_executor_ec2.plugin.settings import ExecutorSettings


def test_options_that_are_not_given_have_one_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of `RunConfig`."""
    monkeypatch.delenv("SNAKEMAKE_EC2_SSH_PORT", raising=False)
    assert run_config(ExecutorSettings()) == RunConfig()


def test_the_port_of_an_embedded_cloud_is_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if a program makes the settings itself: only Snakemake's command line asks the environment."""
    monkeypatch.setenv("SNAKEMAKE_EC2_SSH_PORT", "45553")
    assert run_config(ExecutorSettings()).ssh_port == 45553


def test_times_are_seconds() -> None:
    """Minutes of options become seconds; a lease that the user chose has no limit in dollars."""
    config = run_config(ExecutorSettings(lease=3, lifetime=60, boot_timeout=90, keep_failed=2))
    assert (config.lease_s, config.lease_usd) == (180.0, None)
    assert (config.lifetime_s, config.boot_timeout_s, config.keep_failed_s) == (3600, 90.0, 120.0)
