"""What rules are advised to ask for: never less than was used, in a form that Snakemake reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from snakemake_executor_ec2.model import Failure, JobResult, Requirements, Usage
from snakemake_executor_ec2.records.rows import Attempt
from snakemake_executor_ec2.report.advice import Advice, advice, advised, by_rule, profile, table
from snakemake_executor_ec2.report.summary import summarize
from tests.fakes.records import run_record
from tests.unit.report.made_up import BEGAN_AT, attempt, lives_of, machine

_MB = 2**20 / 10**6


def job(
    number: int = 1,
    *,
    run: int = 1,
    mib: int = 1000,
    minutes: float = 2.0,
    disk: int = 100,
    failure: Failure | None = None,
    rule: str = "a",
    label: str = "",
    **asked: Any,
) -> Attempt:
    """An attempt on a machine of its own."""
    wanted = Requirements(**{"threads": 1, "mem_mb": 10_000, "disk_mb": 1000, **asked})
    usage = Usage(peak_mem_mib=mib, cpu_seconds=1.0, peak_disk_mib=disk)
    result = JobResult(exit_code=1 if failure else 0, failure=failure, seconds=minutes * 60, usage=usage)
    at = BEGAN_AT + run * 10_000 + number * 10
    return attempt(
        run * 100 + number,
        machine(run * 100 + number, at),
        run=f"run-{run}",
        rule=rule,
        label=label or f"rule {rule} ({number})",
        began_at=at,
        ended_at=at + 5,
        asked=wanted,
        result=result,
        end_reason="failed" if failure else "done",
    )


def of(*jobs: Attempt) -> dict[str, dict[str, Advice]]:
    return by_rule(listed(jobs))


def listed(jobs: Sequence[Attempt]) -> list[Advice]:
    runs = [run_record(name) for name in sorted({each.on.run for each in jobs})]
    until = BEGAN_AT + 10**6
    return advice(summarize(runs, list(jobs), lives_of(list(jobs), until), alive=set(), now=until).rules)


FIVE = range(1, 6)


@pytest.mark.parametrize(
    ("jobs", "value", "why"),
    [
        ([job()], 2100, "at most 10% of it was used"),
        ([job(1), job(2)], 1600, "at most 10% of it"),
        ([job(n) for n in FIVE], 1400, "at most 10% of it"),
        ([job(n, mib=10) for n in FIVE], 500, "at most 0% of it"),
        ([job(n, mib=7000) for n in FIVE], None, "about right"),
        ([job(n, mib=10_000) for n in FIVE], 13_200, "used more than was asked for"),
        ([job(mib=0)], None, "too little to go on"),
        ([job(mib=50, failure=Failure.EXIT)], None, "too little to go on"),
        ([job(failure=Failure.OUT_OF_MEMORY)], 15_000, "1 ran out of memory"),
        (
            [job(mib=12_000, failure=Failure.OUT_OF_MEMORY)],
            18_900,
            "1 ran out of memory",
        ),
        (
            [job(1, mem_mb=4000, failure=Failure.OUT_OF_MEMORY), *(job(n, run=2) for n in FIVE)],
            6000,
            "at most 10% of it was used; 1 ran out of memory with less",
        ),
        ([job(n, mem_mb=n * 9000) for n in FIVE], None, "the rule computes it, 9,000 to 45,000"),
        # A failed job has used what it has used.
        ([*(job(n) for n in FIVE), job(6, mib=4000, failure=Failure.EXIT)], 5300, "at most 42% of it"),
        # What an earlier profile has set stays set: without its line, the rule's own would return.
        (
            [job(1), *(job(n, run=2, mem_mb=1400) for n in FIVE)],
            1400,
            "as in the last run: about right",
        ),
        ([job(1), job(1, run=2)], 1600, "at most 10% of it"),
    ],
)
def test_memory(jobs: list[Attempt], value: int | None, why: str) -> None:
    """The peak with a margin, the larger the fewer jobs there were; more where jobs ran out; as it is where
    that is about right, where the rule computes it, and where too little is known."""
    found = of(*jobs)["a"]["mem_mb"]
    assert found.value == value
    assert found.why.startswith(why)


def test_what_it_rests_on() -> None:
    """Jobs that succeeded, and their runs; what was asked for is that of the last run."""
    found = of(job(1), job(2), job(1, run=2, mem_mb=8000), job(2, run=2, failure=Failure.EXIT))["a"]["mem_mb"]
    assert (found.jobs, found.runs, found.asked) == (3, 2, (8000, 10_000))
    assert found.used == pytest.approx(1000 * _MB)


@pytest.mark.parametrize(
    ("jobs", "value"),
    [
        ([job(n, minutes=7) for n in FIVE], 20),
        ([job(minutes=7)], 30),
        ([job(n, minutes=7, runtime_min=20) for n in FIVE], None),
        ([job(n, minutes=7, runtime_min=200) for n in FIVE], 20),
        ([job(minutes=60, runtime_min=60, failure=Failure.RUNTIME)], 90),
    ],
)
def test_runtime(jobs: list[Attempt], value: int | None) -> None:
    """It ends jobs, so its margin is larger; a rule without one gets one."""
    assert of(*jobs)["a"]["runtime"].value == value


def test_less_disk_is_only_proposed() -> None:
    """What inputs take was not measured. A disk that was full is another matter."""
    less = listed([job(n, disk_mb=90_000, disk=1000) for n in FIVE])
    assert by_rule(less)["a"]["disk_mb"].value is None
    assert "    # disk_mb: perhaps 2000 and the size of its inputs" in profile(less).splitlines()
    assert of(job(disk_mb=20_000, failure=Failure.DISK_FULL))["a"]["disk_mb"].value == 30_000
    assert of(job(disk_mb=9000))["a"]["disk_mb"].why == "about right"


def test_a_rule_that_asks_for_more_at_each_attempt_still_does() -> None:
    """Its first attempt is what is compared."""
    tries = [job(1, label="rule a"), replace(job(2, label="rule a", mem_mb=20_000), id=999)]
    found = of(*tries)["a"]["mem_mb"]
    assert (found.asked, found.expression) == ((10_000, 10_000), '"1600 * attempt"')


def test_groups_are_left_to_their_rules() -> None:
    """Snakemake computes what a group asks for, so no profile can say it."""
    assert [each.value for each in listed([job(rule="a+b")])] == [None] * 3


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 3),
            st.integers(0, 30_000),
            st.integers(500, 40_000),
            st.sampled_from([None, *Failure]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_never_less_than_was_used(drawn: list[tuple[int, int, int, Failure | None]]) -> None:
    """Of any jobs, by brute force; and jobs that ran out of memory get more than they had."""
    jobs = [
        job(number, run=run, mib=mib, mem_mb=asked, failure=failure)
        for number, (run, mib, asked, failure) in enumerate(drawn, 1)
    ]
    value = of(*jobs)["a"]["mem_mb"].value
    if value is not None:
        assert all(value >= mib * _MB for _, mib, _, _ in drawn)
        short = [asked for _, _, asked, failure in drawn if failure is Failure.OUT_OF_MEMORY]
        assert all(value > asked for asked in short)


def test_a_profile_is_yaml_that_says_what_it_rests_on() -> None:
    """Whatever rules are called; rules without advice are not in it; without any, there is none."""
    names = ("on", "null", "1", "two words", 'quo"te', "line\nfeed", "plain")
    jobs = [job(n, rule=name, runtime_min=10) for n, name in enumerate(names, 1)]
    found = listed([*jobs, job(8, rule="enough", mib=7000, minutes=0.1, runtime_min=5)])
    text = profile(found, notes=["1 of 1 runs were rehearsals"])
    assert yaml.safe_load(text) == {"set-resources": {name: {"mem_mb": 2100} for name in names}}
    assert "# 1 of 1 runs were rehearsals" in text.splitlines()
    assert "    mem_mb: 2100  # at most 10% of it was used; 1 job of 1 run" in text.splitlines()
    assert profile(listed([job(mib=7000, minutes=0.1, runtime_min=5)])) == ""


def test_the_table_fits_a_terminal() -> None:
    """Also with long names and reasons; each resource has asked, used and advised."""
    text = table(listed([job(rule="a_rule_with_a_rather_long_name_and_more"), job(2, mem_mb=9000)]))
    assert max(map(len, text.splitlines())) <= 100
    words = next(line for line in text.splitlines() if line.startswith("a ") and "mem_mb" in line).split()
    assert words[:7] == ["a", "mem_mb", "9000", "1049", "2100", "1", "1"]


def test_what_is_advised_is_what_a_job_asks_for() -> None:
    """With the profile; what is not advised stays."""
    wanted = Requirements(threads=4, mem_mb=10_000, disk_mb=5000, gpus=1)
    sized = advised(wanted, of(job(minutes=2))["a"])
    assert sized == replace(wanted, mem_mb=2100, runtime_min=10)
