"""Values travel as JSON and come back as they were, or are told apart from others."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_ec2.runner import values

_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.dates(),
    st.datetimes(),
    st.decimals(allow_nan=False),
    st.just(Path("/data/x.fa")),
)
_KEYS = st.one_of(st.text(), st.integers(), st.tuples(st.text(), st.integers()))
PLAIN = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(_KEYS, inner),
        st.frozensets(st.text()),
        st.sets(st.integers()),
    ),
    max_leaves=12,
)


def _travelled(value: Any) -> Any:
    return json.loads(json.dumps(values.encode(value)))


@given(PLAIN)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    """Types, names, order and every character survive the way."""
    encoded = _travelled(value)
    assert values.is_plain(encoded)
    back = values.decode(encoded)
    assert back == value
    assert values.same(values.encode(back), encoded)


@given(PLAIN, PLAIN)
def test_different_values_are_told_apart(one: Any, other: Any) -> None:
    """Two encodings are the same for equal values of the same types only."""
    if values.same(values.encode(one), values.encode(other)):
        assert one == other
        assert type(one) is type(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [(True, 1), (1, 1.0), ("1", 1), ([], ()), ({}, []), (b"a", "a"), (None, "None"), (0.0, -0.0)],
)
def test_values_that_python_takes_for_equal_are_not_the_same(one: Any, other: Any) -> None:
    """`True` is not `1`: a command that is formatted from it is another one."""
    assert not values.same(_travelled(one), _travelled(other))


@given(st.lists(st.text(), unique=True, min_size=1))
def test_a_set_keeps_the_order_in_which_it_was_walked_through(items: list[str]) -> None:
    """However the other computer's hashes fall, and is a set like any other."""
    there = values.decode({"t": "set", "v": items})
    assert list(there) == items
    assert [*there] == list(iter(there)) == items
    assert there == set(items)
    assert isinstance(there, set)
    assert "\n".join(there) == "\n".join(items)
    there.add("one more than before")
    there.discard(items[0])
    assert set(there) == ({*items, "one more than before"} - {items[0]}) | (
        {items[0]} & {"one more than before"} if items[0] != "one more than before" else set()
    )


def test_an_order_that_nobody_chose_is_told_as_such() -> None:
    """Sets and lists of plain items, also within other values: Python or the file system chose it."""
    assert values.only_order_differs({"t": "set", "v": [1, 2]}, {"t": "set", "v": [2, 1]})
    assert values.only_order_differs([{"t": "set", "v": [1, 2]}], [{"t": "set", "v": [2, 1]}])
    assert values.only_order_differs(["b", "a"], ["a", "b"])
    names = [{"t": "dict", "v": [["names", order]]} for order in (["b", "a"], ["a", "b"])]
    assert values.only_order_differs(*names)
    assert not values.only_order_differs(["a", "b"], ["a", "b", "b"])
    assert not values.only_order_differs({"t": "tuple", "v": [1, 2]}, {"t": "tuple", "v": [2, 1]})
    assert not values.only_order_differs({"t": "dict", "v": [["a", "b"]]}, {"t": "dict", "v": [["b", "a"]]})
    assert not values.only_order_differs({"t": "set", "v": [1, 2]}, {"t": "set", "v": [1, 3]})


def test_what_has_no_plain_form_is_compared_by_type_and_content() -> None:
    """Objects, arrays and tables; of what shows nothing but its address, the type alone."""

    class Shown:
        def __init__(self, text: str) -> None:
            self.text = text

        def __repr__(self) -> str:
            return f"Shown({self.text})"

    assert values.same(values.encode(Shown("a")), values.encode(Shown("a")))
    assert not values.same(values.encode(Shown("a")), values.encode(Shown("b")))
    assert values.same(values.encode(object()), values.encode(object()))
    assert values.same(values.encode(lambda: 1), values.encode(lambda: 2))
    assert not values.is_plain(values.encode([Shown("a")]))
    with pytest.raises(ValueError, match="cannot be made again"):
        values.decode(values.encode(Shown("a")))


def test_values_that_cannot_be_looked_at_do_not_break_anything() -> None:
    """A value that holds itself, one whose repr raises, and one nested without end."""

    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    endless: list[Any] = []
    endless.append(endless)
    deep: Any = "x"
    for _ in range(1000):
        deep = [deep]
    for value in (Bad(), endless, deep):
        assert not values.is_plain(_travelled(value))
        assert values.tell(_travelled(value))


def test_what_the_controller_left_open_is_known_as_such() -> None:
    """Snakemake's `<TBD>`, also within other values, is neither compared nor sent back."""
    tbd = type("TBDString", (str,), {})("<TBD>")
    assert values.is_undecided(_travelled(tbd))
    assert values.is_undecided(_travelled({"a": [1, (tbd,)]}))
    assert not values.is_undecided(_travelled("<TBD>"))
    assert not values.is_plain(_travelled([tbd]))


def test_large_values_that_are_only_compared_travel_as_a_digest() -> None:
    """And are told by their beginning and their size."""
    one, other = list(range(100_000)), [*range(99_999), 7]
    encoded = values.compact(values.encode(one))
    assert len(json.dumps(encoded)) < 1000
    assert not values.same(encoded, values.compact(values.encode(other)))
    assert "100000 items" in values.tell(encoded)


@given(PLAIN)
def test_each_value_is_told_in_a_few_words(value: Any) -> None:
    """Short, whatever it is: it stands in a sentence."""
    assert len(values.tell(_travelled(value))) < 200


def test_dates_and_decimals_are_kept() -> None:
    """Also with a time zone, and in Python's own types."""
    when = datetime.datetime(2026, 11, 26, 12, 0, tzinfo=datetime.UTC)
    assert values.decode(_travelled(when)) == when
    assert values.decode(_travelled(decimal.Decimal("1.10"))).as_tuple() == decimal.Decimal("1.10").as_tuple()


def test_where_objects_are_in_memory_is_no_difference() -> None:
    """Two processes never agree on that; on all else of a text they must."""
    here, there = (
        f"echo <function output at {place}> {{input}}" for place in ("0x7f4cc7f35800", "0x7F20b9940")
    )
    assert values.same_text(here, there)
    assert values.same_text(None, None)
    assert not values.same_text(here, there + " ")
    assert not values.same_text(here, None)
    assert not values.same_text("dd skip=0x10", "dd skip=0x20")
