"""The options that `snakemake` would take from a command line, its profiles and the environment."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

from snakemake_executor_ec2.controller.config import RunConfig
from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.plugin.run_config import run_config
from snakemake_executor_ec2.plugin.settings import ExecutorSettings


def parsed_of(arguments: Sequence[str]) -> tuple[Any, Any]:
    """Snakemake's parser, and what it makes of `snakemake --executor ec2 ARGUMENTS`.

    Raises ConfigurationError for what it refuses.
    """
    from snakemake.cli import parse_args

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parser, parsed = parse_args(["--executor", "ec2", *arguments])
    except SystemExit as error:
        if not error.code:
            raise  # `--version`
        # Its usage is some hundred lines; the last one says what is wrong.
        last = said.getvalue().strip().splitlines()[-1:] or ["Snakemake refuses the options"]
        why = last[0].partition("error: ")[2] or last[0]
        raise ConfigurationError(f"{why}{_perhaps(why)}") from error
    print(said.getvalue(), end="", file=sys.stderr)
    return parser, parsed


def settings_of(arguments: Sequence[str]) -> ExecutorSettings:
    """What `snakemake --executor ec2 ARGUMENTS` would make of them; no workflow is needed.

    Raises ConfigurationError for what Snakemake's parser refuses.
    """
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    _, parsed = parsed_of(arguments)
    settings: ExecutorSettings = ExecutorPluginRegistry().get_plugin("ec2").get_settings(parsed)
    return settings


def _perhaps(why: str) -> str:
    """Names the option of ours that was probably meant."""
    ours = [_option(each.name) for each in fields(ExecutorSettings)]
    wrong = [word.partition("=")[0].rstrip(":") for word in why.split() if word.startswith("--ec2-")]
    meant = [each for word in why.split() if (each := word.replace("--", "--ec2-", 1)) in ours]
    meant += [found[0] for word in wrong if word not in ours and (found := get_close_matches(word, ours, 1))]
    return f"; perhaps {', '.join(meant)}" if meant else ""


def _option(name: str) -> str:
    return f"--ec2-{name.replace('_', '-')}"


def usable_config(settings: ExecutorSettings) -> tuple[RunConfig, dict[str, str]]:
    """As `run_config`, but without options whose value could not work; and what is wrong with these."""
    wrong = {}
    usable = ExecutorSettings()
    for each in fields(settings):
        given = {each.name: getattr(settings, each.name)}
        try:
            run_config(replace(ExecutorSettings(), **given))
        except ConfigurationError as error:
            wrong[_option(each.name)] = error.message
        else:
            usable = replace(usable, **given)
    return run_config(usable), wrong
