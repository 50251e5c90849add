"""The shapes in the report's page: numbers only, no text of others. Pure.

All charts are `WIDTH` units wide and stretched to the page by the browser.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from snakemake_executor_ec2.model import Phase
from snakemake_executor_ec2.report.summary import IDLE, PARTS, MachineRow, RunRow, Span

WIDTH = 1000.0
ROW = 10.0
"""The height of a machine's row in its own units."""
_BINS = 120
_SEEN = 0.8
"""Nothing that happened is narrower: about a pixel."""
_STEPS_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 3 * 3600, 6 * 3600, 12 * 3600,
    86_400, 2 * 86_400, 7 * 86_400,
)  # fmt: skip
_TICKS = 6
_FIRST = (Phase.RUN, Phase.STAGE_OUT, Phase.PREPARE, Phase.BOOT)
_LAST = (IDLE, Phase.LAUNCH)
STACKED: tuple[str, ...] = (*_FIRST, *(each for each in PARTS if each not in _FIRST + _LAST), *_LAST)
"""From the bottom: what machines are for, then what they cost beside that, then what is not billed."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A part's area: an SVG path."""

    part: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A machine among others in a lane, as a place to point at."""

    row: MachineRow
    x: float
    y: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The time that a run's charts show, and the marks on it."""

    began_at: float
    seconds: float

    @property
    def ticks(self) -> list[tuple[float, float]]:
        """Where (in per cent) and when (seconds since the beginning)."""
        step = next((each for each in _STEPS_S if self.seconds / each <= _TICKS), self.seconds / _TICKS)
        count = int(self.seconds / step)
        return [(round(100 * number * step / self.seconds, 2), number * step) for number in range(count + 1)]

    def x(self, at: float) -> float:
        return (at - self.began_at) / self.seconds * WIDTH


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """All machines of a run, one after the other where they do not overlap."""

    shapes: tuple[Shape, ...]
    bars: tuple[Bar, ...]
    height: float
    bar_height: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Activity:
    """How many machines were in which part, over a run's time."""

    shapes: tuple[Shape, ...]
    most: int
    """The height in machines."""


def axis(run: RunRow) -> Axis | None:
    """None if nothing of the run is known to have taken any time."""
    spans = [span for machine in run.machines for span in machine.spans]
    if not spans:
        return None
    began_at = min(span.began_at for span in spans)
    seconds = max(span.ended_at for span in spans) - began_at
    return Axis(began_at=began_at, seconds=seconds) if seconds > 0 else None


def stack(amounts: Mapping[str, float], whole: float) -> list[tuple[str, float, float]]:
    """Amounts side by side: part, x and width; `whole` is the full width."""
    found, x = [], 0.0
    for part in (each for each in PARTS if amounts.get(each, 0.0) > 0 and whole > 0):
        width = amounts[part] / whole * WIDTH
        found.append((part, round(x, 1), round(width, 1)))
        x += width
    return found


def row(machine: MachineRow, axis: Axis) -> list[Shape]:
    """A machine's parts in a row of its own."""
    return _shapes(((span, 0.0, ROW) for span in machine.spans), axis)


def lanes(run: RunRow, axis: Axis) -> Lanes:
    """Many machines: as many lanes as there were machines at a time."""
    placed: list[tuple[MachineRow, int]] = []
    free: list[tuple[float, int]] = []
    machines = [each for each in run.machines if each.spans]
    for each in sorted(machines, key=lambda one: one.spans[0].began_at):
        began_at, ended_at = each.spans[0].began_at, max(span.ended_at for span in each.spans)
        lane = heapq.heappop(free)[1] if free and free[0][0] <= began_at else len(free)
        heapq.heappush(free, (ended_at, lane))
        placed.append((each, lane))
    count = max((lane + 1 for _, lane in placed), default=0)
    pitch = 10.0 if count <= 60 else (5.0 if count <= 200 else 2.5)
    bar_height = pitch * 0.8
    boxes = [(span, lane * pitch, bar_height) for each, lane in placed for span in each.spans]
    return Lanes(
        shapes=tuple(_shapes(boxes, axis)),
        bars=tuple(_bar(each, lane * pitch, axis) for each, lane in placed),
        height=count * pitch,
        bar_height=bar_height,
        count=count,
    )


def activity(run: RunRow, axis: Axis) -> Activity:
    """Each step is the mean over a bin, so that areas are machine time."""
    width_s = axis.seconds / _BINS
    counts = {part: [0.0] * _BINS for part in STACKED}
    for span in (span for machine in run.machines for span in machine.spans):
        first = int((span.began_at - axis.began_at) / width_s)
        last = int((span.ended_at - axis.began_at) / width_s)
        for number in range(max(0, first), min(_BINS - 1, last) + 1):
            began_at = axis.began_at + number * width_s
            overlap = min(span.ended_at, began_at + width_s) - max(span.began_at, began_at)
            counts[span.part][number] += max(0.0, overlap) / width_s
    most = max(1.0, *(sum(each) for each in zip(*counts.values(), strict=True)))
    base, shapes = [0.0] * _BINS, []
    for part in STACKED:
        if any(counts[part]):
            top = [low + more for low, more in zip(base, counts[part], strict=True)]
            shapes.append(Shape(part=part, path=_area(base, top, most)))
            base = top
    return Activity(shapes=tuple(shapes), most=round(most))


def _shapes(boxes: Iterable[tuple[Span, float, float]], axis: Axis) -> list[Shape]:
    """One path for all boxes of a part. Later parts are drawn over earlier ones."""
    paths: dict[str, list[str]] = {}
    for span, y, height in boxes:
        x, width = axis.x(span.began_at), max(_SEEN, span.seconds / axis.seconds * WIDTH)
        box = f"M{_short(x)} {_short(y)}h{_short(width)}v{_short(height)}h-{_short(width)}z"
        paths.setdefault(span.part, []).append(box)
    return [Shape(part=part, path="".join(paths[part])) for part in PARTS if part in paths]


def _bar(machine: MachineRow, y: float, axis: Axis) -> Bar:
    x = axis.x(machine.spans[0].began_at)
    width = axis.x(max(span.ended_at for span in machine.spans)) - x
    return Bar(row=machine, x=round(x, 1), y=round(y, 1), width=round(max(_SEEN, width), 1))


def _area(base: Sequence[float], top: Sequence[float], most: float) -> str:
    """The area between two step functions; y counts downwards, 0 to 100."""
    step = WIDTH / len(base)

    def points(values: Sequence[float], numbers: Iterable[int], *, back: bool) -> list[str]:
        found = []
        for number in numbers:
            y = _short(100 - values[number] / most * 100)
            left, right = _short(number * step), _short((number + 1) * step)
            found += [f"{right} {y}", f"{left} {y}"] if back else [f"{left} {y}", f"{right} {y}"]
        return found

    numbers = range(len(base))
    path = points(top, numbers, back=False) + points(base, reversed(numbers), back=True)
    return f"M{'L'.join(path)}z"


def _short(value: float) -> str:
    """As few characters as a place needs."""
    return f"{value:.1f}".removesuffix(".0")
