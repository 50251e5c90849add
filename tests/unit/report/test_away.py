"""Sentences about a whole run on a machine of its own."""

from __future__ import annotations

from snakemake_executor_ec2.report import away as told

_DAY_S = 86400.0


def test_a_start_says_what_the_budget_leaves_for_jobs() -> None:
    """Otherwise the controller's machine is paid, and finds that no job may cost anything."""
    said = told.intended("m7a.medium", 0.05, 3 * _DAY_S, _DAY_S, 5.0)
    assert "--ec2-max-cost leaves $1.40 for them" in said
    assert "leaves $0.0000 for them" in told.intended("m7a.medium", 0.05, 3 * _DAY_S, _DAY_S, 2.0)
    assert "--ec2-max-cost" not in told.intended("m7a.medium", 0.05, 3 * _DAY_S, _DAY_S, None)


def test_a_machine_that_costs_too_much_is_the_controllers() -> None:
    """Its runtime is no rule's."""
    said = told.no_machine("it would cost an estimated $5.00, more than --ec2-max-cost 1", 3 * _DAY_S)
    assert "--lifetime (72 hours)" in said


def test_the_end_says_whether_the_machine_waits() -> None:
    """And costs money: only after a failure must it be ended by hand."""
    assert "`away stop` ends it" in told.attached_to_its_end(1)
    assert "ends the machine" in told.attached_to_its_end(0)
