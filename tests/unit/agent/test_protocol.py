"""What a machine prints is understood, or left out; it never breaks the controller."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_ec2.agent.protocol import (
    Finished,
    Interrupted,
    Output,
    Position,
    Pulse,
    Sampled,
    SpotNotice,
    Started,
    Unwatched,
    parse_line,
)
from snakemake_executor_ec2.model import Failure

_FINISHED = {
    "t": 5.5, "type": "finished", "exit_code": -9, "seconds": 1.5, "peak_mem_mib": 7, "cpu_seconds": 0.5,
    "peak_disk_mib": 3, "failure": "out of memory", "evidence": "because",
}  # fmt: skip
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def _parse(at: Any = (10, 20), **said: Any) -> Any:
    line = parse_line(json.dumps({"at": at, **said}).encode())
    return line.event if line else None


def test_every_kind_of_line() -> None:
    """Each has a type of its own."""
    assert _parse(event={"t": 1, "type": "started", "pid": 4}) == Started(t=1.0, pid=4)
    sample = {"t": 1, "type": "sample", "mem_mib": 2, "cpu_seconds": 3, "disk_mib": 4}
    assert _parse(event=sample) == Sampled(t=1.0, mem_mib=2, cpu_seconds=3.0, disk_mib=4)
    notice = {"t": 1, "type": "spot_notice", "action": "stop", "time": "then"}
    assert _parse(event=notice) == SpotNotice(t=1.0, action="stop", at="then")
    assert _parse(event={"t": 1, "type": "interrupted", "reason": "r"}) == Interrupted(t=1.0, reason="r")
    assert _parse(pulse=True) == Pulse()
    assert _parse(lost="gone") == Unwatched(reason="gone")
    finished = _parse(event=_FINISHED)
    assert isinstance(finished, Finished)
    assert finished.result.exit_code == -9
    assert finished.result.failure is Failure.OUT_OF_MEMORY
    assert (finished.result.usage.peak_mem_mib, finished.result.usage.peak_disk_mib) == (7, 3)


def test_a_line_tells_where_to_go_on() -> None:
    """In bytes of events and of output."""
    line = parse_line(b'{"at": [10, 20], "pulse": true}')
    assert line is not None
    assert line.at == Position(events=10, output=20)


@given(data=st.binary())
def test_output_is_any_bytes(data: bytes) -> None:
    """What the agent wraps, this unwraps."""
    assert _parse(output=data.decode("utf-8", "surrogateescape")) == Output(data=data)


@given(line=st.binary() | _json.map(lambda value: json.dumps(value).encode()))
def test_nonsense_is_left_out(line: bytes) -> None:
    """No line raises."""
    parse_line(line)


@given(field=st.sampled_from(sorted(_FINISHED)), value=_json, missing=st.booleans())
def test_an_event_with_one_field_wrong(field: str, value: Any, missing: bool) -> None:
    """It is a proper event or none at all."""
    event = {**_FINISHED, field: value}
    if missing:
        del event[field]
    parsed = _parse(event=event)
    if isinstance(parsed, Finished):
        assert isinstance(parsed.result.exit_code, int)
        assert parsed.result.seconds == parsed.result.seconds


@pytest.mark.parametrize("at", [None, [1], [1, 2, 3], [-1, 0], ["a", 0], [True, 0], {"a": 1}])
def test_without_a_position_a_line_is_nothing(at: Any) -> None:
    """It could not be gone on from."""
    assert _parse(at=at, pulse=True) is None


def test_unknown_kinds() -> None:
    """A newer agent may say more: unknown events are left out, an unknown failure is an exit."""
    assert _parse(event={"t": 1, "type": "rebalance"}) is None
    assert _parse(news="x") is None
    finished = _parse(event={**_FINISHED, "failure": "struck by lightning"})
    assert finished.result.failure is Failure.EXIT
