"""Snakemake with an executor that measures, writes `measured.json` and ends; for `benchmarks.decided`."""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path

from snakemake import cli
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

import snakemake_executor_plugin_ec2 as plugin
from benchmarks.decided import measure


class MeasuringExecutor(plugin.Executor):
    """Ours, but that it hands over nothing."""

    def __post_init__(self) -> None:
        self._fetched = None
        Path("measured.json").write_text(json.dumps(measure(self)))
        os._exit(0)


def main() -> None:
    """Snakemake's `main`, with that executor."""
    module = types.ModuleType("snakemake_executor_plugin_measuring")
    module.Executor = MeasuringExecutor  # type: ignore[attr-defined]
    module.common_settings = plugin.common_settings  # type: ignore[attr-defined]
    module.ExecutorSettings = plugin.ExecutorSettings  # type: ignore[attr-defined]
    ExecutorPluginRegistry().register_plugin("snakemake_executor_plugin_measuring", module)
    cli.main(["--executor", "measuring", "--jobs", "1", *sys.argv[1:]])


if __name__ == "__main__":
    main()
