"""What a plan says of time and money, with machines that are used again and without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snakemake_executor_ec2.formatting import span
from snakemake_executor_ec2.model import (
    Arch,
    InstanceType,
    JobResult,
    Market,
    Offer,
    Phase,
    Price,
    Requirements,
    Usage,
    WithDisk,
)
from snakemake_executor_ec2.records.rows import Attempt
from snakemake_executor_ec2.report.forecast import (
    Candidate,
    Forecast,
    Refused,
    Step,
    forecast,
    merged,
    with_past,
)
from snakemake_executor_ec2.report.forecast_text import beside, table
from snakemake_executor_ec2.report.past import Past, past
from snakemake_executor_ec2.report.summary import summarize
from snakemake_executor_ec2.sizing.cost import usd_per_hour
from snakemake_executor_ec2.sizing.reuse import Reuse
from tests.fakes.records import run_record
from tests.unit.report.made_up import BEGAN_AT, attempt, lives_of, machine

PRICE = Price(usd_per_hour=0.1, source="a list of 2026")
HOUR_USD = usd_per_hour(PRICE, WithDisk(disk_gib=20))


def offer(name: str = "m7i.large", price: Price | None = PRICE) -> Offer:
    kind = InstanceType(name=name, vcpus=2, mem_mib=8192, arches=frozenset({Arch.X86_64}))
    return Offer(instance_type=kind, market=Market.ON_DEMAND, zones=("us-east-1a",), price=price)


def job(rule: str = "a", seconds: float | None = 600.0, **more: Any) -> Candidate:
    facts = Candidate(
        rule=rule,
        requirements=Requirements(threads=1, mem_mb=1000, disk_mb=1000),
        offers=(offer(),),
        disk_gib=20,
        seconds=seconds,
        seconds_from="benchmark" if seconds else "",
    )
    return replace(facts, **more)


def plan_of(*steps: Step | Candidate, jobs: int | None = 2, **more: Any) -> Forecast:
    found = [each if isinstance(each, Step) else Step(job=each) for each in steps]
    return forecast(
        found, **{"region": "us-east-1", "quotas": {"L-1216C47A": 5.0}, "jobs_at_a_time": jobs, **more}
    )


def test_a_machine_for_all_jobs_of_a_rule_or_one_for_each() -> None:
    """With reuse, software is installed twice for ten jobs; each row's cost is what its machines cost."""
    plan = plan_of(*[job()] * 10)
    rule, never, run = plan.totals
    assert (rule.reuse, rule.machines, rule.wall_s) == (Reuse.RULE, 2, 690 + 4 * 615)
    assert (never.reuse, never.machines, never.wall_s) == (Reuse.NEVER, 10, 5 * 690)
    assert rule.usd == pytest.approx(2 * rule.wall_s / 3600 * HOUR_USD)
    assert never.usd == pytest.approx(10 * 690 / 3600 * HOUR_USD)
    assert (run.machines, run.usd) == (rule.machines, rule.usd)
    (row,) = plan.rows
    assert (row.machines, row.overhead_s) == (2, 2 * 90 + 8 * 15)
    assert row.cost_usd == plan.cost_usd == pytest.approx(rule.usd)
    assert plan_of(*[job()] * 10, reuse=Reuse.NEVER).cost_usd == pytest.approx(never.usd)


def test_a_chain_of_rules() -> None:
    """It takes its time however many machines there are; with `run`, one machine does all of it. A job on
    this computer, and one that could not run, keep their places in it."""
    steps = [Step(job=job("a")), Step(job=job("b"), after=(2,)), Step(job=None, after=(0,))]
    plan = plan_of(*steps, jobs=None)
    assert plan.longest_s == plan.totals[0].wall_s == 2 * 690
    run = next(each for each in plan.totals if each.reuse is Reuse.RUN)
    assert (run.machines, run.wall_s) == (1, 690 + 615)


def test_a_disk_that_is_fast_is_told_and_priced() -> None:
    """Of the rule's jobs the one with the fastest."""
    usual, fast = plan_of(job()), plan_of(job(), job(disk_mbps=500), jobs=1)
    assert "disk" not in usual.rows[0].reason
    assert fast.rows[0].reason.endswith(
        ", with a disk of 20 GiB, 500 MiB/s and 3000 IOPS for $0.0227 an hour"
    )
    alone = plan_of(job(disk_mbps=500)).cost_usd
    assert alone is not None
    assert usual.cost_usd is not None
    more_usd = 375 * 0.04 / 730
    assert alone / usual.cost_usd == pytest.approx(1 + more_usd / HOUR_USD)


def test_a_minute_is_billed_at_least() -> None:
    """For each machine, not for each job."""
    short = [job(seconds=2.0, overhead_s=10.0, next_s=1.0)] * 3
    plan = plan_of(*short, jobs=1)
    assert plan.cost_usd == pytest.approx(60 / 3600 * HOUR_USD)
    assert plan.totals[1].usd == pytest.approx(3 * 60 / 3600 * HOUR_USD)


@pytest.mark.parametrize(
    ("source", "total", "note"),
    [
        ("benchmark", "≥ $0.0", "Cost: at least $0.0"),
        ("runtime", "$0.0", "by the rules' limits, and 2 jobs without `runtime` (b)"),
    ],
)
def test_what_is_known_where_something_is_not(source: str, total: str, note: str) -> None:
    """Instead of a total of `?`: what is known, and of how many jobs it is not."""
    plan = plan_of(job(seconds_from=source), job("b", None), job("b", None))
    assert plan.cost_usd is None
    assert plan.unknown_jobs == 2
    assert plan.rows[1].cost_usd is None
    assert 600 / 3600 * HOUR_USD < plan.at_least_usd == pytest.approx(plan.totals[0].usd)
    text = table(plan)
    last = next(line for line in text.splitlines() if line.startswith("total"))
    assert total in last
    assert note in " ".join(text.split())


def test_limits_beside_estimates() -> None:
    """A total of both is no limit, and that is told."""
    limit = job("b", seconds_from="runtime")
    assert "Totals with ≤ count the expected time of all other rules." in " ".join(
        table(plan_of(job(), limit)).split()
    )
    assert "Totals with" not in table(plan_of(limit))


def test_no_price_is_no_cost() -> None:
    """`?` throughout, also in the table of ways to use machines."""
    plan = plan_of(job(offers=(offer(price=None),)))
    assert (plan.cost_usd, plan.totals[0].usd) == (None, None)
    text = table(plan)
    assert "$0" not in text
    assert text.splitlines()[3].split()[-1] == "?"


def test_nothing_to_be_done() -> None:
    """Is said, instead of an empty table."""
    assert table(plan_of()).splitlines()[0] == (
        "Nothing to be done: all that is asked for is there, and up to date."
    )
    assert table(plan_of(Step(job=None), local_jobs=1)).splitlines() == [
        "No job would get a machine.",
        "Jobs that run on this computer: 1.",
    ]
    refused = [Refused(label="rule x", reason="too large")]
    assert table(plan_of(Step(job=None), refused=refused)) == "CANNOT RUN  rule x: too large"


def test_it_fits_a_terminal() -> None:
    """100 columns, whatever rules are called, with many jobs and long times."""
    rules = [f"a_rule_that_has_a_long_name_{number}" for number in range(12)]
    jobs = [
        job(
            rule, 40_000.0, seconds_from="runtime", offers=(offer("u7i-12tb.224xlarge"), offer("m7i.2xlarge"))
        )
        for rule in rules
        for _ in range(300)
    ]
    plan = plan_of(*jobs, jobs=100)
    for text in (table(plan), beside(plan, plan, rules=3)):
        assert max(map(len, text.splitlines())) <= 100
        assert "e+" not in text
    assert "138 d 21 h" in table(plan)
    assert "L-1216C47A" not in table(plan)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (45, "45 s"), (89.6, "90 s"), (450, "7.5 min"), (600, "10 min"), (6600, "1 h 50 min"),
     (7200, "2 h"), (720_000, "8 d 8 h"), (864_000, "10 d"), (10**9, "11,574 d 2 h")],
)  # fmt: skip
def test_times_in_two_units(seconds: float, text: str) -> None:
    """However long they are."""
    assert span(seconds) == text


def test_both_sizes_side_by_side() -> None:
    """What is declared, and what is advised, with what would not run."""
    cheap = offer("c7a.medium", Price(usd_per_hour=0.05, source=""))
    declared, learned = plan_of(job()), plan_of(job(offers=(cheap,)))
    line = next(each for each in beside(declared, learned, rules=1).splitlines() if each.startswith("a "))
    assert line.split()[:4] == ["a", "1", "m7i.large", "0.1"]
    assert line.split()[5:7] == ["c7a.medium", "0.05"]


# --- what earlier runs tell ---------------------------------------------------------------


def done(number: int, run: str, run_s: float, boot_s: float, rule: str = "a", **more: Any) -> Attempt:
    result = JobResult(exit_code=0, seconds=run_s, usage=Usage(peak_mem_mib=10))
    seconds = {Phase.LAUNCH: 3.0, Phase.PREPARE: 10.0, Phase.RUN: run_s, Phase.STAGE_OUT: 2.0}
    if boot_s:
        seconds[Phase.BOOT] = boot_s
    at = BEGAN_AT + number * 1000
    return attempt(
        number,
        machine(number, at),
        run=run,
        rule=rule,
        began_at=at,
        ended_at=at + 900,
        seconds={str(phase): each for phase, each in seconds.items()},
        result=result,
        **more,
    )


def learned(attempts: list[Attempt], **endpoints: str) -> dict[str, Past]:
    runs = [run_record(name, endpoint=endpoint) for name, endpoint in endpoints.items()]
    until = BEGAN_AT + 10**6
    return past(summarize(runs, attempts, lives_of(attempts, until), alive=set(), now=until).runs)


def test_medians_by_rule() -> None:
    """Of jobs that succeeded: their work, and what a new machine took besides, and a used one."""
    jobs = [
        done(1, "r", 100, 30),
        done(2, "r", 300, 50),
        done(3, "r", 200, 0),
        done(4, "r", 9, 9, end_reason="failed"),
        done(5, "r", 9, 9, end_reason="lost"),
    ]
    found = learned(jobs, r="https://ec2.eu-west-1.amazonaws.com")
    assert found == {
        "a": Past(rule="a", jobs=3, run_s=200, rehearsed=False, first_s=(42 + 62) / 2, next_s=12)
    }


def test_a_rehearsal_tells_nothing_of_boots() -> None:
    """This computer starts no machine of EC2's; and where a rule ran on EC2, that alone counts."""
    jobs = [done(1, "here", 100, 1), done(2, "there", 50, 30), done(3, "here", 70, 1, rule="b")]
    found = learned(jobs, here="http://127.0.0.1:5000", there="")
    assert (found["a"].run_s, found["a"].rehearsed, found["a"].first_s) == (50, False, 42)
    assert (found["b"].run_s, found["b"].rehearsed, found["b"].first_s) == (70, True, None)


def test_earlier_runs_count_more_than_limits() -> None:
    """And less than a benchmark file, which is of the job itself. Both say where they are from."""
    known = {"a": Past(rule="a", jobs=3, run_s=77, rehearsed=False, first_s=40, next_s=None)}
    limited = with_past(job(seconds=3600, seconds_from="runtime"), known)
    assert (limited.seconds, limited.seconds_from, limited.overhead_s) == (77, "earlier runs", 40)
    assert limited.next_s == 15
    assert with_past(job(), known).seconds == 600
    assert with_past(job("b"), known) == job("b")
    assert merged(job(seconds=None), {"a": (5.0, "benchmark")}).seconds == 5
    text = " ".join(table(plan_of(limited, job("b"))).split())
    assert "the median of earlier runs here for boot, software and files (a); 90 s assumed" in text
    assert "Time of a job: the median of its earlier runs in this folder (a)." in text
    assert "assumed" not in table(plan_of(limited))
