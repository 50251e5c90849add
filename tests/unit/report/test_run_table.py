"""What a run did cost, as it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snakemake_executor_ec2.formatting import usd
from snakemake_executor_ec2.model import Machine, Market, Phase, Price
from snakemake_executor_ec2.records.ledger import Entry, MachineEntry
from snakemake_executor_ec2.report.run_table import table
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


def entry(machine: Machine, seconds: dict[Phase, float] | None = None, end_reason: str = "done") -> Entry:
    """One that was launched at 1000 s and ended at 4600 s."""
    on = MachineEntry(record=1, machine=machine, ended_at=4600.0)
    return Entry(label="rule a", record=1, on=on, seconds=seconds or {}, end_reason=end_reason)


def test_an_hour_costs_machine_disk_and_address() -> None:
    """73 GiB for an hour are 0.8 cents: a tenth of what 730 GB hours of gp3 cost in a month."""
    assert cost_usd(MACHINE, 3600) == pytest.approx(0.1008 + 0.005 + 0.008)


def test_the_first_minute_is_billed_in_full() -> None:
    """EC2 bills a machine of five seconds as one of sixty."""
    assert cost_usd(MACHINE, 5) == cost_usd(MACHINE, 60)


def test_what_is_not_known_is_not_nothing() -> None:
    """Without any price the total is unknown; with some it is theirs, and the rest is told."""
    free = replace(MACHINE, price=None)
    none_known = table([entry(free)], now=5000.0)
    some_known = table([entry(free), entry(MACHINE)], now=5000.0)

    assert none_known.splitlines()[3].split() == ["total", "1", "machine", "0.0", "?"]
    assert "$0.0000" not in none_known
    assert some_known.splitlines()[4].split()[-1] == usd(cost_usd(MACHINE, 3600))
    assert "No price is known for 1 of the machines." in some_known


def test_a_row_has_each_phase_and_what_went_wrong() -> None:
    """Phases that a job never reached are blank; an ending that is not the good one is named."""
    row = table(
        [entry(MACHINE, seconds={Phase.LAUNCH: 0.4, Phase.BOOT: 20.0}, end_reason="lost")], now=5000.0
    )

    assert row.splitlines()[1].split()[:2] == ["rule", "a"]
    assert row.splitlines()[1].split()[3:] == ["us-east-1b", "0.4", "20.0", "20.4", "$0.1138", "lost"]
    assert all(line == line.rstrip() for line in row.splitlines())


def test_a_machine_of_two_jobs_is_paid_once() -> None:
    """Each row has its share: its own seconds, and half of the rest. Together they are the machine's."""
    on = MachineEntry(record=1, machine=MACHINE, ended_at=4600.0)
    first, second = (
        Entry(label=name, record=number, on=on, seconds={Phase.BOOT: 20.0, Phase.RUN: seconds})
        for number, (name, seconds) in enumerate([("rule a", 600.0), ("rule b", 1200.0)])
    )
    cost = cost_usd(MACHINE, 3600)
    assert cost is not None
    assert first.cost_usd(5000.0) == pytest.approx(cost * (600 + 900) / 3600)
    assert second.cost_usd(5000.0) == pytest.approx(cost * (1200 + 900) / 3600)
    told = table([first, second], now=5000.0).splitlines()
    assert told[4].split()[:3] == ["total", "1", "machine"]
    assert told[4].split()[-1] == usd(cost)
