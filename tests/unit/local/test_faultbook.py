"""The book of faults."""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.local.faultbook import FaultBook


def test_first_fitting_fault_happens_as_often_as_said() -> None:
    """Entries are tried in order, patterns are the shell's, and a used-up entry makes room for the next."""
    book = FaultBook()
    book.add("capacity", type="m5.*", zone="*a", count=1, code="first")
    book.add("capacity", type="m*", code="second")
    facts = {"type": "m5.large", "zone": "us-east-1a", "market": "spot"}
    assert [book.take("capacity", **facts)["code"] for _ in range(3)] == ["first", "second", "second"]  # type: ignore[index]
    assert book.take("capacity", type="c5.large", zone="us-east-1a", market="spot") is None
    assert book.take("throttle", action="RunInstances") is None


def test_faults_end_by_themselves_or_when_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault for some seconds is over after them; one without a limit lasts until it is cleared."""
    now = [100.0]
    monkeypatch.setattr("snakemake_executor_ec2.local.faultbook.time.monotonic", lambda: now[0])
    book = FaultBook()
    book.add("throttle", action="A", seconds=5)
    kept = book.add("throttle", action="B")
    assert book.take("throttle", action="A") == {}
    now[0] += 5
    assert book.take("throttle", action="A") is None
    assert [entry["id"] for entry in book.entries()] == [kept]
    book.remove(kept)
    assert book.take("throttle", action="B") is None


def test_unknown_faults_are_refused() -> None:
    """A misspelt fault is an error, not one that never happens."""
    with pytest.raises(ValueError, match="there are capacity, "):
        FaultBook().add("capacities")
