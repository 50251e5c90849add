"""The options that `snakemake` would take from a command line, its profiles and the environment."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from dataclasses import fields, replace

from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.plugin.run_config import run_config
from snakemake_executor_ec2.plugin.settings import ExecutorSettings


def settings_of(arguments: Sequence[str]) -> ExecutorSettings:
    """What `snakemake --executor ec2 ARGUMENTS` would make of them; no workflow is needed.

    Raises ConfigurationError for what Snakemake's parser refuses.
    """
    from snakemake.cli import parse_args
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _, parsed = parse_args(["--executor", "ec2", *arguments])
    except SystemExit as error:
        # Its usage is some hundred lines; the last one says what is wrong.
        last = said.getvalue().strip().splitlines()[-1:] or ["Snakemake refuses the options"]
        raise ConfigurationError(last[0].partition("error: ")[2] or last[0]) from error
    print(said.getvalue(), end="", file=sys.stderr)
    settings: ExecutorSettings = ExecutorPluginRegistry().get_plugin("ec2").get_settings(parsed)
    return settings


def usable_config(settings: ExecutorSettings) -> tuple[RunConfig, dict[str, str]]:
    """As `run_config`, but without options whose value could not work; and what is wrong with these."""
    wrong = {}
    usable = ExecutorSettings()
    for each in fields(settings):
        given = {each.name: getattr(settings, each.name)}
        try:
            run_config(replace(ExecutorSettings(), **given))
        except ConfigurationError as error:
            wrong[f"--ec2-{each.name.replace('_', '-')}"] = error.message
        else:
            usable = replace(usable, **given)
    return run_config(usable), wrong
