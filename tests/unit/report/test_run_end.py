"""What a run has come to, on one screen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snakemake_executor_ec2.formatting import usd
from snakemake_executor_ec2.model import (
    Failure,
    JobResult,
    Machine,
    Market,
    Phase,
    Price,
    Requirements,
    Usage,
)
from snakemake_executor_ec2.records.ledger import Entry, MachineEntry
from snakemake_executor_ec2.report.run_end import RunFacts, run_end
from snakemake_executor_ec2.sizing.cost import cost_usd

MACHINE = Machine(
    id="i-1",
    instance_type="m7i.large",
    zone="us-east-1b",
    market=Market.ON_DEMAND,
    price=Price(usd_per_hour=0.1008, source="Pricing API, 2026-11-22"),
    disk_gib=73,
    launched_at=1000.0,
)


RUN = RunFacts(id="20261127-110158-c96c96", seconds=5000.0, rehearsal=False)


def entry(
    machine: Machine | None = MACHINE,
    seconds: dict[Phase, float] | None = None,
    end_reason: str = "done",
    *,
    rule: str = "a",
    label: str = "",
    error: str = "",
    result: JobResult | None = None,
    mem_mb: int = 1000,
) -> Entry:
    """One that was launched at 1000 s and ended at 4600 s."""
    on = MachineEntry(record=1, machine=machine, ended_at=4600.0)
    return Entry(
        label=label or f"rule {rule}",
        record=1,
        on=on,
        seconds=seconds or {Phase.RUN: 7.0},
        end_reason=end_reason,
        error=error,
        rule=rule,
        asked=Requirements(threads=1, mem_mb=mem_mb, disk_mb=1000),
        result=result,
    )


def told(*entries: Entry, run: RunFacts = RUN) -> list[str]:
    """The lines, which fit a terminal of 100 columns, but for a command that is longer by itself."""
    lines = run_end(entries, 5000.0, run)
    for line in lines:
        assert line == line.rstrip()
        assert len(line) <= 100 or line.startswith("    snakemake-ec2 "), line
    return lines


def test_what_to_do_about_a_failure_is_at_the_end_too() -> None:
    """Below the failure: the line that said it first may be hundreds of lines above."""
    failed = entry(end_reason="failed", result=JobResult(exit_code=2, evidence="exit code 2"))
    failed.hint = "data/x.txt exists on your computer but was not sent: add it to the input of a."
    lines = told(failed, entry(rule="b"))
    at = lines.index("Failed: rule a: exit code 2")
    assert lines[at + 1] == f"    {failed.hint}"


def test_an_hour_costs_machine_disk_and_address() -> None:
    """73 GiB for an hour are 0.8 cents: a tenth of what 730 GB hours of gp3 cost in a month."""
    assert cost_usd(MACHINE, 3600) == pytest.approx(0.1008 + 0.005 + 0.008)


def test_the_first_minute_is_billed_in_full() -> None:
    """EC2 bills a machine of five seconds as one of sixty."""
    assert cost_usd(MACHINE, 5) == cost_usd(MACHINE, 60)


def test_without_a_machine_there_is_nothing_to_tell() -> None:
    """Neither for a run without jobs, nor for one that was refused every machine."""
    assert told() == []
    assert told(entry(None, end_reason="failed", error="EC2 had no capacity")) == []


def test_what_is_not_known_is_not_nothing() -> None:
    """Without any price the total is unknown; with some it is theirs, and the rest is told."""
    free = replace(MACHINE, price=None)
    assert any(line.startswith("Estimated cost: ?, ") for line in told(entry(free)))
    text = "\n".join(told(entry(free), entry(label="rule a (n=2)")))
    assert f"Estimated cost: {usd(cost_usd(MACHINE, 3600))}, " in text
    assert "No price is known for 1 of the machines." in text
    assert "$0.0000" not in text


def test_each_rule_is_a_row_the_dearest_first() -> None:
    """How often, on what, how long it ran, how long its machines lived for it, and what that cost."""
    large = replace(MACHINE, instance_type="m7i.xlarge", price=Price(usd_per_hour=0.2, source="x"))
    lines = told(
        entry(),
        *(entry(large, {Phase.RUN: 60.0 * n}, rule="b", label=f"rule b (n={n})") for n in (1, 2, 6)),
    )
    assert lines[0] == "EC2: 4 jobs on 4 machines in 83 min"
    assert lines[1].split("  ")[0] == "rule"
    assert lines[2].split() == ["b", "3", "3", "m7i.xlarge", "2", "min", "6", "min", "3", "h", "$0.6390"]
    assert lines[3].split()[:4] == ["a", "1", "1", "m7i.large"]
    assert lines[5].split()[:5] == ["total", "4", "4", "of", "2"]
    assert lines[-1] == "Timeline, sizes, each job: snakemake-ec2 report 20261127-110158-c96c96"


def test_forty_rules_with_long_names_and_many_failures_fit_a_screen() -> None:
    """The most expensive rules, the others together, and no line that a terminal would break."""
    many = [
        entry(
            replace(MACHINE, launched_at=1000.0 + n),
            rule=f"a_rule_with_a_name_that_nobody_would_want_to_type_{n}",
            end_reason="failed" if n % 2 else "done",
            error=f"the disk of this machine is {'very ' * n}full" if n % 2 else "",
            mem_mb=64_000,
            result=JobResult(exit_code=n % 2, usage=Usage(peak_mem_mib=10)),
        )
        for n in range(40)
    ]
    lines = told(*many, run=replace(RUN, rehearsal=True, folder="/home/me/a workflow"))
    assert len(lines) <= 42
    assert lines[0].endswith(": 20 done, 20 failed")
    assert lines[14].split()[:4] == ["28", "others", "28", "28"]
    assert "15 more jobs, for 15 other reasons" in "\n".join(lines)
    assert lines[-1].endswith("-d '/home/me/a workflow'")


def test_the_same_failure_of_many_jobs_is_told_once() -> None:
    """With their number and what the first one says; a job that succeeded in the end has not failed."""
    failed = JobResult(exit_code=1, failure=Failure.EXIT)
    jobs = [entry(end_reason="failed", label=f"rule a (n={n})", result=failed) for n in range(300)]
    again = [entry(end_reason="lost", label="rule b", error="gone"), entry(rule="b", label="rule b")]
    lines = told(*jobs, *again)
    assert lines[0].endswith(": 1 done, 300 failed")
    assert [line for line in lines if line.startswith("Failed: ")] == [
        "Failed: 300 jobs of rule a: exit code 1"
    ]
    assert "What the first printed: snakemake-ec2 logs 'rule a (n=0)'" in lines


def test_machines_that_stay_are_told_with_what_shows_them() -> None:
    """They are billed after the run; those that have ended are not."""
    stays = entry(end_reason="left")
    stays.on.kept_reason, stays.on.ended_at = "works on", None
    lines = told(stays, entry(label="rule a (2)"))
    assert "1 machine stays on EC2 and is billed (i-1); until when: snakemake-ec2 ps" in lines
    assert lines[0].endswith(": 1 done, 1 still on their machines")


def test_a_rehearsal_speaks_of_what_would_be() -> None:
    """Nothing was billed, and the table does not say otherwise."""
    text = "\n".join(told(entry(), run=replace(RUN, rehearsal=True)))
    assert "would cost" in text.splitlines()[1]
    assert "it would have cost an estimated $0.1138" in text.replace("\n", " ")
    assert "Estimated cost" not in text


def test_sizes_that_are_far_off_get_a_word() -> None:
    """Jobs that use a small part of what they ask for, and those that ran out of it; not small ones."""
    used = JobResult(exit_code=0, usage=Usage(peak_mem_mib=290))
    short = JobResult(exit_code=137, failure=Failure.OUT_OF_MEMORY, usage=Usage(peak_mem_mib=900))
    (line,) = [line for line in told(entry(result=used, mem_mb=4000)) if "advise" in line]
    assert line == ("Rule a asked for 4,000 MB of memory and used 304; better sizes: snakemake-ec2 advise")
    (line,) = [line for line in told(entry(result=short, end_reason="failed")) if "advise" in line]
    assert line == "Sizes that are large enough for a: snakemake-ec2 advise"
    assert not [line for line in told(entry(result=used, mem_mb=1000)) if "advise" in line]


def test_a_machine_of_two_jobs_is_paid_once() -> None:
    """Each row has its share: its own seconds, and half of the rest. Together they are the machine's."""
    on = MachineEntry(record=1, machine=MACHINE, ended_at=4600.0)
    first, second = (
        Entry(label=name, rule=name, record=number, on=on, seconds={Phase.BOOT: 20.0, Phase.RUN: seconds})
        for number, (name, seconds) in enumerate([("rule a", 600.0), ("rule b", 1200.0)])
    )
    cost = cost_usd(MACHINE, 3600)
    assert cost is not None
    assert first.cost_usd(5000.0) == pytest.approx(cost * (600 + 900) / 3600)
    assert second.cost_usd(5000.0) == pytest.approx(cost * (1200 + 900) / 3600)
    table = told(first, second)
    assert table[5].split()[:3] == ["total", "2", "1"]
    assert table[5].split()[-1] == usd(cost)
