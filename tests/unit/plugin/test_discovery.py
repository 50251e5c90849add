"""What Snakemake finds, and what finding it costs."""

from __future__ import annotations

import subprocess
import sys

from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

import snakemake_executor_plugin_ec2


def test_the_registry_lists_the_executor() -> None:
    """Snakemake discovers the plugin under the name `ec2`, with its settings."""
    plugin = ExecutorPluginRegistry().get_plugin("ec2")

    assert plugin.settings_cls is snakemake_executor_plugin_ec2.ExecutorSettings


def test_discovery_imports_nothing_heavy() -> None:
    """Every Snakemake start imports the plugin: no cloud client, no ssh, not even our own model."""
    code = "import sys, snakemake_executor_plugin_ec2; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())

    for heavy in ("boto3", "botocore", "paramiko", "cryptography", "moto", "asyncssh", "yaml", "sqlite3"):
        assert heavy not in modules
    assert "snakemake_executor_ec2.model" not in modules


def test_only_adapters_import_their_libraries() -> None:
    """boto3 is `aws/`'s, paramiko is `ssh/`'s: one seam for each outside system."""
    code = (
        "import sys, snakemake_executor_ec2.controller.job, snakemake_executor_ec2.machines.launcher, "
        "snakemake_executor_ec2.machines.session; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())

    assert not modules & {"boto3", "botocore", "paramiko", "moto", "asyncssh"}
