"""What the options come to."""

from __future__ import annotations

import dataclasses

import pytest

from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.errors import ConfigurationError
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
    """A number alone is in the option's own unit; a lease that the user chose has no limit in dollars."""
    config = run_config(ExecutorSettings(lease="3", lifetime="60", boot_timeout="90", keep_failed="2"))
    assert (config.lease_s, config.lease_usd) == (180.0, None)
    assert (config.lifetime_s, config.boot_timeout_s, config.keep_failed_s) == (3600, 90.0, 120.0)


def test_times_have_units() -> None:
    """Each option takes each unit; a program may give numbers."""
    config = run_config(
        ExecutorSettings(lease="90s", lifetime="1.5 d", boot_timeout="2min", lost_after="1H", keep_failed="0")
    )
    assert (config.lease_s, config.lifetime_s, config.boot_timeout_s) == (90.0, 129_600, 120.0)
    assert (config.lost_after_s, config.keep_failed_s) == (3600.0, 0.0)
    assert run_config(ExecutorSettings(lease=3)).lease_s == 180.0  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["soon", "-5", "12 parsecs", "inf", "1h30m", "0", "59s", "1e9"])
def test_what_is_no_lease_is_refused(text: str) -> None:
    """Before anything costs, with the option's name."""
    with pytest.raises(ConfigurationError, match="--ec2-lease"):
        run_config(ExecutorSettings(lease=text))


def test_all_times_of_options_are_read_as_such() -> None:
    """Whatever option shows TIME as its value."""
    shown = {each.name for each in dataclasses.fields(ExecutorSettings) if each.metadata["metavar"] == "TIME"}
    for name in shown:
        settings = ExecutorSettings()
        setattr(settings, name, "soon")
        with pytest.raises(ConfigurationError, match="is not a time"):
            run_config(settings)
    assert len(shown) == 7
