"""What machines see of this computer: the workflow's sources, and by name what is beside them."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from logging import Logger
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.errors import ConfigurationError, SnakefileUnreadable
from snakemake_executor_ec2.model import JobPlan
from snakemake_executor_ec2.plugin import environment, parse_reads, preflight
from snakemake_executor_ec2.plugin.data_folders import data_folders
from snakemake_executor_ec2.plugin.decision import uncompared
from snakemake_executor_ec2.plugin.job_plan import (
    inner_jobs,
    left_out,
    unevaluated_resources,
    workflow_data,
    workflow_folders,
    workflow_sources,
)
from snakemake_executor_ec2.plugin.settings import listed
from snakemake_executor_ec2.staging import describe
from snakemake_executor_ec2.staging.sources import Sources, gather, may_travel
from snakemake_executor_ec2.staging.view import View, Viewer

_SEED = {"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "random").replace("random", "0")}
"""One for all machines of a run, so that sets have the same order on all of them; this computer's, if set."""

_MOST_UNSEEN = 20
"""So often the Snakefile is read again with a file more: it takes a second each time."""


class Surroundings:
    """What is around the jobs of one run on this computer; settled when the first one is planned."""

    def __init__(
        self, workflow: Any, *, read_by_parse: Collection[Path], fetched: Path | None, logger: Logger
    ) -> None:
        """`fetched` is a folder with what Snakemake has got from elsewhere for this run."""
        self._workflow = workflow
        self._logger = logger
        self._told_of: set[Path] = set()
        self._folders = workflow_folders(workflow)
        cache = Path(workflow.sourcecache.runtime_cache_path)
        self._source_cache = (cache,) if parse_reads.uses("source_path") else ()
        inputs, outputs = workflow_data(workflow.dag)
        self.sources = self._gather(read_by_parse, fetched, inputs, outputs)
        seen = [Path.cwd(), *self._folders]
        seen += data_folders(workflow, seen, inputs)
        self._viewer = Viewer(seen, looked_into=parse_reads.listed)
        self._told_of_limit = False
        self._told_of_secrets: set[str] = set()
        self._told_of_doubts: set[str] = set()

    def of(self, job: Any, plan: JobPlan) -> JobPlan:
        """The plan of a job with what its machine sees: files by name, and variables of the environment."""
        given = self._variables(job, declared=plan.env)
        if plan.direct is not None:
            # The Snakefile does not run there: what it would have set is set for it.
            given = {name: os.environ.get(name) for name in (*given, *environment.written())}
        env = {name: value for name, value in given.items() if value is not None}
        unset = tuple(name for name, value in given.items() if value is None)
        folders = (*plan.folders, *self._source_cache)
        env = {**env, **_SEED, **plan.env}
        return replace(plan, env=env, unset=unset, folders=folders, view=self._view())

    def _variables(self, job: Any, declared: Collection[str]) -> dict[str, str | None]:
        """What Snakefiles have read of the environment, or may when the job's code is run."""
        found = dict(environment.read())
        for rule in (each.rule for each in inner_jobs(job)):
            if rule.is_run:
                found |= environment.named_in(rule.run_func)
            for text in unevaluated_resources(rule):
                found |= environment.named_by_text(text)
        found = {name: value for name, value in found.items() if not environment.is_the_machines(name)}
        secret = {name for name in found if environment.may_be_secret(name)}
        for name in sorted(secret.difference(declared, self._told_of_secrets)):
            self._told_of_secrets.add(name)
            if found[name] is not None:
                self._logger.warning(describe.secret(name))
        return {name: value for name, value in found.items() if name not in secret}

    def check(self, document: Mapping[str, Any], *, declared: Mapping[str, str]) -> None:
        """Have jobs resolved once more from what travels. Raises ConfigurationError with what differs."""
        inputs = [Path.cwd() / file["path"] for job in document["jobs"] for file in job["input"]["files"]]
        given = {
            name: value
            for name, value in environment.read().items()
            if not environment.is_the_machines(name) and not environment.may_be_secret(name)
        }
        for again in reversed(range(_MOST_UNSEEN)):
            try:
                checked = preflight.check(
                    document,
                    view=self._view(),
                    sent=[*self.sources.files, *inputs],
                    env={**{n: v for n, v in given.items() if v is not None}, **_SEED, **declared},
                    unset=[name for name, value in given.items() if value is None],
                    programs=parse_reads.programs(),
                )
                break
            except SnakefileUnreadable as error:
                if not again or not self._send_too(error.files):
                    raise
        if not checked:
            self._logger.debug("No preflight here: machines compare what was decided, after their launch.")

    def _send_too(self, files: Collection[Path]) -> bool:
        """Have files travel with every job that Snakefiles read unseen; whether there are any that may."""
        found = may_travel(self.sources, files)
        if found:
            self.sources = replace(self.sources, reasons={**self.sources.reasons, **found})
            self._logger.info(describe.read_unseen(sorted(found), Path.cwd()))
        return bool(found)

    def _view(self) -> View:
        """What machines see of the files that are not sent, as they are now."""
        view = self._viewer.look()
        if view.closed and not self._told_of_limit:
            looked_into = sorted(set(view.closed) & set(map(str, parse_reads.listed())))
            if looked_into:
                raise ConfigurationError(describe.listed_beyond_limit(looked_into))
            self._told_of_limit = True
            self._logger.warning(describe.beyond_limit(view.closed))
        return view

    def tell(self, job: Any, plan: JobPlan) -> None:
        """Say what travels with a job, if that was asked for, and what is too large to."""
        for path in set(left_out(job)) - self._told_of - set(plan.sources) - set(plan.inputs):
            self._told_of.add(path)
            self._logger.warning(describe.too_large(path))
        if self._workflow.executor_settings.show_staging:
            self._logger.info(describe.of_job(plan, self.sources))
        doubtful = uncompared(plan.decision) if plan.decision and plan.direct is None else {}
        for name, rule in doubtful.items():
            if name not in self._told_of_doubts:
                self._told_of_doubts.add(name)
                self._logger.warning(describe.uncompared(name, rule))

    def _gather(
        self,
        read_by_parse: Collection[Path],
        fetched: Path | None,
        inputs: frozenset[Path],
        outputs: frozenset[Path],
    ) -> Sources:
        settings = self._workflow.executor_settings
        named = [*workflow_sources(self._workflow), *(fetched.rglob("*") if fetched else ())]
        found = gather(
            Path.cwd(),
            beside=self._folders,
            named=[path for path in named if fetched not in path.parents or path.is_file()],
            read_by_parse=read_by_parse,
            inputs=inputs,
            outputs=outputs,
            include=listed(settings.include),
            exclude=listed(settings.exclude),
        )
        self._told_of.update(found.too_large)
        for sentence in describe.warnings(found, Path.cwd()):
            self._logger.warning(sentence)
        if settings.show_staging:
            self._logger.info(describe.of_sources(found, Path.cwd()))
        return found
