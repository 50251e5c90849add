"""What Snakemake discovers as `--executor ec2`; the product is `snakemake_executor_ec2`."""

from snakemake_executor_ec2.plugin.executor import Executor
from snakemake_executor_ec2.plugin.settings import ExecutorSettings, common_settings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
