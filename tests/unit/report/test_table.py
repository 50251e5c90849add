"""Tables for people."""

from __future__ import annotations

from snakemake_executor_ec2.report.table import table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    """Names stand on the left, numbers on the right; a total comes below a rule; no line ends with blanks."""
    lines = table(
        ("job", "s", ""), [("a", "10", "lost"), ("bcde", "5", "")], total=("total", "15", ""), right={1}
    )
    assert lines == [
        "job     s",
        "a      10  lost",
        "bcde    5",
        "-----  --  ----",
        "total  15",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    """Nothing else is there to measure columns by."""
    assert table(("job", "cost"), []) == ["job  cost"]
