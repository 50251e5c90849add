"""What Snakemake discovers as `--executor ec2`; the product is `snakemake_executor_ec2`."""

from snakemake_executor_ec2.executor import Executor
from snakemake_executor_ec2.settings import ExecutorSettings, common_settings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
