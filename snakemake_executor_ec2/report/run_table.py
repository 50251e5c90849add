"""What a run has cost: a table of estimates, labelled as such."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from snakemake_executor_ec2.formatting import usd
from snakemake_executor_ec2.model import Phase
from snakemake_executor_ec2.report.table import table as lines_of

if TYPE_CHECKING:
    from snakemake_executor_ec2.records.ledger import Entry


_PHASES = (Phase.LAUNCH, Phase.BOOT, Phase.PREPARE, Phase.RUN, Phase.STAGE_OUT, Phase.JOURNAL)


def table(entries: Sequence[Entry], now: float) -> str:
    """The run as a table for people: a row for each attempt, totals, where the prices are from.

    The cost of a row is its share of its machine's; in all, each machine counts once.
    """
    header = ("job", "machine", "zone", *_PHASES, "total s", "cost", "")
    rows = [_row(entry, now) for entry in entries if entry.machine is not None]
    machines = dict.fromkeys(entry.on for entry in entries if entry.machine is not None)
    costs = [each.cost_usd(now) for each in machines]
    known = [cost for cost in costs if cost is not None]
    total_s = sum(sum(entry.seconds.values()) for entry in entries)
    total = (
        "total",
        f"{len(machines)} machine" + "s" * (len(machines) != 1),
        "",
        *([""] * len(_PHASES)),
        f"{total_s:.1f}",
        usd(sum(known) if known else None),
        "",
    )
    lines = lines_of(header, rows, total=total, right=range(3, len(header) - 1))
    notes = ["Costs are estimates: machine, disk and address from launch to termination, without traffic."]
    if len(known) < len(costs):
        notes.append(f"No price is known for {len(costs) - len(known)} of the machines.")
    sources = sorted({e.machine.price.source for e in entries if e.machine and e.machine.price})
    if sources:
        notes.append(f"Prices: {'; '.join(sources)}.")
    return "\n".join([*lines, *notes])


def _row(entry: Entry, now: float) -> tuple[str, ...]:
    assert entry.machine is not None
    phases = [f"{entry.seconds[phase]:.1f}" if phase in entry.seconds else "" for phase in _PHASES]
    return (
        entry.label,
        entry.machine.instance_type,
        entry.machine.zone,
        *phases,
        f"{sum(entry.seconds.values()):.1f}",
        usd(entry.cost_usd(now)),
        "" if entry.end_reason == "done" else entry.end_reason,
    )
