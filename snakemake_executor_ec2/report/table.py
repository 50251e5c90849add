"""Tables for people: columns as wide as their widest cell."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence

Cells = Sequence[str]
WIDTH = 100
"""Columns of a terminal that texts fit into."""
_LEAST = 16
"""Columns that such a cell has at least, however wide the others are."""


def table(
    header: Cells,
    rows: Sequence[Cells],
    *,
    total: Cells | None = None,
    right: Collection[int] = (),
    wrap: int | None = None,
    fit: int | None = None,
) -> list[str]:
    """Lines of text; a `total` comes below a rule. `right` are the columns of numbers, from 0. To keep to a
    width, the last column is wrapped (`wrap`), or names in the first are cut (`fit`)."""
    if wrap is not None:
        columns = list(zip(header, *rows, strict=True))[:-1]
        rows = [line for row in rows for line in _wrapped(row, _left(columns, wrap))]
    if fit is not None:
        columns = list(zip(header, *rows, *([total] if total else []), strict=True))[1:]
        rows = [(cut(row[0], _left(columns, fit)), *row[1:]) for row in rows]
    every = [header, *rows, *([total] if total else [])]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    lines = [_line(cells, widths, right) for cells in every]
    if total:
        lines.insert(-1, "  ".join("-" * width for width in widths).rstrip())
    return lines


def paragraph(text: str, *, indent: str = "") -> list[str]:
    """A text in lines of `WIDTH`, those after the first indented. No word is broken."""
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def cut(text: str, most: int) -> str:
    """A name with its middle left out if it is longer."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[len(text) - (most - most // 2 - 1) :]}"


def _left(columns: Iterable[Cells], width: int) -> int:
    """What they leave of it for one more."""
    return max(_LEAST, width - sum(max(map(len, column)) + 2 for column in columns))


def _wrapped(row: Cells, width: int) -> Iterable[Cells]:
    first, *more = textwrap.wrap(row[-1], width, break_long_words=False, break_on_hyphens=False) or [""]
    yield (*row[:-1], first)
    yield from ((*[""] * (len(row) - 1), each) for each in more)


def _line(cells: Cells, widths: Sequence[int], right: Collection[int]) -> str:
    aligned = [
        cell.rjust(width) if i in right else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()
