"""The same for programs: JSON and CSV say what the page says, and what is not known is empty."""

from __future__ import annotations

import csv
import io
import json

import pytest

from snakemake_executor_ec2.model import JobResult, Usage
from snakemake_executor_ec2.report import export
from tests.fakes.records import run_record
from tests.unit.report.made_up import BEGAN_AT, attempt, machine, many, summary


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_json_and_csv_have_the_same_sums() -> None:
    """Total, runs, rules, machines, jobs, and both kinds of CSV."""
    found = summary(*many(60, at_a_time=8))
    facts = json.loads(json.dumps(export.report_json(found)))
    total = pytest.approx(found.total.usd, abs=1e-4)
    assert facts["total"]["usd"] == total
    for name in ("runs", "rules", "machines", "jobs"):
        assert sum(each["usd"] for each in facts[name]) == total
    assert sum(facts["total"]["usd_by_part"].values()) == total
    jobs, costs = rows(export.jobs_csv(found)), rows(export.costs_csv(found))
    assert sum(float(each["usd"]) for each in jobs) == total
    assert sum(float(each["usd"]) for each in costs) == total
    assert len(jobs) == len(facts["jobs"]) == 60
    assert [each["rule"] for each in costs] == [each["rule"] for each in facts["rules"]]
    assert facts["spot"]["machines"] == len(found.spot)
    assert sum(each["count"] for each in facts["failures"]) == 60 - found.total.states["done"]


def test_a_line_of_a_job() -> None:
    """What it asked for and used, each phase, its machine, its end."""
    used = JobResult(
        exit_code=0, seconds=60.0, usage=Usage(peak_mem_mib=85, cpu_seconds=30.5, peak_disk_mib=7)
    )
    seconds = {"launch": 1.5, "boot": 20.0, "run": 60.0, "stage out": 2.25}
    of = machine(1, BEGAN_AT + 1.5)
    one = attempt(1, of, seconds=seconds, ended_at=BEGAN_AT + 100, result=used)
    (line,) = rows(export.jobs_csv(summary(run_record("run-1"), [one])))
    assert line["usd"] == f"{(0.1008 + 0.005 + 20 * 0.08 / 730) * 98.5 / 3600:.6f}".rstrip("0")
    del line["usd"]
    expected = {
        "run": "run-1", "rule": "a", "job": "rule a (1)", "key": "run-1.1.1", "state": "done", "reason": "",
        "machine": of.id, "machine_type": "m7i.large", "began_at": "2026-11-18T11:06:40.000+00:00",
        "launch_s": "1.5", "boot_s": "20.0", "prepare_s": "0.0", "run_s": "60.0", "stage_out_s": "2.25",
        "journal_s": "0.0", "terminate_s": "0.0", "billed_s": "98.5", "threads": "1", "mem_mb": "1000",
        "disk_mb": "1000", "exit_code": "0", "cpu_s": "30.5", "peak_mem_mib": "85", "peak_disk_mib": "7",
    }  # fmt: skip
    assert expected.items() <= line.items()


def test_what_is_not_known_is_empty() -> None:
    """Neither a price nor a result: null in JSON, nothing in CSV, a question mark for people."""
    one = attempt(1, machine(1, BEGAN_AT, price=None), seconds={"run": 60.0}, ended_at=BEGAN_AT + 60)
    found = summary(run_record("run-1"), [one])
    (line,) = rows(export.jobs_csv(found))
    assert (line["usd"], line["peak_mem_mib"], line["exit_code"]) == ("", "", "")
    assert export.report_json(found)["total"]["usd"] is None
    text = export.costs_text(found)
    assert " ?" in text
    assert "No price is known for 1 of the machines." in text


def test_no_cell_is_a_formula() -> None:
    """A spreadsheet would compute what a rule, a label or a machine's error begins with."""
    hostile = '=HYPERLINK("http://x","y")'
    one = attempt(1, rule=hostile, label="@SUM(A1)", end_reason="failed", error="-1+1|'calc'!A0")
    found = summary(run_record("run-1"), [one], until=BEGAN_AT)
    (line,) = rows(export.jobs_csv(found))
    assert [line[name] for name in ("rule", "job", "reason")] == [
        f"'{hostile}",
        "'@SUM(A1)",
        "'-1+1|'calc'!A0",
    ]
    assert rows(export.costs_csv(found))[0]["rule"] == f"'{hostile}"


def test_a_table_for_a_terminal() -> None:
    """A line for each run, one for each rule, within 100 columns."""
    text = export.costs_text(summary(*many(60, at_a_time=8)))
    lines = text.splitlines()
    assert lines[0].split() == ["run", "jobs", "machines", "machine", "time", "cost"]
    assert lines[1].split()[:3] == ["run-1", "ended", "60"]
    assert lines[3].startswith("total")
    assert {line.split()[0] for line in lines[6:10]} == {"align", "call_variants", "merge", "trim"}
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("endpoint", "rehearsal"),
    [
        ("http://127.0.0.1:4567", True),
        ("http://localhost:1/", True),
        ("http://[::1]:80", True),
        ("https://ec2.eu-central-1.amazonaws.com", False),
        ("", False),
    ],
)
def test_a_rehearsal_is_told_as_such(endpoint: str, *, rehearsal: bool) -> None:
    """Its costs are not spent."""
    found = summary(run_record("run-1", endpoint=endpoint), [attempt(1)], until=BEGAN_AT)
    assert ("on EC2 they would have cost this" in export.costs_text(found)) == rehearsal
