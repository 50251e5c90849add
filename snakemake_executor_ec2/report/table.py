"""Tables for people: columns as wide as their widest cell."""

from __future__ import annotations

from collections.abc import Collection, Sequence

Cells = Sequence[str]


def table(
    header: Cells, rows: Sequence[Cells], *, total: Cells | None = None, right: Collection[int] = ()
) -> list[str]:
    """Lines of text; a `total` comes below a rule. `right` are the columns of numbers, from 0."""
    every = [header, *rows, *([total] if total else [])]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    lines = [_line(cells, widths, right) for cells in every]
    if total:
        lines.insert(-1, "  ".join("-" * width for width in widths).rstrip())
    return lines


def _line(cells: Cells, widths: Sequence[int], right: Collection[int]) -> str:
    aligned = [
        cell.rjust(width) if i in right else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()
