"""What a folder's journal tells of how long jobs take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from snakemake_executor_ec2.model import Phase
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.report.past import add_paces
from snakemake_executor_ec2.sizing.ahead import Paces
from tests.fakes.records import PLAN, begin, run_record

AWS, REHEARSAL, ANOTHER = "https://ec2.us-east-1.amazonaws.com", "http://127.0.0.1:5000", "http://[::1]:6000"


def test_paces(tmp_path: Path) -> None:
    """Of jobs that were done on the same EC2, on new machines and on others, or in rehearsals for one."""
    journal = Journal(tmp_path, now=lambda: 0.0, warn=lambda _: None)
    new = {Phase.LAUNCH: 600.0, Phase.BOOT: 20.0, Phase.PREPARE: 30.0, Phase.RUN: 7.0, Phase.STAGE_OUT: 2.0}
    again = {Phase.LAUNCH: 1.0, Phase.PREPARE: 3.0, Phase.RUN: 9.0, Phase.CLEAN: 1.0, Phase.TERMINATE: 1.0}
    for run, endpoint in {"real": AWS, "rehearsal": REHEARSAL}.items():
        journal.begin_run(run_record(run, endpoint=endpoint))
        for seconds, end_reason in [(new, "done"), (again, "done"), (again, "failed"), (new, "not used")]:
            longer = {phase: 10 * value for phase, value in seconds.items()}
            attempt = begin(journal, run, replace(PLAN, key=f"{run}{end_reason}{len(seconds)}"))
            journal.note(attempt, seconds=seconds if run == "real" else longer)
            journal.end(attempt, end_reason)
    assert journal.is_written()

    def found(endpoint: str) -> Paces:
        paces = Paces()
        add_paces(paces, journal.runs(closed=True), journal.attempts(), endpoint)
        return paces

    pace = found(AWS).of(PLAN.rule)
    # A launch of ten minutes waited for something that the next one need not wait for.
    assert (pace.boot_s, pace.prepare_s, pace.next_s, pace.run_s, pace.fetch_s) == (25, 30, 3, 8, 2)
    assert found(REHEARSAL).of(PLAN.rule) == found(ANOTHER).of(PLAN.rule)
    assert found(ANOTHER).of(PLAN.rule).prepare_s == 300
    assert found("https://ec2.eu-central-1.amazonaws.com").of(PLAN.rule).run_s is None
    journal.close()
