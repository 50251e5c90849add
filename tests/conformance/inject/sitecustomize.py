"""Found by every Python that Snakemake's tests start, in this process and in others: they put
their working directory, which is this one, on PYTHONPATH.

Notes which tests hand a job to their executor, and if EC2_CONFORMANCE is `ec2` puts the executor
`ec2` in the place of theirs (`local` or `cluster-generic`) and notes how each job goes to its machine.
Nothing else of Snakemake is touched.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_REPLACED = ("local", "cluster-generic")


def _note(what: str) -> None:
    test = os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0].split("::", 1)[-1]
    with Path(os.environ["EC2_CONFORMANCE_NOTES"]).open("a") as notes:
        notes.write(f"{what} {test}\n")


def _is_local(workflow: Any, rule: Any) -> bool:
    """As `Workflow.is_local`, had the workflow an executor that is not local."""
    by_nature = rule.name in workflow._localrules or rule.norun or rule.is_template_engine
    return rule.group is None and by_nature


def _watch_scheduler(module: ModuleType) -> None:
    original = module.JobScheduler.run

    def run(self: Any, jobs: Any, executor: Any = None) -> None:
        workflow = self.workflow
        if workflow.is_main_process and not (workflow.dryrun or workflow.touch):
            rules = [inner.rule for job in jobs for inner in (job.jobs if job.is_group() else [job])]
            if any(not _is_local(workflow, rule) for rule in rules):
                _note("submits")
                for provider in workflow.storage_registry._storages.values():
                    _note(type(provider).__module__.removeprefix("snakemake_storage_plugin_"))
        original(self, jobs, executor)

    module.JobScheduler.run = run


def _watch_submission() -> None:
    # Not with `_Finder`: pytest imports this package itself, because it has fixtures.
    from snakemake_executor_ec2.controller.run import Run

    original = Run.submit
    if original.__module__ == __name__:
        return

    def submit(self: Run, plan: Any, *arguments: Any, **more: Any) -> Any:
        _note("runner" if plan.direct is None else "direct")
        return original(self, plan, *arguments, **more)

    Run.submit = submit  # type: ignore[method-assign]


def _watch_api(module: ModuleType) -> None:
    original = module.DAGApi.execute_workflow

    def execute_workflow(self: Any, executor: str = "local", *arguments: Any, **more: Any) -> Any:
        if executor == "cluster-generic":
            _note(executor)
        return original(self, executor, *arguments, **more)

    module.DAGApi.execute_workflow = execute_workflow


def _replace_executor(module: ModuleType) -> None:
    original = module.DAGApi.execute_workflow
    make_workflow = module.SnakemakeApi.workflow

    def workflow(self: Any, *arguments: Any, **settings: Any) -> Any:
        # On the command line the executor is chosen, and its settings made, before the parse.
        from snakemake_executor_ec2.plugin.settings import ExecutorSettings

        ExecutorSettings()
        return make_workflow(self, *arguments, **settings)

    module.SnakemakeApi.workflow = workflow

    def execute_workflow(
        self: Any, executor: str = "local", pseudo_executor: str | None = None, **settings: Any
    ) -> None:
        workflow = self.workflow_api
        main = workflow.workflow_settings.exec_mode == workflow.workflow_settings.exec_mode.DEFAULT
        if executor in _REPLACED and pseudo_executor is None and main:
            from snakemake_executor_ec2.plugin.settings import ExecutorSettings

            _watch_submission()
            executor = "ec2"
            settings["executor_settings"] = ExecutorSettings(direct=os.environ["EC2_CONFORMANCE_DIRECT"])
            if workflow.resource_settings.nodes is None:
                workflow.resource_settings.nodes = workflow.resource_settings.cores or 1
        original(self, executor=executor, pseudo_executor=pseudo_executor, **settings)

    module.DAGApi.execute_workflow = execute_workflow


_PATCHES = {"snakemake.scheduling.job_scheduler": _watch_scheduler, "snakemake.api": _watch_api}
if os.environ.get("EC2_CONFORMANCE") == "ec2":
    _PATCHES["snakemake.api"] = _replace_executor


class _Finder(MetaPathFinder):
    """Patches modules of Snakemake's right after they were imported, whoever imports them."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        patch = _PATCHES.get(name)
        spec = PathFinder.find_spec(name, path, target) if patch else None
        if spec is None or spec.loader is None or patch is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            patch(module)

        loader: Loader = spec.loader
        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if "EC2_CONFORMANCE" in os.environ:
    sys.meta_path.insert(0, _Finder())
