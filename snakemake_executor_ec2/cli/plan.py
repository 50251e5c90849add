"""`snakemake-ec2 plan`: which machines a workflow would get, and what they would cost."""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake_executor_ec2.errors import ConfigurationError, Ec2ExecutorError

HELP = """\
usage: snakemake-ec2 plan [--json] [any arguments of snakemake]

Shows, for the jobs that `snakemake --executor ec2` would run with these arguments, which machine each
rule gets and why, what that is estimated to cost, whether the account's limits are high enough, and
which jobs could not run. Nothing is launched.

  --json      for programs
  -s, -d, -j, --configfile, --config, --profile, --ec2-*, targets …   as for snakemake

examples:
  snakemake-ec2 plan -j 20
  snakemake-ec2 plan --ec2-cloud local -s workflow/Snakefile     without an AWS account
"""


def main(words: Sequence[str]) -> int:
    """Returns the exit status: 1 if a job could not run or the workflow has an error."""
    if "-h" in words or "--help" in words:
        print(HELP)
        return 0
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--json", action="store_true")
    options, rest = own.parse_known_args(list(words))

    from snakemake_executor_ec2.plugin.dag import look_at_jobs
    from snakemake_executor_ec2.report.forecast import Forecast, table

    found: list[Forecast] = []
    try:
        done = look_at_jobs(rest, lambda dag, settings: found.append(_forecast(dag, settings)))
    except Ec2ExecutorError as error:
        print(error, file=sys.stderr)
        return 1
    if not done or not found:
        return 1
    print(json.dumps(found[0].as_json(), indent=2) if options.json else table(found[0]))
    return 1 if found[0].refused else 0


def _forecast(dag: Any, settings: Any) -> Any:
    """The forecast for a DAG of Snakemake's. Raises Ec2ExecutorError."""
    from snakemake_executor_ec2.controller import compose
    from snakemake_executor_ec2.plugin.rehearsal import rehearsing
    from snakemake_executor_ec2.plugin.run_config import run_config
    from snakemake_executor_ec2.report.forecast import forecast, merged
    from snakemake_executor_ec2.sizing.quotas import quota_of
    from snakemake_executor_ec2.timing import SystemClock

    config, clock = run_config(settings), SystemClock()
    with ExitStack() as stack:
        if settings.cloud == "local":
            stack.enter_context(rehearsing())
            _to_stderr("The embedded cloud answers, not AWS.")
        cloud = compose.cloud(config, "plan", clock, _to_stderr)
        cloud.check()
        feasibility = compose.feasibility(config, cloud, clock, before_usd=_before_usd(config.budget_period))
        submissions, local_jobs = _submissions(dag)
        candidates, refused = _candidates(submissions, config, feasibility)
        used = {quota_of(job.offers[0].instance_type.name, job.offers[0].market) for job in candidates}
        plan = forecast(
            merged(candidates, _rule_benchmarks(dag)),
            region=cloud.region,
            refused=refused,
            quotas={quota.code: feasibility.quota_vcpus(quota) for quota in used if quota},
            jobs_at_a_time=dag.workflow.resource_settings.nodes,
            local_jobs=local_jobs,
        )
    if settings.cloud == "local":
        return replace(plan, prices=(_rehearsal_prices(cloud.region),))
    return plan


def _before_usd(period: str) -> dict[str, float]:
    """How much of the budget earlier runs in this folder have spent."""
    from snakemake_executor_ec2.controller.spending import before_usd
    from snakemake_executor_ec2.records.journal import FOLDER, Journal

    if period == "run" or not (FOLDER / "journal.sqlite").exists():
        return {}
    journal = Journal(Path.cwd(), now=time.time, warn=_to_stderr)
    try:
        return before_usd(journal, period, time.time())
    finally:
        journal.close()


def _rehearsal_prices(region: str) -> str:
    from snakemake_executor_ec2.aws import snapshot

    known = snapshot.read()
    if region not in known.usd_per_hour:
        return "made up by the embedded cloud, not AWS's"
    return f"AWS's of {known.prices_taken} on demand, made up on spot"


def _submissions(dag: Any) -> tuple[list[Any], int]:
    """Jobs and group jobs that would be sent to machines, in the DAG's order; and how many would not."""
    found: dict[int, Any] = {}
    local = 0
    for job in dag.needrun_jobs():
        group = dag.get_job_group(job)
        if group is None and job.is_local:
            local += 1
            continue
        found.setdefault(id(group or job), group or job)
    return sorted(found.values(), key=_order), local


def _order(job: Any) -> tuple[int, str]:
    from snakemake_executor_ec2.plugin.job_plan import label, rule_names

    return (0, "+".join(rule_names(job)) + label(job))


def _candidates(submissions: Sequence[Any], config: Any, feasibility: Any) -> tuple[list[Any], list[Any]]:
    from snakemake_executor_ec2.model import comes_late
    from snakemake_executor_ec2.plugin.job_plan import label, rule_names
    from snakemake_executor_ec2.plugin.job_requirements import requirements_of
    from snakemake_executor_ec2.plugin.submission import own_command
    from snakemake_executor_ec2.report.forecast import (
        OVERHEAD_S,
        OVERHEAD_WITHOUT_SOFTWARE_S,
        Candidate,
        Refused,
    )
    from snakemake_executor_ec2.sizing import disk
    from snakemake_executor_ec2.sizing.select import select

    candidates, refused = [], []
    for job in submissions:
        try:
            needed = requirements_of(job, config, feasibility)
        except ConfigurationError as error:
            reason = error.message.removeprefix(f"{label(job)}: ")
            refused.append(Refused(label=label(job), reason=reason))
            continue
        seconds, source = _seconds(job, needed.runtime_min)
        direct = own_command(job)
        late = comes_late(direct, requirements=config.requirements, setup=config.setup)
        candidates.append(
            Candidate(
                rule="+".join(rule_names(job)),
                requirements=needed,
                offers=select(feasibility.catalogue, needed),
                disk_gib=disk.disk_gib(needed, feasibility.image_for(needed)),
                seconds=seconds,
                seconds_from=source,
                direct=direct is not None,
                overhead_s=OVERHEAD_WITHOUT_SOFTWARE_S if late else OVERHEAD_S,
            )
        )
    return candidates, refused


def _seconds(job: Any, runtime_min: int | None) -> tuple[float | None, str]:
    """How long a job is expected to run: as it did before, else its limit."""
    from snakemake_executor_ec2.plugin.job_plan import inner_jobs

    measured = [_benchmark(each) for each in inner_jobs(job)]
    known = [each for each in measured if each is not None]
    if known and len(known) == len(measured):
        return sum(known), "benchmark"
    if runtime_min is not None:
        return runtime_min * 60.0, "runtime"
    return None, ""


def _rule_benchmarks(dag: Any) -> dict[str, tuple[float, str]]:
    """The mean of what a rule's other jobs took, for those that never ran."""
    found: dict[str, list[float]] = defaultdict(list)
    for job in dag.jobs:
        seconds = _benchmark(job)
        if seconds is not None:
            found[job.rule.name].append(seconds)
    return {rule: (statistics.mean(each), "benchmark") for rule, each in found.items()}


def _benchmark(job: Any) -> float | None:
    """Mean seconds of a job's benchmark file of an earlier run; None if there is none."""
    if not job.benchmark:
        return None
    try:
        with Path(str(job.benchmark)).open(newline="") as file:
            seconds = [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
    except (OSError, KeyError, ValueError, TypeError):
        return None
    return statistics.mean(seconds) if seconds else None


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
