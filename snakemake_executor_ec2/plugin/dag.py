"""The jobs that `snakemake` would run, without running them.

Snakemake's own command line is used as it is, so that every option, profile and configuration
means the same: only the last step, the execution, is replaced by looking at the jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from snakemake_executor_ec2.plugin import snakemake_private
from snakemake_executor_ec2.plugin.settings import ExecutorSettings

Look = Callable[[Any, ExecutorSettings], None]
"""Is given the DAG and our settings."""


def look_at_jobs(arguments: Sequence[str], look: Look) -> bool:
    """Build the DAG that `snakemake --executor ec2 ARGUMENTS` would run, and call `look` with it.

    False if Snakemake has printed an error. Exceptions of `look` are raised, and ConfigurationError for
    options that Snakemake's parser refuses.
    """
    from snakemake.api import DAGApi
    from snakemake.cli import args_to_api, print_exception

    from snakemake_executor_ec2.plugin.options import parsed_of

    parser, parsed = parsed_of(arguments)
    raised: list[BaseException] = []

    def instead_of_running(dag_api: Any, **given: Any) -> None:
        dag, settings = _built(dag_api, given)
        try:
            look(dag, settings)
        except BaseException as error:
            raised.append(error)

    run = DAGApi.execute_workflow
    DAGApi.execute_workflow = instead_of_running
    try:
        done = bool(args_to_api(parsed, parser))
    except Exception as error:
        print_exception(error)
        done = False
    finally:
        DAGApi.execute_workflow = run
    if raised:
        raise raised[0]
    return done


def _built(dag_api: Any, given: dict[str, Any]) -> tuple[Any, ExecutorSettings]:
    """What DAGApi.execute_workflow and Workflow.execute do before they execute."""
    from snakemake.resources import Resources
    from snakemake.settings.types import ExecutionSettings
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    from snakemake_executor_ec2.plugin.job_plan import rules_that_stay

    api = dag_api.workflow_api
    plugin = ExecutorPluginRegistry().get_plugin("ec2")
    settings = given["executor_settings"]
    api.storage_settings.shared_fs_usage = frozenset()
    if api.resource_settings.default_resources is None:
        api.resource_settings.default_resources = Resources.default("full")
    workflow = snakemake_private.workflow_of(api)
    workflow.execution_settings = given.get("execution_settings") or ExecutionSettings()
    for name in ("remote_execution_settings", "scheduling_settings", "group_settings"):
        setattr(workflow, name, given[name])
    workflow.executor_settings = settings
    snakemake_private.build_dag(workflow, plugin)
    workflow.localrules(*rules_that_stay(workflow))
    workflow.async_run(workflow.dag.postprocess(update_needrun=False, check_initial=True))
    return workflow.dag, settings
