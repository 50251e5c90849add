"""What is written about a machine with many jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_ec2.model import Machine, Market, Phase, Price
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.ledger import Ledger
from tests.fakes.clock import FakeClock
from tests.fakes.records import PLAN, run_record

JOBS = 200


class Counted(Journal):
    """A journal that counts the notes on attempts."""

    notes = 0

    def note(self, attempt: int, **facts: Any) -> None:
        self.notes += 1
        super().note(attempt, **facts)


def test_a_machine_with_many_jobs(tmp_path: Path) -> None:
    """Each job costs as many notes as the others, however many there were before; in the end their shares
    are what the machine has cost."""
    clock = FakeClock()
    journal = Counted(tmp_path, now=clock.now, warn=pytest.fail)
    journal.begin_run(run_record("run-1"))
    ledger = Ledger(clock, journal, "run-1")
    first = ledger.open(PLAN, "ssh-ed25519 A")
    on = first.on
    on.machine = Machine(
        id="i-1", instance_type="m7i.large", zone="a", market=Market.ON_DEMAND,
        price=Price(usd_per_hour=0.1, source="made up"), disk_gib=8, launched_at=clock.now(),
    )  # fmt: skip
    counts = []
    for number in range(JOBS):
        entry = first
        if number:
            entry = ledger.open(replace(PLAN, key=str(number)), "ssh-ed25519 A")
            ledger.move(entry, on)
        before = journal.notes
        for phase in (Phase.PREPARE, Phase.RUN, Phase.STAGE_OUT):
            with ledger.phase(entry, phase):
                clock.advance(1 + number % 7)
        entry.end_reason = "done"
        ledger.close(entry)
        counts.append(journal.notes - before)
    assert len({*counts}) == 1
    clock.advance(60)
    ledger.ended(on)
    usd = [each.usd or 0.0 for each in journal.attempts()]
    (machine,) = [each for each in journal.machines() if each.id == on.record]
    assert len(usd) == JOBS
    assert sum(usd) == pytest.approx(machine.usd)
    assert min(usd) > 0
    journal.close()
