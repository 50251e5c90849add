"""Shapes: to scale, and each machine is drawn once."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from snakemake_executor_ec2.model import Phase
from snakemake_executor_ec2.report import charts
from snakemake_executor_ec2.report.summary import RunRow
from tests.fakes.records import run_record
from tests.unit.report.made_up import BEGAN_AT, attempt, machine, many, summary

_BOX = re.compile(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)h-\3z")


def run_of(*numbers: tuple[float, float]) -> RunRow:
    """A run whose machines begin and end at these seconds, and run all the time."""
    attempts = [
        attempt(
            number,
            machine(number, BEGAN_AT + first),
            began_at=BEGAN_AT + first,
            ended_at=BEGAN_AT + last,
            seconds={"run": last - first},
        )
        for number, (first, last) in enumerate(numbers)
    ]
    return summary(run_record("run-1", began_at=BEGAN_AT), attempts).runs[0]


def drawn(run: RunRow) -> charts.Axis:
    axis = charts.axis(run)
    assert axis is not None
    return axis


def test_bars_are_to_scale() -> None:
    """Parts side by side, in their order, as wide as their share."""
    assert charts.stack({"idle": 1.0, "boot": 1.0, "run": 2.0, "journal": 0.0}, 8.0) == [
        ("boot", 0.0, 125.0),
        ("run", 125.0, 250.0),
        ("idle", 375.0, 125.0),
    ]
    assert charts.stack({}, 0.0) == []


def test_a_row_is_to_scale() -> None:
    """From the run's beginning to its end."""
    run = run_of((0, 100), (50, 200))
    axis = drawn(run)
    assert (axis.began_at, axis.seconds) == (BEGAN_AT, 200)
    assert [each.path for each in charts.row(run.machines[1], axis)] == ["M250 0h750v10h-750z"]


def test_lanes_are_as_many_as_machines_at_a_time() -> None:
    """Machines that follow each other share one; no two of them overlap, and none is missing."""
    run = run_of((0, 10), (5, 15), (10, 30), (15, 20), (16, 18))
    assert charts.lanes(run, drawn(run)).count == 3
    run = summary(*many(200, at_a_time=30)).runs[0]
    lanes = charts.lanes(run, drawn(run))
    assert lanes.count == 30
    assert len(lanes.bars) == run.total.machine_count
    at = sorted((bar.y, bar.x, bar.width) for bar in lanes.bars)
    for (y, x, width), (next_y, next_x, _) in pairwise(at):
        assert next_y > y or next_x >= x + width - 1
    boxes = [box for shape in lanes.shapes for box in _BOX.findall(shape.path)]
    assert len(boxes) == sum(len(each.spans) for each in run.machines)


def test_activity_is_machine_time() -> None:
    """Its areas are the seconds of each part."""
    run = summary(*many(150, at_a_time=20)).runs[0]
    axis = drawn(run)
    activity = charts.activity(run, axis)
    assert activity.most == 20
    ran = next(each for each in activity.shapes if each.part == Phase.RUN)
    points = [tuple(map(float, each.split())) for each in ran.path.strip("Mz").split("L")]
    area = sum(x * y2 - x2 * y for (x, y), (x2, y2) in zip(points, points[1:] + points[:1], strict=True)) / 2
    seconds = abs(area) / 100_000 * 20 * axis.seconds
    assert seconds == pytest.approx(sum(job.seconds["run"] for job in run.total.jobs), rel=0.02)


def test_marks_are_round_times() -> None:
    """At most seven, from zero on."""
    assert drawn(run_of((0, 3000))).ticks == [
        (0.0, 0),
        (20.0, 600),
        (40.0, 1200),
        (60.0, 1800),
        (80.0, 2400),
        (100.0, 3000),
    ]
    for seconds in (0.5, 7, 59, 61, 3599, 86_400 * 3, 86_400 * 300):
        assert 2 <= len(drawn(run_of((0, seconds))).ticks) <= 8 or seconds < 1


def test_nothing_is_drawn_of_nothing() -> None:
    """A run that never got a machine has no time to show."""
    refused = summary(run_record("run-1", began_at=BEGAN_AT), [attempt(1, None)], until=BEGAN_AT)
    assert charts.axis(refused.runs[0]) is None
