"""`snakemake-ec2 plan`: which machines a workflow would get, and what they would cost."""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_ec2.errors import ConfigurationError

if TYPE_CHECKING:
    from snakemake_executor_ec2.report.advice import Advice
    from snakemake_executor_ec2.report.forecast import Candidate, Forecast, Refused
    from snakemake_executor_ec2.report.past import Past

HELP = """\
usage: snakemake-ec2 plan [--json] [--learned] [any arguments of snakemake]

Shows, for the jobs that `snakemake --executor ec2` would run with these arguments, which machine each
rule gets and why, what that is estimated to cost, how long the run takes, whether the account's limits
are high enough, and which jobs could not run. Times that earlier runs in this folder took are used rather
than what is declared or assumed. Nothing is launched.

  --json      for programs
  --learned   also with the sizes that `snakemake-ec2 advise` would write
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
    own.add_argument("--learned", action="store_true")
    options, rest = own.parse_known_args(list(words))

    from snakemake_executor_ec2.plugin.dag import look_at_jobs

    found: list[_Plan] = []
    done = look_at_jobs(
        rest, lambda dag, settings: found.append(_plan(dag, settings, learned=options.learned))
    )
    if not done or not found:
        return 1
    print(found[0].as_json() if options.json else found[0].as_text())
    return 1 if found[0].declared.refused else 0


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is shown."""

    declared: Forecast
    learned: Forecast | None
    """With the sizes that are advised; None: not asked for, or there is nothing to learn from."""
    changed: int
    """Rules for which sizes are advised."""

    def as_json(self) -> str:
        facts = self.declared.as_json()
        if self.learned:
            facts["learned"] = self.learned.as_json()
        return json.dumps(facts, indent=2)

    def as_text(self) -> str:
        from snakemake_executor_ec2.report.forecast_text import beside, table

        text = table(self.declared)
        if self.learned and self.declared.rows:
            text += "\n" + beside(self.declared, self.learned, rules=self.changed)
        return text


def _plan(dag: Any, settings: Any, *, learned: bool) -> _Plan:
    """The forecast for a DAG of Snakemake's. Raises Ec2ExecutorError."""
    from snakemake_executor_ec2.cli.learned import folder_summary
    from snakemake_executor_ec2.controller import compose
    from snakemake_executor_ec2.plugin.rehearsal import rehearsing
    from snakemake_executor_ec2.plugin.run_config import run_config
    from snakemake_executor_ec2.plugin.software import software_for
    from snakemake_executor_ec2.report.advice import advice, by_rule
    from snakemake_executor_ec2.report.past import past
    from snakemake_executor_ec2.timing import SystemClock

    config, clock = run_config(settings), SystemClock()
    summary = folder_summary()
    with ExitStack() as stack:
        if settings.cloud == "local":
            stack.enter_context(rehearsing())
            _to_stderr("Asking the embedded cloud on your computer instead of AWS.")
        cloud = compose.cloud(config, "plan", clock, _to_stderr)
        cloud.check()
        software = software_for(dag.workflow, warn=lambda _: None)  # the run warns
        baked = compose.baked_choice(config, cloud.images, software, clock, _to_stderr)
        before_usd = _before_usd(config.budget_period)
        feasibility = compose.feasibility(config, cloud, clock, before_usd=before_usd, baked=baked)
        planner = _Planner(
            dag=dag,
            config=config,
            feasibility=feasibility,
            region=cloud.region,
            prices=(_rehearsal_prices(cloud.region),) if settings.cloud == "local" else (),
            past=past(summary.runs) if summary else {},
        )
        declared, after = planner.forecast({}), None
        sizes = by_rule(advice(summary.rules)) if learned and summary else {}
        changed = {
            rule for rule, its in sizes.items() if any(each.value is not None for each in its.values())
        }
        changed &= {row.rule for row in declared.rows}
        if changed:
            after = planner.forecast(sizes)
        elif learned and declared.rows:
            _to_stderr("No size is advised for these jobs: what has run here gives no reason to.")
    return _Plan(declared=declared, learned=after, changed=len(changed))


@dataclass(frozen=True, kw_only=True)
class _Planner:
    """Makes forecasts of the same jobs."""

    dag: Any
    config: Any
    feasibility: Any
    region: str
    prices: tuple[str, ...]
    """Where they are from, if EC2's answer would mislead."""
    past: Mapping[str, Past]

    def forecast(self, sizes: Mapping[str, Mapping[str, Advice]]) -> Forecast:
        """With the `sizes` that are advised by rule and resource; without any: as declared."""
        from snakemake_executor_ec2.plugin.job_graph import job_graph
        from snakemake_executor_ec2.report.forecast import Step, forecast, merged, with_past
        from snakemake_executor_ec2.sizing.quotas import quota_of

        graph = job_graph(self.dag)
        found, refused = _candidates(graph.submissions, self.config, self.feasibility, sizes)
        benchmarks = _rule_benchmarks(self.dag)
        jobs = [each and merged(with_past(each, self.past), benchmarks) for each in found]
        jobs += [None] * (len(graph.after) - len(jobs))
        used = {quota_of(job.offers[0].instance_type.name, job.offers[0].market) for job in jobs if job}
        plan = forecast(
            [Step(job=job, after=after) for job, after in zip(jobs, graph.after, strict=True)],
            region=self.region,
            refused=refused,
            quotas={quota.code: self.feasibility.quota_vcpus(quota) for quota in used if quota},
            jobs_at_a_time=self.dag.workflow.resource_settings.nodes,
            local_jobs=len(graph.after) - len(graph.submissions),
            reuse=self.config.reuse,
            idle_s=self.config.idle_s,
        )
        return replace(plan, prices=self.prices) if self.prices else plan


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


def _candidates(
    submissions: Sequence[Any],
    config: Any,
    feasibility: Any,
    sizes: Mapping[str, Mapping[str, Advice]],
) -> tuple[list[Candidate | None], list[Refused]]:
    """One for each, None for those that could not run."""
    from snakemake_executor_ec2.plugin.job_plan import label
    from snakemake_executor_ec2.report.forecast import Refused

    candidates: list[Candidate | None] = []
    refused: list[Refused] = []
    for job in submissions:
        try:
            candidates.append(_candidate(job, config, feasibility, sizes))
        except ConfigurationError as error:
            reason = error.message.removeprefix(f"{label(job)}: ")
            refused.append(Refused(label=label(job), reason=reason))
            candidates.append(None)
    return candidates, refused


def _candidate(
    job: Any, config: Any, feasibility: Any, sizes: Mapping[str, Mapping[str, Advice]]
) -> Candidate:
    """Raises ConfigurationError if no allowed machine has what the job needs."""
    from snakemake_executor_ec2.plugin.job_plan import rule_names
    from snakemake_executor_ec2.plugin.job_requirements import requirements_of
    from snakemake_executor_ec2.plugin.submission import own_command
    from snakemake_executor_ec2.report import forecast
    from snakemake_executor_ec2.report.advice import advised
    from snakemake_executor_ec2.sizing import disk
    from snakemake_executor_ec2.sizing.late import comes_late
    from snakemake_executor_ec2.sizing.select import select

    rule = "+".join(rule_names(job))
    needed = requirements_of(job, config, feasibility)
    seconds, source = _seconds(job, needed.runtime_min)
    if rule in sizes:
        needed = advised(needed, sizes[rule])
        feasibility.check(needed)
    direct = own_command(job)
    image = feasibility.image_for(needed)
    late = comes_late(direct, requirements=config.requirements, setup=config.setup)
    nothing = late or image.has_software
    every = select(feasibility.catalogue, needed)
    return forecast.Candidate(
        rule=rule,
        requirements=needed,
        offers=every,
        **vars(disk.volume(needed, image, every[0])),
        seconds=seconds,
        seconds_from=source,
        direct=direct is not None,
        overhead_s=forecast.OVERHEAD_WITHOUT_SOFTWARE_S if nothing else forecast.OVERHEAD_S,
        next_s=forecast.NEXT_WITHOUT_SOFTWARE_S if late else forecast.NEXT_S,
    )


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
