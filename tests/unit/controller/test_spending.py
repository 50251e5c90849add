"""What earlier runs have cost: each machine once, whatever it was for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from snakemake_executor_ec2.controller.spending import FOLDER, before_usd
from snakemake_executor_ec2.model import Machine, Phase
from snakemake_executor_ec2.records.journal import Journal
from snakemake_executor_ec2.records.ledger import Entry, Ledger
from snakemake_executor_ec2.sizing.cost import cost_usd
from tests.fakes.clock import FakeClock
from tests.fakes.records import PLAN, run_record
from tests.unit.machines import launchers


class Earlier:
    """A run of this folder, with one machine for two jobs."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.journal = Journal(folder, now=self.clock.now, warn=pytest.fail)
        self.journal.begin_run(run_record("r1", lease_s=3600.0))
        seen = self.clock.now()
        os.utime(folder / ".snakemake/ec2/runs/r1.lock", (seen, seen))
        ledger = Ledger(self.clock, self.journal, "r1")
        world = launchers.World(clock=self.clock)
        self.machine: Machine = world.launch(PLAN.key)
        first = ledger.open(PLAN, "k")
        spec = world.cloud.launches[-1]
        ledger.intend(PLAN.key, spec)
        ledger.launched(spec.token, self.machine)
        first.on.machine = self.machine
        second = Entry(label="rule two", record=self.journal.begin(first.on.record, PLAN), on=first.on)
        self.ledger, self.first, self.second = ledger, first, second

    def usd(self, after_s: float) -> float | None:
        return cost_usd(self.machine, after_s)


@pytest.fixture
def earlier(tmp_path: Path) -> Iterator[Earlier]:
    made = Earlier(tmp_path)
    yield made
    made.journal.close()


def test_a_machine_counts_once(earlier: Earlier) -> None:
    """Two jobs on it: their shares are what it has cost, and the budget counts that once."""
    for entry in (earlier.first, earlier.second):
        with earlier.ledger.phase(entry, Phase.RUN):
            earlier.clock.sleep(900)
        earlier.ledger.close(entry)
    earlier.first.on.ended_at = earlier.clock.now()
    earlier.ledger.close(earlier.second)
    cost = pytest.approx(earlier.usd(earlier.clock.now() - earlier.machine.launched_at))
    assert before_usd(earlier.journal, FOLDER, earlier.clock.now() + 10_000) == {earlier.machine.id: cost}
    assert sum(each.usd or 0.0 for each in earlier.journal.attempts()) == cost
    assert earlier.journal.machines()[0].usd == cost


def test_a_machine_of_a_dead_run_counts_until_its_lease_ends(earlier: Earlier) -> None:
    """Nobody noted its end: while a job was at work there, it cost something."""
    later = earlier.clock.now() + 1800
    (usd,) = before_usd(earlier.journal, FOLDER, later).values()
    assert usd == pytest.approx(earlier.usd(later - earlier.machine.launched_at))
    (usd,) = before_usd(earlier.journal, FOLDER, later + 100_000).values()
    assert usd == pytest.approx(earlier.usd(3600.0), rel=0.01)


def test_a_machine_that_is_kept_counts_until_then(earlier: Earlier) -> None:
    """Its job has failed and nobody notes what it costs any more; then it ends itself."""
    entry = earlier.first
    with earlier.ledger.phase(entry, Phase.RUN):
        earlier.clock.sleep(100)
    earlier.journal.end(earlier.second.record, "failed")
    earlier.ledger.kept(entry.on, earlier.clock.now() + 900)
    entry.end_reason = "failed"
    earlier.ledger.close(entry)
    for after_s, counted_s in ((600, 600), (2000, 900)):
        (usd,) = before_usd(earlier.journal, FOLDER, earlier.clock.now() + after_s).values()
        lived_s = earlier.clock.now() - earlier.machine.launched_at + counted_s
        assert usd == pytest.approx(earlier.usd(lived_s))
