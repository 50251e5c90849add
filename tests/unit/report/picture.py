"""The picture of a report that README shows, drawn from a made-up run as the page itself draws it.

python -m tests.unit.report.picture        writes docs/report.svg
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from snakemake_executor_ec2.formatting import duration, usd
from snakemake_executor_ec2.model import Market
from snakemake_executor_ec2.report import charts
from snakemake_executor_ec2.report.summary import PARTS, MachineRow
from tests.unit.report import made_up

PATH = Path(__file__).parents[3] / "docs/report.svg"
_COLOURS = {
    "boot": "#e69f00",
    "prepare": "#009e73",
    "run": "#0072b2",
    "stage out": "#56b4e9",
    "idle": "#d55e00",
}
"""Those of the page; other parts are too short to be seen here."""
_WIDTH, _TOP, _ROW, _LEFT = 900, 62, 20, 300


def picture() -> str:
    """The machines of a run of 24 jobs over time."""
    run = made_up.summary(*made_up.many(24, 6, seed=9))
    shown = run.runs[-1]
    axis = charts.axis(shown)
    assert axis is not None
    height = _TOP + _ROW * len(shown.machines) + 26
    total = run.total
    head = (
        f"{total.job_count} jobs on {total.machine_count} machines in {duration(round(axis.seconds))}, "
        f"{usd(total.usd)}; spot saved {usd(run.saved_usd)}"
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        "<title>The machines of a made-up run over time, from snakemake-ec2 report</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="24" font-size="16" fill="#1c2126">{escape(head)}</text>',
        *_legend(),
    ]
    for number, machine in enumerate(shown.machines):
        lines += _row(machine, axis, _TOP + number * _ROW)
    lines += _marks(axis, height)
    return "\n".join([*lines, "</svg>", ""])


def _legend() -> list[str]:
    found, x = [], 12
    for part in (each for each in PARTS if each in _COLOURS):
        found.append(f'<rect x="{x}" y="36" width="11" height="11" fill="{_COLOURS[part]}"/>')
        found.append(f'<text x="{x + 16}" y="46" fill="#57606a">{part}</text>')
        x += 90
    return found


def _row(machine: MachineRow, axis: charts.Axis, y: int) -> list[str]:
    first, *others = machine.jobs
    more = f" and {len(others)} more" if others else ""
    market = ", spot" if machine.machine and machine.machine.market is Market.SPOT else ""
    label = f"{first.rule}{more}{market}"
    scale = (_WIDTH - _LEFT - 12) / charts.WIDTH
    lines = [
        f'<text x="12" y="{y + 13}" fill="#1c2126">{escape(label)}</text>',
        f'<text x="{_LEFT - 12}" y="{y + 13}" text-anchor="end" fill="#57606a">{usd(machine.usd)}</text>',
        f'<g transform="translate({_LEFT} {y + 2}) scale({scale:.4f} 1.5)">',
    ]
    lines += [
        f'<path fill="{_COLOURS[shape.part]}" d="{shape.path}"/>'
        for shape in charts.row(machine, axis)
        if shape.part in _COLOURS
    ]
    return [*lines, "</g>"]


def _marks(axis: charts.Axis, height: int) -> list[str]:
    return [
        f'<text x="{_LEFT + percent / 100 * (_WIDTH - _LEFT - 12):.0f}" y="{height - 8}" fill="#57606a">'
        f"{duration(round(seconds))}</text>"
        for percent, seconds in axis.ticks
        if percent < 92
    ]


if __name__ == "__main__":
    PATH.write_text(picture())
    print(f"wrote {PATH}")
